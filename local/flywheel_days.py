"""The three days of `make flywheel`: runs of the real DAGs, and what SES, readers and players do between them.

`local/flywheel.py` starts it as a process of its own, with the settings of an Airflow in its environment, while the
servers start; it reads the servers' settings from a line of standard input. What became true outside the DAGs goes to
the folder `truth`: the events of the emulated SES, and the scores by a seeded rule.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import urllib.request
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gremlin_python.driver.driver_remote_connection import DriverRemoteConnection
from gremlin_python.driver.serializer import GraphBinarySerializersV1
from gremlin_python.process.anonymous_traversal import traversal
from gremlin_python.process.traversal import Cardinality

from local import sample
from local.aws_sessions import shared
from local.config import TOPIC, LocalError
from local.dag_runs import DagRun, load_dags

DAY_1 = datetime(2026, 11, 20, tzinfo=UTC)
DAYS = (DAY_1, DAY_1 + timedelta(days=1), DAY_1 + timedelta(days=2))
COHORT, CLICKED = "ea_atrisk", "clicked"
PRODUCER, APPROVER = "ana", "ann"

#: Of a hundred players the e-mail reaches, so many score one less the next day, and so many one more; and of others.
REACHED, OTHERS = (40, 5), (15, 12)
#: Of a hundred players the e-mail reaches, so many unsubscribe.
UNSUBSCRIBE = 4


def main() -> int:
    """Run the three days; return 1 if a task failed."""
    said = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # logs go to standard error
    for place, name, value in shared():
        setattr(place, name, value)
    sys.path.insert(0, os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"])
    dags = load_dags(Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]))
    request = json.loads(sys.stdin.readline())
    os.environ.update(request["environment"])
    connection = DriverRemoteConnection(request["gremlin_url"], "g", message_serializer=GraphBinarySerializersV1())
    with closing(connection):
        world = World(traversal().with_(connection), request["aws_url"], Path(request["truth"]))
        try:
            _turn(dags, world, request["event_bucket"], lambda text: print(text, file=said, flush=True))
        except LocalError as error:
            print(f"ERROR {error}", file=said, flush=True)
            return 1
    return 0


def _turn(dags: dict[str, Any], world: World, event_bucket: str, say: Callable[[str], None]) -> None:
    one, two, three = DAYS
    world.tell(template_seconds=0, max_send_rate=10_000, import_seconds=0)
    say(f"day 1, {one:%Y-%m-%d}: {COHORT} becomes a segment; {APPROVER} approves its launch; SES mails it ...")
    launch = DagRun(dags["cohort_to_segment"], one, {"cohort": COHORT, "campaign": "launch"}, PRODUCER, APPROVER)
    world.tell(mailed_at=(one + timedelta(hours=10)).timestamp())
    _day(dags, one, launch, one + timedelta(hours=9), say)
    say("  readers open, click, complain and unsubscribe; the scores of the players change ...")
    world.tell(mailed_at=(one + timedelta(hours=18)).timestamp())
    world.unsubscribe()
    _arrive(world, event_bucket, one + timedelta(hours=20), late=True)
    world.keep_events("events_by_day_2.json")
    world.change_scores()

    say(f"day 2, {two:%Y-%m-%d}: the events are read, addresses suppressed, the graph learns ...")
    _day(dags, two, DagRun(dags["cohort_to_segment"], two), two + timedelta(minutes=5), say)
    _arrive(world, event_bucket, two + timedelta(hours=5), late=False)
    world.keep_events("events.json")

    say(f"day 3, {three:%Y-%m-%d}: late events are read; those who clicked become a segment; the effect is there ...")
    _day(dags, three, DagRun(dags[f"cohort_to_segment__{CLICKED}"], three), three + timedelta(minutes=5), say)


def _day(dags: dict[str, Any], as_of: datetime, run: DagRun, now: datetime, say: Callable[[str], None]) -> None:
    """Run the DAG engagement and another as their schedules do: the graph is written after the day's snapshots."""
    engagement = DagRun(dags["engagement"], as_of)
    say("  engagement: plan, read_events, update_suppressions")
    engagement.go(as_of + timedelta(minutes=2), until="update_suppressions")
    say(f"  {run.dag.dag_id}")
    run.go(now)
    say("  engagement: write_graph, measure_effect, report")
    engagement.go(now + timedelta(minutes=30))


