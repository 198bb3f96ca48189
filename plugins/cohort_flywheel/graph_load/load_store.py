"""The records of a load in the state bucket, and the loader's error messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.errors import Code
from cohort_flywheel.graph_load.load_record import LoadRecord
from cohort_flywheel.hooks.s3 import S3Hook, get_json, put_if, put_json
from cohort_flywheel.runs import names


class LoadStore:
    """Read and write the records of one task's load.

    :param s3: the S3 hook.
    :param bucket: the state bucket.
    :param folder: the folder of the load.
    """

    def __init__(self, s3: S3Hook, bucket: str, folder: str) -> None:
        self._s3, self._bucket, self._folder = s3, bucket, folder
        self._etags: dict[str, str] = {}

    def read(self, uri: str) -> LoadRecord | None:
        """The record of a file, or None."""
        found = get_json(self._s3, self._bucket, names.load_record_key(self._folder, uri))
        if found is None:
            return None
        self._etags[uri] = found[1]
        return LoadRecord.model_validate(found[0])

    def write(self, record: LoadRecord) -> None:
        """Write a record over the one that was read; raise RetryableError if another attempt was faster."""
        key, etag = names.load_record_key(self._folder, record.source), self._etags.get(record.source)
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        value = record.model_dump(mode="json")
        put = put_json(self._s3, self._bucket, key, value, **condition)
        found = get_json(self._s3, self._bucket, key)
        if found is None or (not put and found[0] != value):  # equal: the answer to an earlier try was lost
            raise RetryableError(
                f"another attempt of this task has changed s3://{self._bucket}/{key}: a later try goes on from it",
                Code.BUSY,
            )
        self._etags[record.source] = found[1]

    def put_errors(self, uri: str, load_id: str, errors: Iterable[Mapping[str, object]], path: Path) -> str:
        """Put the error log of a job, one JSON object per line; return its address."""
        with path.open("w", encoding="utf-8") as file:
            for error in errors:
                file.write(json.dumps(error) + "\n")
        key = names.load_errors_key(self._folder, uri, load_id)
        put_if(self._s3, self._bucket, key, path)
        return f"s3://{self._bucket}/{key}"
