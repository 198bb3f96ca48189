"""The trigger and the sensor of a load job: when they fire, what they say, and that a killed task cancels its job."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from botocore.auth import SigV4Auth

from cohort_flywheel.graph_load.hook import NeptuneLoaderHook
from cohort_flywheel.graph_load.sensors import NeptuneBulkLoadSensor
from cohort_flywheel.graph_load.triggers import NeptuneBulkLoadTrigger
from tests.local.neptune_loader_service import Loader

PLAYERS = "~id,~label\np1,player\n"


@pytest.fixture
def started(airflow_env: dict[str, str], loader: Loader) -> Any:
    """Starts a job; gives its ID."""

    def start(text: str = PLAYERS, *, held: bool = False) -> str:
        loader.control(load_seconds=1000 if held else 0)
        source = loader.put("players.csv", text)
        return NeptuneLoaderHook().start(
            {"source": source, "format": "csv", "iamRoleArn": loader.role_arn, "s3BucketRegion": "us-east-1"}
        )

    return start


def fired(trigger: Any) -> dict[str, Any]:
    """Run a trigger as the triggerer does, from its serialized form, until it fires."""
    _, arguments = trigger.serialize()
    json.dumps(arguments)

    async def first() -> dict[str, Any]:
        async for event in NeptuneBulkLoadTrigger(**arguments).run():
            return dict(event.payload)
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(asyncio.wait_for(first(), 60))


def sensor(load_id: str, **arguments: Any) -> NeptuneBulkLoadSensor:
    defaults: dict[str, Any] = {"poke_interval": 1, "max_attempts": 30, "deferrable": True}
    return NeptuneBulkLoadSensor(task_id="wait", load_id=load_id, **(defaults | arguments))


def test_the_sensor_defers_until_the_job_has_completed(started: Any, loader: Loader) -> None:
    loader.control(held="yes")
    waiting = sensor(started())
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute({})
    loader.control(held="no")
    event = fired(deferred.value.trigger)
    assert (event["status"], event["load_id"]) == ("success", waiting.load_id)
    waiting.execute_complete({}, event)


def test_a_failed_job_fires_at_once_and_fails_the_sensor(started: Any) -> None:
    load_id = started("~id,~label,n:Int\np1,player,many\n")
    event = fired(NeptuneBulkLoadTrigger(load_id=load_id, neptune_conn_id="neptune_default", waiter_delay=1))
    assert event["status"] == "error"
    assert "many" not in str(event)
    with pytest.raises(AirflowFailException, match=r"^CF-LOAD-06: load job .* ended as LOAD_FAILED, with 1 errors"):
        sensor(load_id).execute_complete({}, event)


def test_the_sensor_may_wait_on_a_worker(started: Any) -> None:
    sensor(started(), deferrable=False).execute({})
    with pytest.raises(AirflowFailException, match=r"^CF-LOAD-06: the loader knows no load job unknown"):
        sensor("unknown", deferrable=False).execute({})


@pytest.mark.parametrize("cancels", [True, False])
def test_a_killed_task_cancels_its_job_if_it_is_to(cancels: bool, started: Any, loader: Loader) -> None:
    load_id = started(held=True)
    trigger = NeptuneBulkLoadTrigger(load_id=load_id, neptune_conn_id="neptune_default", cancel_on_kill=cancels)
    asyncio.run(trigger.on_kill())
    (job,) = loader.jobs()
    assert (job["status"] == "LOAD_CANCELLED_BY_USER") is cancels
    asyncio.run(trigger.on_kill())  # twice does no harm


def test_a_job_that_cannot_be_cancelled_is_told(
    started: Any, loader: Loader, capfd: pytest.CaptureFixture[str]
) -> None:
    load_id = started(held=True)
    loader.control(endpoint="reader")
    trigger = NeptuneBulkLoadTrigger(load_id=load_id, neptune_conn_id="neptune_default", cancel_on_kill=True)
    asyncio.run(trigger.on_kill())
    assert f"Load job {load_id} could not be cancelled (BadRequestException)" in capfd.readouterr().out


def test_a_tunnel_is_signed_for_the_cluster(
    airflow_env: dict[str, str], loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.control(iam="on")
    port = loader.servers.aws_port
    extra = {"iam": True, "signed_host": "cluster.example:8182"}
    connection = {"conn_type": "gremlin", "host": "127.0.0.1", "port": port, "schema": "ws", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_NEPTUNE_DEFAULT", json.dumps(connection))
    seen: list[str] = []
    hook = NeptuneLoaderHook()
    hook.conn.meta.events.register("before-send.neptunedata", lambda request, **_: seen.append(request.headers["Host"]))
    assert hook.job_ids() == []
    assert [host if isinstance(host, str) else host.decode() for host in seen] == ["cluster.example:8182"]


def test_each_client_of_a_tunnel_signs_one_host_and_no_other_connection_signs_it(
    airflow_env: dict[str, str], loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hooks of an AWS connection have one session."""
    loader.control(iam="on")
    port = loader.servers.aws_port
    for name, extra in (("TUNNEL", {"signed_host": "cluster.example:8182"}), ("DIRECT", {})):
        connection = {"conn_type": "gremlin", "host": "127.0.0.1", "port": port, "schema": "ws"}
        connection["extra"] = {"iam": True} | extra
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
    signed: list[str] = []
    canonical = SigV4Auth.canonical_headers

    def noted(self: SigV4Auth, headers: Any) -> str:
        text: str = canonical(self, headers)
        signed.append(text.partition("\n")[0])
        return text

    monkeypatch.setattr(SigV4Auth, "canonical_headers", noted)
    for name in ("tunnel", "tunnel", "direct"):
        hook = NeptuneLoaderHook(neptune_conn_id=name)
        hook.get_client_type()
        assert hook.job_ids() == []
    assert signed == ["host:cluster.example:8182", "host:cluster.example:8182", f"host:127.0.0.1:{port}"]