def _arrive(world: World, bucket: str, arrived: datetime, *, late: bool) -> None:
    """Have Data Firehose write the events; with late, some of them the next time, and with its faults."""
    world.tell(write_events={"bucket": bucket, "arrived": arrived.isoformat(), "late": late, "faults": late})


class World:
    """What happens outside the DAGs, by a seeded rule.

    :param g: the graph.
    :param truth: the folder in which the truth is kept.
    """

    def __init__(self, g: Any, aws_url: str, truth: Path) -> None:
        self._g, self._url, self._truth = g, f"{aws_url}/cohort-flywheel/sesv2", truth
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        truth.mkdir(parents=True, exist_ok=True)

    def tell(self, **settings: Any) -> None:
        """Change the emulated SES."""
        request = urllib.request.Request(self._url, data=json.dumps(settings).encode())  # noqa: S310 - our own server
        self._opener.open(request, timeout=60).close()

    def keep_events(self, name: str) -> None:
        """Keep the events that Data Firehose has written."""
        events, late = self._events()
        on_time = [each for each in events if each not in late]
        (self._truth / name).write_text(json.dumps(on_time), encoding="utf-8")

    def unsubscribe(self) -> None:
        """Some readers unsubscribe by the link of their e-mail."""
        reached = self._reached()
        players = [player for player in sorted(reached) if _drawn("unsubscribe", player) < UNSUBSCRIBE]
        self.tell(unsubscribe=[{"EmailAddress": reached[player], "TopicName": TOPIC} for player in players])

    def change_scores(self) -> None:
        """Change the score of some players by one; more become less where the e-mail came."""
        reached, by_score = self._reached(), dict[int, list[str]]()
        before, after = dict[str, int](), dict[str, int]()
        for each in sample.players():
            player, score = str(each["playerId"]), int(each[COHORT])
            less, more = REACHED if player in reached else OTHERS
            drawn = _drawn("score", player)
            now = score if not score else score - 1 if drawn < less else score + 1 if drawn >= 100 - more else score
            if now != score:
                by_score.setdefault(now, []).append(str(each["~id"]))
            before[player] = max(before.get(player, 0), score)
            after[player] = max(after.get(player, 0), now)
        for score, vertices in sorted(by_score.items()):
            self._g.V(*vertices).property(Cardinality.single, COHORT, score).count().next()
        (self._truth / "scores.json").write_text(json.dumps({"day 1": before, "day 2": after}), encoding="utf-8")

    def _events(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        with self._opener.open(self._url, timeout=60) as answer:
            accounts = json.load(answer)["accounts"]
        return [e for each in accounts for e in each["events"]], [e for each in accounts for e in each["late_events"]]

    def _reached(self) -> dict[str, str]:
        """The addresses of the players with a delivered e-mail."""
        events, _ = self._events()
        return {player_of(each): address_of(each) for each in events if each["eventType"] == "Delivery"}


def address_of(event: dict[str, Any]) -> str:
    """Return the one recipient of an e-mail."""
    (address,) = event["mail"]["destination"]
    return str(address)


def player_of(event: dict[str, Any]) -> str:
    """Return the player of an event: the sample's addresses have the playerId after the +."""
    return address_of(event).partition("@")[0].partition("+")[2]


def _drawn(what: str, player: str) -> int:
    """A number from 0 to 99 that depends on the player alone."""
    digest = hashlib.sha256(f"{sample.SEED} {what} {player}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100


if __name__ == "__main__":
    sys.exit(main())
