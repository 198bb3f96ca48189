"""The checker finds nothing in a sound world, and each violation where the world is broken in one place."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import math
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from moto import mock_aws

from tests.chaos import worlds
from tests.chaos.checker import engagement, kept, mails, results
from tests.chaos.checker.checks import CHECKS, check
from tests.chaos.checker.coverage import Coverage, coverage
from tests.chaos.checker.read import Reader, add_event
from tests.chaos.checker.world import EVENTS, EXPORT, IMPORT, STATE, Approval, No, World
from tests.chaos.history import Event
from tests.chaos.installation import Installation
from tests.chaos.worlds import ASKED, MAILED, REPORTED, RUN, WRITTEN, mail, sound, stored


def edit(world: World, key: str, change: Callable[[Any], Any]) -> None:
    """Change an object of JSON in the state bucket."""
    before = world.buckets[STATE][key]
    value = json.loads(before.body)
    change(value)
    world.buckets[STATE][key] = stored(value, before.modified)


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
    world.erased.add("xortiz")  # whose rows alone may be missing
    world.buckets[STATE][worlds.SNAPSHOT] = stored(worlds.snapshot("msmith", "xortiz"))


def snapshot_written_twice(world: World) -> None:
    world.earlier[worlds.SNAPSHOT] = [stored(worlds.snapshot("msmith", "wayne96", "xortiz"))]


def snapshot_written_before_an_erasure(world: World) -> None:
    """Whose earlier version the erasure has removed."""
    world.erased.add("other")
    world.erasures.append((1000.0, 1010.0))
    world.written[worlds.SNAPSHOT] = [900.0, 950.0, 1005.0]


def snapshot_rewritten(world: World) -> None:
    world.erased.add("other")
    world.earlier[worlds.SNAPSHOT] = [stored(worlds.snapshot("msmith", "wayne96"))]


def another_row_missing(world: World) -> None:
    check(world)
    world.erased.add("msmith")  # a reject: the segment has no row of this player
    missing_row(world)


def another_row(world: World) -> None:
    check(world)
    world.erased.add("xortiz")  # who alone may have left it
    world.buckets[IMPORT][f"{worlds.SEGMENT}0000.csv"] = stored(worlds.segment_file(["wayne96", "msmith"]))


def second_folder(world: World) -> None:
    world.buckets[IMPORT][f"segments/{RUN}_{'b' * 16}/0000.csv"] = world.buckets[IMPORT][f"{worlds.SEGMENT}0000.csv"]


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


def unread_object(world: World) -> None:
    """Which was there eleven minutes before a later manifest was written."""
    world.buckets[EVENTS][worlds.OBJECT.replace("-1.gz", "-2.gz")] = stored(worlds.objects_of([]))
    later = worlds.AS_OF.replace("00-05", "00-15")
    world.buckets[STATE][f"engagement/manifests/{later}.json"] = stored({"keys": []}, WRITTEN + timedelta(minutes=11))
    world.buckets[STATE][worlds.PARQUET.replace(worlds.AS_OF, later)] = stored(worlds.parquet([]))


def manifest_alone(world: World) -> None:
    later = worlds.AS_OF.replace("00-05", "00-10")
    world.buckets[STATE][f"engagement/manifests/{later}.json"] = stored({"keys": []})


def launch_not_reported(world: World) -> None:
    """By a report that has another; a file of events was written after it."""
    edit(world, worlds.ENGAGEMENT, lambda r: r.update(launches={}))
    later = worlds.AS_OF.replace("00-05", "00-10")
    world.buckets[STATE][worlds.PARQUET.replace(worlds.AS_OF, later)] = stored(
        worlds.parquet([]), REPORTED + timedelta(minutes=1)
    )


def before_batch(world: World, seconds: float) -> None:
    """A no after the approval, and so many seconds before the intents of the batch were written."""
    world.approvals[:] = [each._replace(at=ASKED - 1000) for each in world.approvals]
    world.noes.append(No("wayne96", WRITTEN.timestamp() - seconds, "do not contact"))


def approval_of(by: str, option: str = "Approve", triggered_by: str | None = "ana", at: float = ASKED) -> Any:
    def change(world: World) -> None:
        world.approvals[:] = [Approval(RUN, by, option, at, triggered_by)]

    return change


def no(player: str, at: float) -> Any:
    return lambda world: world.noes.append(No(player, at, "do not contact"))


def erase(world: World, player: str) -> None:
    """Erase a player from everything, as an erasure does."""
    world.erased.add(player)
    world.first_erasure = REPORTED.timestamp()
    world.contacts.discard(worlds.address(player))
    others = [each for each in ("msmith", "wayne96", "xortiz") if each != player]
    for bucket in world.buckets.values():
        for key, each in list(bucket.items()):
            bucket[key] = each._replace(body=re.sub(rb"(?m)^.*\b%s\b.*\n" % player.encode(), b"", each.body))
    world.buckets[EXPORT].clear()
    world.buckets[STATE][worlds.SNAPSHOT] = stored(worlds.snapshot(*others))
    rows = ["" if each == player else each for each in ("wayne96", "xortiz")]
    world.buckets[STATE][worlds.INTENTS] = stored({"player_ids": rows, "withdrawn": {}}, REPORTED)


def erased_contact(world: World) -> None:
    erase(world, "wayne96")
    world.contacts.add(worlds.address("wayne96"))


def erased_snapshot(world: World) -> None:
    """Of so many rows that the bytes do not have the name: in fewer they are not compressed."""
    erase(world, "wayne96")
    others = [hashlib.sha256(str(number).encode()).hexdigest()[:12] for number in range(300)]
    body = worlds.snapshot(*others, "wayne96", "xortiz")
    assert b"wayne96" not in body
    world.buckets[STATE][worlds.SNAPSHOT] = stored(body)


def erased_earlier(world: World) -> None:
    erase(world, "wayne96")
    world.earlier[worlds.LEDGER] = [stored("{}\nwayne96\n")]


def erased_vertex(world: World) -> None:
    erase(world, "wayne96")
    world.graph["wayne96"] = {"playerId", "eng_clicks_30d"}


BROKEN = [
    ("report sums", lambda w: edit(w, worlds.REPORT, lambda r: r["extract"].update(vertices_read=5)), "read"),
    ("report sums", lambda w: edit(w, worlds.REPORT, lambda r: r["extract"].update(merged=2)), "vertices"),
    ("report sums", lambda w: edit(w, worlds.REPORT, lambda r: r["segment"].update(rows=1)), "members"),
    ("report sums", lambda w: edit(w, worlds.REPORT, lambda r: r["imported"].update(segment_size=1)), "size"),
    ("report sums", lambda w: edit(w, worlds.REPORT, lambda r: r["faults"].append("a sum")), "a fault of its own"),
    ("report sums",
     lambda w: edit(w, worlds.REPORT, lambda r: r["extract"].update(vertices_read=5, vertices=5, members=4)),
     "members of the extract"),
    ("report sums", lambda w: edit(w, worlds.REPORT, lambda r: r["imported"].update(new_contacts=1)), "contacts"),
    ("report sums",
     lambda w: edit(w, worlds.REPORT, lambda r: r["campaign"]["launched"].update(withdrawn={"opted_out": 1})),
     "rows of the launch"),
    ("report sums", lambda w: edit(w, worlds.REPORT, lambda r: r["campaign"]["launched"].update(rows=1, sent=1)),
     "rows that the launch has not"),
    ("report sums", lambda w: edit(w, worlds.ENGAGEMENT, lambda r: r["events"].update(late=1)), "records of events"),
    ("report sums",
     lambda w: edit(w, worlds.ENGAGEMENT, lambda r: r["launches"][RUN].update(states={"sent": 1})), "messages"),
    ("report sums", lambda w: edit(w, worlds.GRAPH_LOAD, lambda r: r.update(loaded=4)), "records of a graph load"),
    ("report sums",
     lambda w: w.buckets[STATE].update({worlds.WHAT_IF: stored("as_of,members,joined,left\na,3,,\nb,4,2,2\n")}),
     "members of a day"),
    ("every player accounted", lost_reject, "a lost reject"),
    ("every player accounted", row_and_reject, "a row that is a reject too"),
    ("result files", repeated_row, "a repeated row"),
    ("result files", missing_row, "a missing row"),
    ("result files", another_row_missing, "a missing row of a player who was not erased"),
    ("result files", another_row, "a row of another player"),
    ("one segment per content", second_folder, "two folders with the same rows"),
    ("one job per content", lambda w: w.jobs.append(w.jobs[0]), "two jobs"),
    ("membership", lambda w: w.contacts.clear(), "no contact"),
    ("membership", lambda w: w.contacts.add("a@studio.example"), "a contact that was neither imported nor mailed"),
    ("snapshots stay", changed_snapshot, "a changed snapshot"),
    ("snapshots stay", snapshot_written_twice, "a snapshot that was written twice"),
    ("snapshots stay", snapshot_written_before_an_erasure, "a snapshot that was written twice before an erasure"),
    ("snapshots stay", snapshot_rewritten, "a snapshot with a row that an earlier version has not"),
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
    ("no after a no", lambda w: before_batch(w, mails.READ_SECONDS + 1), "a no before the batch"),
    ("in a ledger", late_ledger, "a ledger after the mail"),
    ("in a ledger", lambda w: w.buckets[STATE].pop(worlds.LEDGER), "no ledger"),
    ("launches account", lambda w: w.mails.pop(), "fewer mails than recorded"),
    ("launches account", lambda w: w.mails.append(mail("msmith")), "more mails than recorded"),
    ("events once", kept_twice, "an event kept twice"),
    ("events once", one_kept, "an event that is missing"),
    ("events once", never_published, "an event that was never published"),
    ("events once", read_twice, "an object read by two as-ofs"),
    ("objects read", unread_object, "an object in no manifest"),
    ("objects read", manifest_alone, "a manifest without its events"),
    ("messages counted", lambda w: edit(w, worlds.ENGAGEMENT, lambda r: r["launches"][RUN].update(messages=1)), "less"),
    ("messages counted", lambda w: edit(w, worlds.ENGAGEMENT, lambda r: r["launches"][RUN].update(messages=3)), "more"),
    ("messages counted", launch_not_reported, "a launch that is not in the report"),
    ("messages counted", lambda w: w.buckets[STATE].pop(worlds.ENGAGEMENT), "no report"),
    ("nothing left", lambda w: w.buckets[STATE].update({"staged/left": stored("")}), "an unknown object"),
    ("nothing left", lambda w: w.buckets[EXPORT].update({f"export/{RUN}.json.tmp": stored("")}), "a temporary object"),
    ("erased stay out", lambda w: w.erased.add("msmith"), "an erased player in files"),
    ("erased stay out", erased_snapshot, "an erased player in Parquet"),
    ("erased stay out", erased_earlier, "an erased player in an earlier version"),
    ("erased stay out", erased_contact, "an erased player on the contact list"),
    ("erased stay out", erased_vertex, "engagement of an erased player in the graph"),
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
    assert {invariant.__name__ for invariant in CHECKS} == tested


def test_a_check_that_fails_is_a_violation_of_its_name() -> None:
    world = sound()
    edit(world, worlds.REPORT, lambda r: r.pop("faults"))
    world.contacts.clear()
    found = check(world)
    assert [each.sentence for each in found if each.invariant == "checker"] == [
        "report_sums cannot be checked: KeyError"
    ]
    assert "membership" in {each.invariant for each in found}


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
    world.contacts.add("qa@studio.example")
    world.buckets[STATE][f"{worlds.REJECTS}0000.csv"] = stored(
        "playerId,reason,column\n", REPORTED + timedelta(minutes=1)
    )
    assert check(world) == []
    assert results.compared(world) == 0


def test_rejects_of_a_later_run_are_not_compared() -> None:
    world = sound()
    later = stored("playerId,reason,column\nmsmith,opted_out,\nwayne96,opted_out,\n", WRITTEN + timedelta(seconds=30))
    world.buckets[STATE][f"{worlds.REJECTS}0000.csv"] = later
    assert check(world) == []
    assert results.compared(world) == 0


def test_a_no_that_a_batch_may_not_have_read() -> None:
    """Just before the batch, or of another address than the mail's."""
    world = sound()
    before_batch(world, mails.READ_SECONDS - 1)
    world.noes.append(No("xortiz", WRITTEN.timestamp() - 2000, "unsubscribed", "success+x@simulator.amazonses.com"))
    assert check(world) == []
    world.noes.append(No("xortiz", WRITTEN.timestamp() - 2000, "unsubscribed", worlds.address("xortiz").upper()))
    assert [each.invariant for each in check(world)] == ["no after a no"]


