"""docs/how-to/on-demand.md, executed: its clients and shell lines against the real API server, its rule by S3's events.

A server emulates Amazon MWAA: it passes `InvokeRestApi` to that Airflow and rejects what the service's model
does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from local.config import ROOT, works
from local.seed import ACCOUNT
from tests.airflow_up import DAG_ID, Up, wait_until

from .conftest import Started

pytestmark = pytest.mark.airflow

DOCUMENT = (ROOT / "docs" / "how-to" / "on-demand.md").read_text(encoding="utf-8")
FOLDER = ROOT / "docs" / "how-to" / "on_demand"
#: Each block of the document by the comment above it, and each file that the document links to by its name.
BLOCKS = dict(re.findall(r"<!-- (.+?) -->\n```\w+\n(.*?)```", DOCUMENT, re.DOTALL))
FILES = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")}
ENVIRONMENT = "cohort-flywheel"
needs_aws = pytest.mark.skipif(
    not works("aws"), reason="the AWS CLI is not here: the document's lines of it were not executed"
)
#: An extract as the first post writes it, on one line: two at risk, one of them twice, and one who is not.
RECORDS = [
    {"playerId": ["xortiz"], "ea_atrisk": [3]},
    {"playerId": ["wayne96"], "ea_atrisk": [3]},
    {"playerId": ["wayne96"], "ea_atrisk": [7]},
    {"playerId": ["msmith"], "ea_atrisk": [1]},
]


@pytest.fixture(scope="module", autouse=True)
def scheduled(up: Up, started: Started) -> None:
    """The day's own run has ended, whose names the document's examples have as well."""
    wait_until(lambda: bool(up.runs(run_type="scheduled")), "the DAG, once switched on, has a scheduled run", up)
    up.end(up.runs(run_type="scheduled")[0]["dag_run_id"])


@pytest.fixture(scope="module")
def mwaa(up: Up) -> Iterator[str]:
    """InvokeRestApi of one environment: POST /restapi/{Name} [botocore: mwaa, 2020-07-01]."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == f"/restapi/{ENVIRONMENT}"
            assert self.headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if len(request["Path"]) > 64:
                return self.answer(400, "ValidationException", {"message": "Path"})
            answer = up.rest(request["Method"], request["Path"], request.get("Body"))
            body = {"RestApiStatusCode": answer.status_code, "RestApiResponse": answer.json()}
            return self.answer(200, "", body) if answer.is_success else self.answer(400, "RestApiClientException", body)

        def answer(self, status: int, error: str, body: Any) -> None:
            payload = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            if error:
                self.send_header("x-amzn-ErrorType", error)
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def environ(up: Up, mwaa: str) -> dict[str, str]:
    """What the document has its reader set, and where the laptop's AWS is."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "no_proxy": "127.0.0.1",
        "AIRFLOW_URL": up.url,
        "AIRFLOW_USER": "admin",
        "AIRFLOW_PASSWORD": "any, as `make up` asks for none",
        "MWAA_ENVIRONMENT": ENVIRONMENT,
        "STATE_BUCKET": up.config.state_bucket,
        "EXPORT_BUCKET": up.config.export_bucket,
        "AWS_ENDPOINT_URL": up.servers.aws_url,
        "AWS_ENDPOINT_URL_MWAA": mwaa,
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",  # env.127.0.0.1 is not a host
        "AWS_DEFAULT_REGION": up.config.region,
        "AWS_ACCESS_KEY_ID": up.config.access_key_id,
        "AWS_SECRET_ACCESS_KEY": up.config.secret_access_key,
    }


@pytest.fixture
def execute(environ: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Executes a block: a script with its arguments, or shell lines with more variables."""

    def run(name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        if name in FILES:
            command = [sys.executable, str(FOLDER / name), *arguments]
        else:  # the shell's lines as a reader pastes them, but stopping where one fails
            command = ["bash", "-euo", "pipefail", "-c", BLOCKS[name]]
        for shorter in ("sleep 5", "sleep(5)"):
            command = [part.replace(shorter, shorter.replace("5", "1")) for part in command]
        return subprocess.run(
            command, cwd=tmp_path, env=environ | variables, capture_output=True, text=True, timeout=400, check=False
        )

    return run


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def newest_run(up: Up) -> str:
    run: str = max(up.runs(), key=lambda run: run["run_after"])["dag_run_id"]
    return run


def extract(up: Up, url: str) -> Any:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return json.loads(up.read(bucket, key))


def is_an_extract_and_no_more(up: Up, run_id: str) -> None:
    states = up.tasks(run_id)
    done = {task for task, state in states.items() if state == "success"}
    assert done == {"plan", "extract", "report"}
    assert {state for task, state in states.items() if task not in done} == {"skipped"}
    report = up.report(run_id)
    assert (report["outcome"], report["segment"], report["imported"]) == ("extract only", None, None)


def test_every_block_of_the_document_is_executed_or_read_here() -> None:
    assert len(BLOCKS) == DOCUMENT.count("\n```") // 2, "a block without a name above it"
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in FILES if f"](on_demand/{name})" not in DOCUMENT] == []
    assert [name for name in [*BLOCKS, *FILES] if f'"{name}"' not in source] == []


