"""The DAG `engagement` with `write_graph`: a day of events after another one, in the state bucket and in the graph.

Since the day before, a player was erased, and another one deleted by the modeler's API; a third has two vertices.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cohort_flywheel.campaign.mail_tags import launch_tag
from cohort_flywheel.engagement.event_objects import GRAPH_NAMES_KEY, LIST_STATE_KEY, report_key
from cohort_flywheel.engagement.graph_values import GraphNames, campaign_id
from cohort_flywheel.governance.tombstones_store import put_tombstones
from cohort_flywheel.hooks.s3 import S3Hook
from local import seed
from local.config import Config
from local.seed import Seeded
from local.servers import Servers, control
from tests.cohort_flywheel.engagement.effect_launches import Launches
from tests.cohort_flywheel.engagement.event_days import NEWEST
from tests.cohort_flywheel.engagement.ses_events import ADDRESS, event, line, mail
from tests.faults.aws import Endpoint
from tests.faults.leftovers import Leftovers, Place
from tests.faults.simulate import Run
from tests.faults.sites import Case

if TYPE_CHECKING:
    from tests.faults.engagement_world import GraphWorld
    from tests.faults.harness import World

DESTINATION = "ses"
CONF: dict[str, Any] = {}
HOLDOUT_PERCENT = 0
#: What else the registry says.
REGISTRY = {
    "engagement: {read_events: true}": "engagement: {read_events: true, write_graph: true, graph_edges: all,"
    " graph_keep_days: 3}"
}
ONE, TWO, GONE, THREE, ERASED = PLAYERS = [f"player-{number}" for number in (4711, 4712, 4713, 4714, 4715)]
PERSONAL = (*PLAYERS, ADDRESS)
#: A name that the registry has since today, so that `plan` looks for it in the graph.
NEW_NAME = GraphNames().opens
#: The players' vertices.
VERTICES = {"v-one": ONE, "v-two": TWO, "v-two-again": TWO, "v-gone": GONE, "v-three": THREE, "v-erased": ERASED}
LAUNCHED = NEWEST - timedelta(days=2)
LAUNCH = f"ea_atrisk_2_{LAUNCHED:%Y-%m-%d_%H-%M-%S}"
_BATCH = f"launches/{LAUNCH}/000000_1"
DANGEROUS = (
    "read_events: s3 PutObject #1 × killed after",  # the manifest
    "write_graph: graph traversal #5 × killed after",
    "write_graph: graph traversal #8 × cut mid-batch",
    "write_graph: graph traversal #11 × killed before",
)


def world(
    servers: Servers, config: Config, folder: Path, endpoint: Endpoint, kept: Path
) -> AbstractContextManager[World]:
    from tests.faults.engagement_world import graph_world  # which needs this package

    return graph_world(servers, config, folder, "engagement", endpoint, kept)


def now(days: int) -> datetime:
    """The time of the run of so many days ago."""
    return NEWEST + timedelta(hours=15, minutes=30) - timedelta(days=days)


def make(servers: Servers, config: Config) -> Seeded:
    s3, ses = seed.client("s3", servers, config), seed.client("sesv2", servers, config)
    seed.make_contact_list(servers, config)
    s3.delete_object(Bucket=config.state_bucket, Key=LIST_STATE_KEY)  # the run of the day before writes it
    ses.put_suppressed_destination(EmailAddress="other@example.com", Reason="BOUNCE")
    s3.create_bucket(Bucket=event_bucket(config))
    for hours, contents in _EVENTS.items():
        key = f"{NEWEST - timedelta(hours=hours):events/%Y/%m/%d/%H}/stream-1-a.gz"
        s3.put_object(Bucket=event_bucket(config), Key=key, Body=gzip.compress(contents))
    records = {
        f"{_BATCH}.intents.json": {"player_ids": PLAYERS, "withdrawn": {}, "try": "a"},
        f"{_BATCH}.outcome.json": {"in_doubt": [THREE], "sent": 4},
    }
    for key, record in records.items():
        s3.put_object(Bucket=config.state_bucket, Key=key, Body=json.dumps(record).encode())
    s3.put_object(Bucket=config.state_bucket, Key=f"launches/{LAUNCH}/in_doubt.txt", Body=f"{THREE}\n".encode())
    return Seeded("none", "none", "none", "none")


def event_bucket(config: Config) -> str:
    return f"{config.state_bucket}-events"


def _of(row: int, *kinds: str, days: float = 1.5, **about: Any) -> bytes:
    at = NEWEST - timedelta(days=days)
    of = mail(f"m{row}", launch=launch_tag(LAUNCH), row=f"0-1-{row}", timestamp=f"{LAUNCHED:%Y-%m-%dT10:00:00.000Z}")
    return line(*(event(kind, of, timestamp=f"{at:%Y-%m-%dT%H:%M:%S.000Z}", **about) for kind in kinds))


#: The objects of both days, by the hours before the newest as-of.
_EVENTS = {
    30: _of(0, "Send", "Delivery", "Click") + _of(3, "Delivery") + _of(4, "Delivery", "Click") + _of(2, "Open"),
    20: _of(1, "Delivery", "Click", days=0.8) + _of(2, "Click", days=0.8) + _of(0, "Open", days=0.8) + b"rubbish\n",
    3: _of(0, "Bounce", days=0.2) + _of(1, "Complaint", days=0.2) + _of(3, "Subscription", days=0.2)
    + line(event("Send", mail("other", launch="unknown"))),
}  # fmt: skip


def history(world: GraphWorld, servers: Servers) -> None:
    """What the day before has left, and what has changed since."""
    config, graph = world.config, world.graph
    vertices = {vertex: ["player", {"playerId": [player], "ea_atrisk": [3]}] for vertex, player in VERTICES.items()}
    graph.put({"vertices": vertices, "edges": {}})
    s3 = seed.client("s3", servers, config)
    launches = Launches(SimpleNamespace(s3=s3, state=config.state_bucket), world.folder)  # type: ignore[arg-type]  # it takes no more of the bucket of events
    launches.launch(PLAYERS, [f"held-out-{number}" for number in range(4)], as_of=LAUNCHED, effect_days=2)
    for days, score in ((2, 3.0), (0, 5.0)):
        launches.snapshot(NEWEST - timedelta(days=days), dict.fromkeys(PLAYERS, score))
    world.run_days_ago(servers, 1)
    put_tombstones(S3Hook(), config.state_bucket, [ERASED])
    names = {"names": sorted({*GraphNames().all(), "eng_earlier"} - {NEW_NAME})}
    s3.put_object(Bucket=config.state_bucket, Key=GRAPH_NAMES_KEY, Body=json.dumps(names).encode())
    for traversal in (
        "g.V('v-gone').drop()",
        f"g.V().properties('{NEW_NAME}').drop()",
        "g.V('v-three').property(single,'eng_earlier',1)",
        "g.addV('campaign').property(id,'eng-campaign-old').property('eng_launch','old')",
        "g.addE('eng_clicked').from(__.V('v-one')).to(__.V('eng-campaign-old')).property(id,'eng-edge-old')",
    ):
        graph.run(traversal)


def check(run: Run, left: Leftovers) -> None:
    """The undisturbed run did all that a fault may disturb."""
    written = run.outputs["write_graph"]
    for name in ("properties", "without_vertex", "erased", "campaigns", "campaigns_removed", "edges"):
        assert written[name], f"the recorded run has no {name}: {written}"
    assert run.outputs["measure_effect"]["measured"], run.outputs["measure_effect"]
    graph = left.there["graph"]
    assert graph["vertices"].keys() == VERTICES.keys() - {"v-gone"} | {campaign_id(launch_tag(LAUNCH))}
    assert not any(name.startswith("eng_") for name in graph["vertices"]["v-erased"][1])
    assert any(key == report_key(NEWEST) for _, key in left.objects)


def settle(servers: Servers, case: Case | None) -> None:
    """Nothing takes time here."""


def there(servers: Servers) -> dict[str, Any]:
    return {"accounts": control(servers, "sesv2")["accounts"]}


def comparable(objects: dict[Place, bytes], left: Leftovers) -> dict[Place, bytes]:
    """All of them: the same events give the same bytes."""
    return objects


def differences(undisturbed: Leftovers, left: Leftovers, case: Case | None) -> Iterator[str]:
    wanted, graph = undisturbed.there["graph"], left.there["graph"]
    if more := graph["vertices"].keys() - wanted["vertices"].keys():
        yield f"vertices were created: {sorted(more)}"
    for kind in ("vertices", "edges"):
        if graph[kind] != wanted[kind]:
            yield f"the graph has other {kind}"