def test_without_the_time_of_the_intents_a_no_has_longer() -> None:
    """An erasure has rewritten them."""
    world = sound()
    erase(world, "msmith")
    before_batch(world, mails.READ_SECONDS + 1)
    assert check(world) == []
    before_batch(world, mails.BATCH_SECONDS + 1)
    assert [each.invariant for each in check(world)] == ["no after a no"]


@pytest.mark.parametrize("seen_before", [True, False])
def test_an_erased_player_may_be_missing(seen_before: bool) -> None:
    world = sound()
    if seen_before:
        check(world)
    erase(world, "wayne96")
    world.graph["wayne96"] = {"playerId", "ea_atrisk", "interaction_edge"}
    world.earlier[worlds.SNAPSHOT] = [world.buckets[STATE][worlds.SNAPSHOT]]
    assert check(world) == []


@pytest.mark.parametrize("place", [(STATE, worlds.LEDGER), (IMPORT, f"{worlds.SEGMENT}0000.csv")])
def test_an_erasure_that_has_failed_may_have_removed_a_part(place: tuple[str, str]) -> None:
    """Of the two files, one still has the player."""
    world, (role, key) = sound(), place
    erase(world, "wayne96")
    world.erased, world.erasing = set(), {"wayne96"}
    world.buckets[role][key] = sound().buckets[role][key]
    assert check(world) == []