# --- plain Airflow


def test_the_python_client_gets_the_extract_alone(up: Up, execute: Any) -> None:
    params = {"cohort": "ea_reputation", "threshold": -76, "extract_only": True}
    where = json.loads(succeeded(execute("on_demand.py", json.dumps(params))))
    run_id = newest_run(up)
    assert (where["state"], where["outcome"]) == ("success", "extract only")
    assert where["extract"] == up.report(run_id)["extract"]["url"]
    assert re.search(r"/export/ea_reputation_-76_\d{4}-\d\d-\d\d_00-00-00\.json$", where["extract"])
    assert [record["ea_reputation"][0] < -76 for record in extract(up, where["extract"])] == [True] * 3
    assert (where["segment_file"], where["segment"]) == (None, None)
    is_an_extract_and_no_more(up, run_id)


@pytest.mark.nightly
def test_the_python_client_gets_the_segment(up: Up, execute: Any) -> None:
    where = json.loads(succeeded(execute("on_demand.py", '{"cohort": "ea_reputation", "threshold": -65}')))
    report = up.report(newest_run(up))
    assert where == {
        "state": "success",
        "outcome": "imported",
        "report": where["report"],
        "extract": report["extract"]["url"],
        "segment_file": report["segment"]["url"],
        "segment": report["imported"]["segment_id"],
    }
    assert extract(up, where["report"]) == report


@pytest.mark.nightly
def test_the_python_client_reports_refusals_of_airflow_and_the_plan(up: Up, execute: Any) -> None:
    refused = execute("on_demand.py", '{"cohort": "ea_duty", "extract_uri": "https://here/theirs.json"}')
    assert refused.returncode == 1
    assert "extract_uri" in refused.stderr
    both = {"cohort": "ea_duty", "extract_only": True, "extract_uri": "s3://x/dropped/theirs.json"}
    failed = execute("on_demand.py", json.dumps(both))
    assert failed.returncode == 1
    assert (json.loads(failed.stdout)["state"], json.loads(failed.stdout)["outcome"]) == ("failed", "failed")
    assert "extract_only ends a run at the extract" in up.last_line(newest_run(up), "plan")


@pytest.mark.nightly
def test_the_lines_of_curl(up: Up, execute: Any) -> None:
    said = succeeded(execute("curl"))
    run_id = newest_run(up)
    report = up.report(run_id)
    assert said.splitlines()[0].startswith("success: extract only, s3://")
    assert said.splitlines()[1] == f"extract: {report['extract']['url']}"
    assert {record["playerId"][0] for record in extract(up, report["extract"]["url"])} == {
        "msmith", "wayne96", "xortiz",
    }  # fmt: skip
    is_an_extract_and_no_more(up, run_id)


# --- Amazon MWAA


@pytest.mark.nightly
def test_the_python_client_of_mwaa(up: Up, execute: Any) -> None:
    run_id, params = "crm-2026-11-23", '{"cohort": "ea_mischief", "threshold": 3}'
    where = json.loads(succeeded(execute("on_demand_mwaa.py", run_id, params)))
    report = up.report(run_id)
    assert where == {
        "state": "success",
        "outcome": "imported",
        "extract": report["extract"]["url"],
        "segment_file": report["segment"]["url"],
        "segment": report["imported"]["segment_id"],
    }
    again = execute("on_demand_mwaa.py", run_id, params)
    assert again.returncode == 1
    assert "RestApiClientException" in again.stderr, "409: nothing is started twice"


@pytest.mark.nightly
@needs_aws
def test_the_lines_of_the_aws_cli(up: Up, execute: Any) -> None:
    said = json.loads(succeeded(execute("aws", RUN="crm-by-the-cli")))
    assert said == {
        "outcome": "extract only", "extract": up.report("crm-by-the-cli")["extract"]["url"], "segment": None,
    }  # fmt: skip
    is_an_extract_and_no_more(up, "crm-by-the-cli")


# --- an uploaded extract


@pytest.fixture
def queue(up: Up) -> Iterator[tuple[str, Callable[[], list[Any]]]]:
    """A queue's ARN, and what has come to it since it was last asked; the bucket's configuration is put back."""
    sqs, s3, bucket = up.client("sqs"), up.client("s3"), up.config.export_bucket
    url = sqs.create_queue(QueueName="on-demand")["QueueUrl"]

    def received() -> list[Any]:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in messages]

    yield f"arn:aws:sqs:{up.config.region}:{ACCOUNT}:on-demand", received
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def rule(up: Up, queue: tuple[str, Any]) -> Iterator[None]:
    """The document's rule; the emulated EventBridge hands events to queues, not to functions."""
    events, (target,) = up.client("events"), json.loads(BLOCKS["targets.json"])
    assert target["Arn"].split(":")[2] == "lambda"
    pattern = BLOCKS["rule.json"]
    assert json.loads(pattern)["detail"]["bucket"]["name"] == [up.config.export_bucket]
    events.put_rule(Name="uploaded-extract", EventPattern=pattern)
    events.put_targets(Rule="uploaded-extract", Targets=[target | {"Arn": queue[0]}])
    yield
    events.remove_targets(Rule="uploaded-extract", Ids=[target["Id"]])
    events.delete_rule(Name="uploaded-extract")


