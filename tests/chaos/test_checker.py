"""The checker finds nothing in a sound world, and each violation where the world is broken in one place."""

from __future__ import annotations

import ast
import gzip
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import worlds
from tests.chaos.checker import engagement, kept, mails, results
from tests.chaos.checker.checks import CHECKS, check
from tests.chaos.checker.world import EVENTS, EXPORT, IMPORT, STATE, Approval, No, World
from tests.chaos.worlds import ASKED, MAILED, REPORTED, RUN, WRITTEN, mail, sound, stored


def edit(world: World, key: str, change: Callable[[Any], Any]) -> None:
    """Change an object of JSON in the state bucket."""
    value = json.loads(world.buckets[STATE][key].body)
    change(value)
    world.buckets[STATE][key] = stored(value)


def lost_reject(world: World) -> None:
    world.buckets[STATE][f"{worlds.REJECTS}0000.csv"] = stored("playerId,reason,column\n")


def row_and_reject(world: World) -> None:
    rejects = "playerId,reason,column\nmsmith,opted_out,\nwayne96,opted_out,\n"
    world.buckets[STATE][f"{worlds.REJECTS}0000.csv"] = stored(rejects)


def repeated_row(world: World) -> None:
    world.buckets[IMPORT][f"{worlds.SEGMENT}0000.csv"] = stored(worlds.segment_file(["wayne96", "wayne96"]))


def missing_row(world: World) -> None:
    world.buckets[IMPORT][f"{worlds.SEGMENT}0000.csv"] = stored(worlds.segment_file(["wayne96"]))


def lost_snapshot(world: World) -> None:
    check(world)
    del world.buckets[STATE][worlds.SNAPSHOT]
    world.buckets[STATE] = {key: each for key, each in world.buckets[STATE].items() if not key.startswith("results/")}


def changed_snapshot(world: World) -> None:
    check(world)
    world.buckets[STATE][worlds.SNAPSHOT] = stored('{"other": 1}\n')


def late_ledger(world: World) -> None:
    header = {"name": RUN, "launched_at": (WRITTEN + timedelta(minutes=5)).isoformat()}
    world.buckets[STATE][worlds.LEDGER] = stored(f"{json.dumps(header)}\nwayne96\nxortiz\n")


def kept_twice(world: World) -> None:
    rows = [(f"k{n % 2}", f"mail-{n % 2 + 1}", "Delivery", WRITTEN + timedelta(seconds=2)) for n in range(3)]
    world.buckets[STATE][worlds.PARQUET] = stored(worlds.parquet(rows))


def one_kept(world: World) -> None:
    rows = [("k1", "mail-1", "Delivery", WRITTEN + timedelta(seconds=2))]
    world.buckets[STATE][worlds.PARQUET] = stored(worlds.parquet(rows))


def never_published(world: World) -> None:
    world.buckets[EVENTS][worlds.OBJECT] = stored(worlds.objects_of([worlds.event(1)]))


def read_twice(world: World) -> None:
    later = worlds.AS_OF.replace("00-05", "00-10")
    world.buckets[STATE][f"engagement/manifests/{later}.json"] = stored({"keys": [worlds.OBJECT]})
    world.buckets[STATE][worlds.PARQUET.replace(worlds.AS_OF, later)] = stored(worlds.parquet([]))


def approval_of(by: str, option: str = "Approve", triggered_by: str | None = "ana", at: float = ASKED) -> Any:
    def change(world: World) -> None:
        world.approvals[:] = [Approval(RUN, by, option, at, triggered_by)]

    return change


def no(player: str, at: float) -> Any:
    return lambda world: world.noes.append(No(player, at, "do not contact"))


def erase_wayne(world: World) -> None:
    world.erased.add("wayne96")