def test_an_erased_contact_that_has_unsubscribed_stays() -> None:
    world = sound()
    erased_contact(world)
    world.opted_out.add(worlds.address("wayne96"))
    assert check(world) == []


def test_folders_that_an_erasure_has_rewritten_may_be_equal() -> None:
    world = sound()
    second_folder(world)
    world.first_erasure = WRITTEN.timestamp()
    assert check(world) == []


def test_a_mail_of_an_erased_player_in_doubt_may_have_been_sent() -> None:
    world = sound()
    world.buckets[STATE][worlds.OUTCOME] = stored({"sent": 1, "in_doubt": []})
    edit(world, worlds.REPORT, lambda r: r["campaign"]["launched"].update(sent=1, in_doubt=1))
    assert {each.invariant for each in check(world)} == {"launches account"}
    erase(world, "wayne96")
    assert check(world) == []


def test_coverage_counts_what_could_be_checked() -> None:
    world = sound()
    world.buckets[STATE]["erasure/done/0a.json"] = stored({"players": 1})
    assert coverage(world) == Coverage(results=1, players=3, mails=2, events=2, erasures=1, launches=1)
    assert coverage(World(buckets={role: {} for role in world.buckets}, names=world.names)) == Coverage(
        0, 0, 0, 0, 0, 0
    )


