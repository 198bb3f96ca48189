"""What is past its keep-by, by reports and results alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cohort_flywheel.destinations.import_result import ImportedSegment
from cohort_flywheel.governance.cleanup import (
    FiledReport,
    InventoryRow,
    RunArtifacts,
    by_name,
    expired,
    of_report,
    of_result,
    read_key,
    read_result_key,
    sums,
    table,
)
from cohort_flywheel.runs.names import (
    claim_key,
    extract_key,
    last_run_key,
    part_file_name,
    pending_snapshot_key,
    rejects_folder,
    rejects_key,
    rejects_part_key,
    run_name,
    segment_part_key,
    snapshot_key,
)
from cohort_flywheel.runs.result import RunIds
from tests.cohort_flywheel.task_outputs import result_record

DAY = datetime(2026, 11, 22, tzinfo=UTC)
NAME = run_name("ea_atrisk", 2, DAY)


def made(
    days_ago: int, *, cohort: str = "ea_atrisk", threshold: int = 2, verified: bool = True, **more: Any
) -> RunArtifacts:
    as_of = DAY - timedelta(days=days_ago)
    return RunArtifacts(
        run_name(cohort, threshold, as_of), cohort, threshold, as_of, more.pop("last", as_of), verified=verified, **more
    )


def due(*all_of_them: RunArtifacts, keep_days: int = 10, cohort: str | None = None) -> list[int]:
    found = expired(all_of_them, DAY - timedelta(days=keep_days), cohort)
    return [(DAY - one.as_of).days for one in found]


def test_runs_last_reported_before_the_retention_are_expired() -> None:
    assert due(made(0), made(10), made(11), made(30)) == [11, 30]


def test_a_recently_repeated_run_is_kept() -> None:
    assert due(made(0), made(30, last=DAY)) == []


def test_the_newest_verified_as_of_of_each_cohort_and_threshold_is_kept() -> None:
    assert due(made(40), made(50), made(45, threshold=1), made(60, cohort="ea_duty"), made(61, cohort="ea_duty")) == [
        50, 61,
    ]  # fmt: skip


def test_a_later_unverified_as_of_does_not_replace_the_newest_verified_one() -> None:
    """A failed run, a `live` one and a dry run have no result: their artifacts are removed, the result stays."""
    assert due(made(40), made(30, verified=False)) == [30]


def test_only_runs_of_one_cohort() -> None:
    assert due(made(0), made(40), made(0, cohort="ea_duty"), made(41, cohort="ea_duty"), cohort="ea_duty") == [41]


REPORT: dict[str, Any] = {
    "run": {"reported": "2026-11-23T01:00:00+00:00"},
    "plan": {"cohort": "ea_atrisk", "threshold": 2, "as_of": DAY.isoformat(), "direction": "above"},
    "extract": {"snapshot_key": "snapshots/one"},
    "imported": {"segment_id": "s1"},
}


def filed(**changed: Any) -> FiledReport:
    return FiledReport.model_validate(REPORT | changed)


def test_the_artifacts_of_a_report() -> None:
    found = of_report(f"reports/{NAME}/cohort_to_segment__manual__1.json", filed())
    assert found == RunArtifacts(
        NAME, "ea_atrisk", 2, DAY, DAY + timedelta(hours=25), False, (ImportedSegment(segment_id="s1"),),
        frozenset(["snapshots/one"]), "above",
    )  # fmt: skip
    dry = of_report(f"dry_run/reports/{NAME}/d__1.json", filed(imported=None, extract=None))
    assert dry
    assert (dry.name, dry.imported, dry.snapshots) == (f"dry_run/{NAME}", (), frozenset())


def test_a_run_refused_by_its_plan_has_no_artifacts() -> None:
    assert of_report("reports/cohort_to_segment/d__1.json", filed(plan=None, extract=None)) is None


def test_the_artifacts_of_a_name_are_merged_from_reports_and_result() -> None:
    one = of_report(f"reports/{NAME}/d__1.json", filed())
    again: dict[str, Any] = {"extract": {"snapshot_key": "snapshots/two"}, "imported": {"segment_id": "s2"}}
    again["run"] = {"reported": "2026-11-25T00:00:00+00:00"}
    two = of_report(f"reports/{NAME}/d__2.json", filed(**again))
    run = RunIds(dag_id="d", run_id="1")
    verified = result_record(DAY, run, imported={"segment_id": "s2"}, snapshot="snapshots/two")
    result = of_result("ea_atrisk", 2, verified)
    assert one
    assert two
    assert result.name == NAME
    for order in ([one, two, result], [result, two, one]):
        (found,) = by_name(order)
        assert (found.last, found.verified, found.direction) == (DAY + timedelta(days=3), True, "above")
        assert {each.segment_id for each in found.imported} == {"s1", "s2"}
        assert found.snapshots == {"snapshots/one", "snapshots/two"}


LIVE = run_name("ea_atrisk", 2, DAY, live=True)
HEX = "0123456789abcdef"
DROPPED = run_name("ea_atrisk", 2, DAY, extract_sha256=HEX)


@pytest.mark.parametrize(
    ("key", "read"),
    [
        (extract_key(NAME), ("extract", NAME)),
        (extract_key(LIVE), ("extract", LIVE)),
        (segment_part_key("segments/", NAME, HEX, 3), ("segment file", NAME)),
        (segment_part_key("segments/", LIVE, HEX, 0), ("segment file", LIVE)),
        (f"contacts/{NAME}_{HEX}/0000_{HEX}.csv", ("import file", NAME)),
        ("staged/" + part_file_name(NAME, 0, HEX), ("staged file", NAME)),
        (f"staged/{DROPPED}.json", ("staged extract", DROPPED)),
        (rejects_part_key(rejects_folder(rejects_key(NAME), HEX, 50_000), 7), ("rejects", NAME)),
        ("dry_run/" + extract_key(NAME), ("extract", f"dry_run/{NAME}")),
        (f"dry_run/rejects/{NAME}/{HEX[:16]}_50000/0007.csv", ("rejects", f"dry_run/{NAME}")),
        (snapshot_key("ea_atrisk", DAY), None),
        (pending_snapshot_key("ea_atrisk", DAY, HEX), None),
        (f"reports/{NAME}/d__1.json", None),
        (f"results/ea_atrisk/2/{NAME}.json", None),
        (f"claims/{NAME}.json", None),
        (last_run_key(claim_key(NAME)), ("last run", NAME)),
        ("dry_run/" + last_run_key(claim_key(NAME)), ("last run", f"dry_run/{NAME}")),
        ("staged/graph_loads/cohort_modeler/0123/user_vertices.csv.gz", None),
        ("do_not_contact.txt", None),
        ("dropped/an-extract.json", None),
        ("memberships/customer_profiles/domain/ea_atrisk_2.txt", None),
        ("segments/other-owner.csv", None),
        (f"old/{extract_key(NAME)}", None),
    ],
)
def test_a_key_has_the_kind_of_object_and_the_name(key: str, read: tuple[str, str] | None) -> None:
    assert read_key(key) == read


def test_the_table_and_its_sums() -> None:
    lines = [
        InventoryRow("segment", "one", 1),
        InventoryRow("segment file", "one", 3, 1200),
        InventoryRow("extract", "one", 2, 900),
        InventoryRow("recipients", "in no kept segment", 5),
        InventoryRow("recipients", "in no kept segment", 2, why="they have opted out"),
    ]
    assert table(lines).splitlines() == [
        "what          where               number  bytes  kept because",
        "segment       one                      1      0",
        "segment file  one                      3  1,200",
        "extract       one                      2    900",
        "recipients    in no kept segment       5      0",
        "recipients    in no kept segment       2      0  they have opted out",
    ]
    assert sums(lines) == {"segments": 1, "recipients": 5, "objects": 5, "bytes": 2100}


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("results/ea_atrisk/2/2026-11-22_00-00-00.json", ("ea_atrisk", 2, DAY)),
        ("results/ea_atrisk/-0.75/2026-11-22_00-00-00.json", ("ea_atrisk", -0.75, DAY)),
        ("results/removed.json", None),
        ("results/ea_atrisk/figures.json", None),
        ("results/ea_atrisk/old/2026-11-22_00-00-00.json", None),
        ("results/ea_atrisk/2/notes.json", None),
        ("results/ea_atrisk/2/2026-11-22_00-00-00.json.bak", None),
        ("reports/ea_atrisk_2_2026-11-22_00-00-00/dag__run.json", None),
    ],
)
def test_a_key_of_a_result_names_its_run(key: str, wanted: tuple[str, float, datetime] | None) -> None:
    assert read_result_key(key) == wanted