BROKEN = [
    ("report sums", lambda w: edit(w, worlds.REPORT, lambda r: r["extract"].update(vertices_read=5)), "read"),
    ("report sums", lambda w: edit(w, worlds.REPORT, lambda r: r["extract"].update(merged=2)), "vertices"),
    ("report sums", lambda w: edit(w, worlds.REPORT, lambda r: r["segment"].update(rows=1)), "members"),
    ("report sums", lambda w: edit(w, worlds.REPORT, lambda r: r["imported"].update(segment_size=1)), "size"),
    ("report sums", lambda w: edit(w, worlds.REPORT, lambda r: r["faults"].append("a sum")), "a fault of its own"),
    ("every player accounted", lost_reject, "a lost reject"),
    ("every player accounted", row_and_reject, "a row that is a reject too"),
    ("result files", repeated_row, "a repeated row"),
    ("result files", missing_row, "a missing row"),
    ("one job per content", lambda w: w.jobs.append(w.jobs[0]), "two jobs"),
    ("membership", lambda w: w.contacts.clear(), "no contact"),
    ("snapshots stay", changed_snapshot, "a changed snapshot"),
    ("snapshots stay", lambda w: w.buckets[STATE].pop(worlds.SNAPSHOT), "a result whose snapshot is gone"),
    ("snapshots stay", lost_snapshot, "a lost snapshot"),
    ("snapshots stay",
     lambda w: edit(w, f"results/ea_atrisk/2/{worlds.AS_OF}.json", lambda r: r.update(snapshot="other")),
     "a result of another snapshot"),
    ("mailed once", lambda w: w.mails.append(mail("wayne96")), "a second mail"),
    ("mailed once", lambda w: w.mails.append(mail("wayne96", launch=RUN.replace("_2_", "_1_"))), "mail of another"),
    ("approved", lambda w: w.approvals.clear(), "no answer"),
    ("approved", approval_of("bob"), "an answer of a user who may not approve"),
    ("approved", approval_of("ana"), "an answer of the user who triggered the run"),
    ("approved", approval_of("ann", option="Reject"), "a rejection"),
    ("approved", approval_of("ann", at=MAILED + 1), "an answer after the mail"),
    ("no after a no", no("wayne96", ASKED - 1), "a no before the launch"),
    ("no after a no", no("wayne96", MAILED - mails.BATCH_SECONDS - 1), "a no long before the mail"),
    ("in a ledger", late_ledger, "a ledger after the mail"),
    ("in a ledger", lambda w: w.buckets[STATE].pop(worlds.LEDGER), "no ledger"),
    ("launches account", lambda w: w.mails.pop(), "fewer mails than recorded"),
    ("launches account", lambda w: w.mails.append(mail("msmith")), "more mails than recorded"),
    ("events once", kept_twice, "an event kept twice"),
    ("events once", one_kept, "an event that is missing"),
    ("events once", never_published, "an event that was never published"),
    ("events once", read_twice, "an object read by two as-ofs"),
    ("messages counted",
     lambda w: edit(w, f"engagement/reports/{worlds.AS_OF}.json", lambda r: r["launches"][RUN].update(messages=1)),
     "another count"),
    ("nothing left", lambda w: w.buckets[STATE].update({"staged/left": stored("")}), "an unknown object"),
    ("nothing left", lambda w: w.buckets[EXPORT].update({f"export/{RUN}.json.tmp": stored("")}), "a temporary object"),
    ("erased stay out", erase_wayne, "an erased player in files"),
    ("no personal data", lambda w: w.texts.append(("a.log", '{"event": "mailing wayne96"}')), "a playerId in a log"),
    ("no personal data", lambda w: w.texts.append(("a.log", worlds.address("msmith").upper())), "an address in a log"),
]  # fmt: skip


def test_a_sound_world_has_no_violation() -> None:
    assert check(sound()) == []
    assert results.compared(sound()) == 1


@pytest.mark.parametrize(
    ("invariant", "change"), [pytest.param(*each[:2], id=f"{each[0]}: {each[2]}") for each in BROKEN]
)
def test_each_violation_is_found(invariant: str, change: Callable[[World], object]) -> None:
    world = sound()
    change(world)
    found = check(world)
    assert invariant in {each.invariant for each in found}
    assert all(each.sentence for each in found)


def test_each_invariant_has_a_test() -> None:
    tested = {invariant.replace("no after a no", "no after no").replace(" ", "_") for invariant, *_ in BROKEN}
    assert {invariant.__name__ for invariant in CHECKS} == {name.replace("in_a_", "in_a_") for name in tested}


@pytest.mark.parametrize("path", sorted(Path(kept.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_the_checker_shares_no_code_with_the_package(path: Path) -> None:
    imports = [
        each for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if "Import" in type(each).__name__
    ]
    assert not [each for each in imports if "cohort_flywheel" in ast.dump(each)]


def test_what_is_no_violation() -> None:
    """A no after the launch, a job that failed, mails for test addresses, a file that was written after its report."""
    world = sound()
    world.noes.append(No("wayne96", ASKED + 1, "do not contact"))
    world.jobs.append(world.jobs[0] | {"JobStatus": "FAILED"})
    world.jobs.append(world.jobs[0] | {"FailedRecordsCount": 1})
    world.mails.append(mail("qa") | {"to": ["qa@studio.example"], "tags": []})
    world.buckets[STATE][f"{worlds.REJECTS}0000.csv"] = stored(
        "playerId,reason,column\n", REPORTED + timedelta(minutes=1)
    )
    assert check(world) == []
    assert results.compared(world) == 0


def test_an_erased_player_may_be_missing() -> None:
    world = sound()
    world.erased.add("wayne96")
    world.contacts.discard(worlds.address("wayne96"))
    for bucket in (EXPORT, STATE):
        for key, each in list(world.buckets[bucket].items()):
            world.buckets[bucket][key] = each._replace(body=each.body.replace(b"wayne96", b""))
    world.buckets[IMPORT][f"{worlds.SEGMENT}0000.csv"] = stored(worlds.segment_file(["xortiz"]))
    found = {each.invariant for each in check(world)}
    assert found == set()


def test_short_playerids_are_no_leak() -> None:
    assert kept.leaks("the editor of dito", {"wayne96"}, {"a@b.example"}) == []
    assert kept.leaks("wayne96@x A@B.example", {"wayne96"}, {"a@b.example"}) == ["wayne96", "a@b.example"]


def test_events_are_read_from_damaged_objects() -> None:
    whole = worlds.event(1)
    body = json.dumps(whole) + json.dumps(worlds.event(2)) + '\n{"eventType":"Open","mail":{"times\n'
    found = list(engagement.events_of(stored(gzip.compress(body.encode()))))
    assert [each.message_id for each in found] == ["mail-1", "mail-2"]