@needs_aws
def test_an_uploaded_extract_starts_one_run_and_ours_start_none(
    up: Up, execute: Any, queue: tuple[str, Callable[[], list[Any]]], rule: None,
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    succeeded(execute("eventbridge on"))
    received, s3, bucket = queue[1], up.client("s3"), up.config.export_bucket
    ours = up.trigger({"cohort": "ea_reputation", "threshold": -77, "extract_only": True})
    up.end(ours)
    assert up.report(ours)["extract"]["url"].startswith(f"s3://{bucket}/export/")
    assert received() == []

    body = json.dumps(RECORDS).encode()
    s3.put_object(Bucket=bucket, Key="dropped/ea_atrisk/team-a_1.json", Body=body)
    (event,) = received()
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    function: dict[str, Any] = {}
    exec(compile(FILES["start_a_run.py"], "start_a_run.py", "exec"), function)  # noqa: S102 - the document's own
    before = {run["dag_run_id"] for run in up.runs()}
    function["handler"](event, None)
    function["handler"](event, None)  # EventBridge delivers at least once
    run_id = f"uploaded-{event['id']}"
    assert {run["dag_run_id"] for run in up.runs()} - before == {run_id}

    up.end(run_id)
    report = up.report(run_id)
    assert report["plan"]["extract_uri"] == f"s3://{bucket}/dropped/ea_atrisk/team-a_1.json"
    assert (report["plan"]["source"], report["extract"]["source"], report["outcome"]) == (
        "extract", "extract", "imported",
    )  # fmt: skip
    counted = ("vertices_read", "vertices_not_beyond", "merged", "members", "snapshot_key")
    assert [report["extract"][name] for name in counted] == [4, 1, 1, 2, None]
    name = f"ea_atrisk_2_{report['plan']['as_of'][:10]}_00-00-00_extract_{hashlib.sha256(body).hexdigest()[:16]}"
    assert report["extract"]["url"] == f"s3://{up.config.state_bucket}/staged/{name}.json"
    segment = up.client("pinpoint").get_segment(
        ApplicationId=up.application_id, SegmentId=report["imported"]["segment_id"]
    )["SegmentResponse"]
    assert (segment["Name"], segment["ImportDefinition"]["Size"]) == (name, 2)
    assert report["imported"]["result_key"] is None
    assert [key for key in up.keys(up.config.state_bucket, "results/") if "extract" in key] == []
    assert received() == [], "our copy, and all that the run wrote, send no event"


@needs_aws
def test_the_posts_lambda_is_disconnected_and_the_others_stay(
    up: Up, execute: Any, queue: tuple[str, Callable[[], list[Any]]], rule: None
) -> None:
    s3, bucket, received = up.client("s3"), up.config.export_bucket, queue[1]
    arn = f"arn:aws:lambda:{up.config.region}:{ACCOUNT}:function:"
    created = ["s3:ObjectCreated:*"]
    listeners: dict[str, Any] = {
        "LambdaFunctionConfigurations": [
            {"Id": name, "LambdaFunctionArn": arn + name, "Events": created} for name in ("S3TriggerCohortIngest", "x")
        ],
        "QueueConfigurations": [{"Id": "q", "QueueArn": queue[0], "Events": created}],
    }
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=listeners)
    succeeded(execute("disconnect"))
    succeeded(execute("eventbridge on"))
    left = s3.get_bucket_notification_configuration(Bucket=bucket)
    assert [each["LambdaFunctionArn"] for each in left["LambdaFunctionConfigurations"]] == [f"{arn}x"]
    assert [each["QueueArn"] for each in left["QueueConfigurations"]] == [queue[0]]
    received()  # S3's own test event
    s3.put_object(Bucket=bucket, Key="dropped/ea_atrisk/empty.json", Body=b"[]")
    # moto's answer never says that EventBridge is notified; the events do
    assert sorted(event.get("detail-type", "to the queue itself") for event in received()) == [
        "Object Created", "to the queue itself",
    ]  # fmt: skip


@needs_aws
def test_a_bucket_without_notifications_stays_so(
    up: Up, execute: Any, queue: tuple[str, Callable[[], list[Any]]]
) -> None:
    succeeded(execute("disconnect"))
    left = up.client("s3").get_bucket_notification_configuration(Bucket=up.config.export_bucket)
    assert {"LambdaFunctionConfigurations", "QueueConfigurations", "EventBridgeConfiguration"}.isdisjoint(left)


def test_the_form_and_rest_accept_only_an_s3_address(up: Up) -> None:
    for uri in ("dropped/theirs.json", "s3://exports/export/ours.json", "s3://exports/dropped/"):
        body = {"logical_date": None, "conf": {"extract_uri": uri}}
        answer: httpx.Response = up.rest("POST", f"/dags/{DAG_ID}/dagRuns", body)
        assert answer.status_code == 400, answer.text
        assert "extract_uri" in answer.json()["detail"]