def test_short_playerids_are_no_leak() -> None:
    assert kept.leaks("the editor of dito", {"wayne96"}, {"a@b.example"}) == []


@pytest.mark.parametrize("text", ["to=A@B.example.", "x@y a@b.example", '"ab,a@b.example,c"', "a@b.example"])
def test_addresses_are_found_in_any_case_and_place(text: str) -> None:
    assert kept.leaks(f"wayne96 {text}", {"wayne96"}, {"a@b.example", "no@address@b"}) == ["wayne96", "a@b.example"]


def test_what_the_history_says_of_noes_and_erasures() -> None:
    world = sound()
    for event in (
        Event("action", 5, 0, {"name": "erase", "about": {"players": ["wayne96"]}}),
        Event("done", 6, 0, {"name": "erase", "erasing": ["wayne96"]}),
        Event(
            "done", 7, 0, {"noes": [{"player": "xortiz", "at": 6, "kind": "unsubscribed", "address": "a@b.example"}]}
        ),
    ):
        add_event(world, event)
    assert (world.erasing, world.erased, world.gone, world.first_erasure) == ({"wayne96"}, set(), {"wayne96"}, 5)
    assert world.noes == [No("xortiz", 6, "unsubscribed", "a@b.example")]


def test_earlier_versions_are_read_where_the_bucket_keeps_them() -> None:
    with mock_aws():
        s3, key = boto3.client("s3", region_name="us-east-1"), "launches/a/in_doubt.txt"
        s3.create_bucket(Bucket="state")
        reader = Reader(cast(Installation, SimpleNamespace(client=lambda service: s3)))
        s3.put_object(Bucket="state", Key=key, Body=b"0")
        assert reader.earlier("state") == {}
        s3.put_bucket_versioning(Bucket="state", VersioningConfiguration={"Status": "Enabled"})
        for each in (key, key, "sends/t/a.jsonl", "claims/a.json", "claims/a.json"):
            s3.put_object(Bucket="state", Key=each, Body=b"1")
        s3.delete_object(Bucket="state", Key="sends/t/a.jsonl")
        found = {each: [one.body for one in versions] for each, versions in reader.earlier("state").items()}
    assert found == {key: [b"0", b"1"], "sends/t/a.jsonl": [b"1"]}


