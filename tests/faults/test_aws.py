"""A kept endpoint is continued in several processes at once, which must not share the position in a file."""

from __future__ import annotations

from pathlib import Path

import boto3

from tests.faults import aws
from tests.faults.aws import Endpoint

BODY = b"0123456789" * 2_000


def test_objects_of_a_kept_endpoint_are_in_no_file() -> None:
    with aws.started(1_795_361_460.0) as (endpoint, kept):
        s3 = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{endpoint.port}", region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="key", Body=BODY)
        endpoint.keep(kept / "task")
        continued = [Endpoint(kept / "task") for _ in range(2)]
        try:
            for each in (endpoint, *continued):
                assert each.objects() == {("bucket", "key"): BODY}
                files = [path for path in Path(f"/proc/{each.pid}/fd").iterdir() if int(path.name) > 2]
                assert not [path for path in files if str(path.readlink()).endswith("(deleted)")]
        finally:
            for each in continued:
                each.close()