def test_versions_that_are_removed_since_are_noted() -> None:
    with mock_aws():
        s3, key = boto3.client("s3", region_name="us-east-1"), "snapshots/cohort=a/snapshot.parquet"
        s3.create_bucket(Bucket="state")
        s3.put_bucket_versioning(Bucket="state", VersioningConfiguration={"Status": "Enabled"})
        there = SimpleNamespace(client=lambda service: s3, buckets={STATE: "state"})
        reader = Reader(cast(Installation, there))
        first = s3.put_object(Bucket="state", Key=key, Body=b"0")["VersionId"]
        reader.note_versions()
        s3.delete_object(Bucket="state", Key=key, VersionId=first)
        second = s3.put_object(Bucket="state", Key=key, Body=b"1")["VersionId"]
        reader.note_versions()
    assert list(reader._written[key]) == [first, second]


def test_an_erasure_begins_with_its_players_and_ends_with_its_success() -> None:
    world = sound()
    facts: list[dict[str, Any]] = [{"erasing": ["a"]}, {"erased": ["a"]}, {"erasing": ["b"]}]
    for at, about in zip((5, 9, 20), facts, strict=True):
        add_event(world, Event("done", at, 0, about))
    assert world.erasures == [(5, 9), (20, math.inf)]


def test_events_are_read_from_damaged_objects() -> None:
    whole = worlds.event(1)
    body = json.dumps(whole) + json.dumps(worlds.event(2)) + '\n{"eventType":"Open","mail":{"times\n'
    found = list(engagement.events_of(stored(gzip.compress(body.encode()))))
    assert [each.message_id for each in found] == ["mail-1", "mail-2"]
