"""Where the members come from: the graph for the newest day alone, and never for a day that is past."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from typing import Any

import pytest

from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.segment.snapshot import Header, Snapshot
from cohort_flywheel.segment.source import EXTRACT, SOURCES, choose_source, is_canonical_run
from tests.cohort_flywheel.plans import plan_output

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)
DAY = timedelta(days=1)
PAST = NEWEST - 10 * DAY


def snapshot(
    as_of: datetime, key: str = "one", *, final: bool = False, minutes: int = 3, floor: int = 0,
    property: str = "score", direction: Direction = "above", required: tuple[str, ...] = ("status",),
) -> Snapshot:  # fmt: skip
    header = Header(
        cohort="calm", as_of=as_of, property=property, direction=direction, floor=floor, required=list(required),
        read_at=as_of + timedelta(minutes=minutes),
    )  # fmt: skip
    return Snapshot(key, header, final, "0123456789abcdef")


def choose(
    *snapshots: Snapshot, source: str = "auto", as_of: datetime = NEWEST, days: tuple[datetime, ...] = (), **plan: Any
) -> Snapshot | None:
    whole: dict[str, Any] = {"cohort": "calm", "property": "score", "where": {"status": {"equals": "Active"}}} | plan
    asked = Plan.model_validate(plan_output(as_of=as_of, source=source, **whole))
    return choose_source(asked, newest=NEWEST, snapshots=list(snapshots), days=lambda: days)


def refusal(*snapshots: Snapshot, **asked: Any) -> str:
    with pytest.raises(FlywheelError) as error:
        choose(*snapshots, **asked)
    return str(error.value)


@pytest.mark.parametrize(
    ("source", "as_of", "kept", "from_where"),
    [
        ("auto", NEWEST, "none", "graph"),
        ("auto", NEWEST, "pending", "graph"),
        ("auto", NEWEST, "final", "final"),
        ("auto", PAST, "none", "refused"),
        ("auto", PAST, "pending", "pending"),
        ("auto", PAST, "final", "final"),
        ("snapshot", NEWEST, "none", "refused"),
        ("snapshot", NEWEST, "pending", "pending"),
        ("snapshot", NEWEST, "final", "final"),
        ("snapshot", PAST, "none", "refused"),
        ("snapshot", PAST, "pending", "pending"),
        ("snapshot", PAST, "final", "final"),
        *(
            (source, as_of, kept, "graph")  # or the extract: no snapshot
            for source, as_of, kept in product(("live", EXTRACT), (NEWEST, PAST), ("none", "pending", "final"))
        ),
    ],
)
def test_by_the_param_and_by_age(source: str, as_of: datetime, kept: str, from_where: str) -> None:
    pending, final = snapshot(as_of, "pending", minutes=9), snapshot(as_of, "final", final=True)
    snapshots = {"none": [], "pending": [pending], "final": [pending, final]}[kept]
    if from_where == "refused":
        assert f"cohort calm has no snapshot of {as_of:%Y-%m-%d %H:%M} UTC" in refusal(
            *snapshots, source=source, as_of=as_of
        )
    else:
        assert choose(*snapshots, source=source, as_of=as_of) == {
            "graph": None, "pending": pending, "final": final,
        }[from_where]  # fmt: skip


def test_yesterday_is_past_the_moment_that_today_is_complete() -> None:
    assert choose(as_of=NEWEST) is None
    assert choose(as_of=NEWEST + DAY) is None, "a clock of another machine that is a little ahead"
    assert "no snapshot of 2026-11-21 00:00 UTC" in refusal(as_of=NEWEST - DAY)


def test_an_as_of_in_another_zone_is_the_same_instant() -> None:
    assert choose(as_of=NEWEST.astimezone(timezone(timedelta(hours=5)))) is None


SERVES_NOT: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"floor": 3}, {}, "has the floor 3, and the threshold 2 is looser"),
    (
        {"floor": -9, "direction": "below"},
        {"direction": "below", "threshold": -5},
        "has the floor -9, and the threshold -5",
    ),
    ({"required": ()}, {}, "was written before `where` named status"),
    ({"property": "points"}, {}, "holds points above a floor, and the registry now says score above"),
    ({"direction": "below"}, {}, "holds score below a floor, and the registry now says score above"),
]


@pytest.mark.parametrize(("kept", "asked", "why_not"), SERVES_NOT)
@pytest.mark.parametrize(("source", "as_of"), [("auto", PAST), ("snapshot", PAST), ("snapshot", NEWEST)])
@pytest.mark.parametrize("final", [False, True])
def test_an_incompatible_snapshot_is_refused(
    final: bool, source: str, as_of: datetime, kept: dict[str, Any], asked: dict[str, Any], why_not: str
) -> None:
    sentence = refusal(snapshot(as_of, final=final, **kept), source=source, as_of=as_of, **asked)
    assert sentence.startswith(f"CF-PLAN-05: the snapshot of cohort calm of {as_of:%Y-%m-%d %H:%M} UTC {why_not}")
    assert sentence.endswith(
        ": choose another day or threshold, or run with source=live to use the current graph, under a separate name"
    )


@pytest.mark.parametrize(("kept", "asked", "why_not"), SERVES_NOT)
def test_an_incompatible_final_snapshot_is_not_replaced_by_the_graph(
    kept: dict[str, Any], asked: dict[str, Any], why_not: str
) -> None:
    """The newest day is what its final snapshot says; but a pending one does not hold the day's run up."""
    assert why_not in refusal(snapshot(NEWEST, final=True, **kept), **asked)
    assert choose(snapshot(NEWEST, **kept), **asked) is None
    assert choose(snapshot(NEWEST, final=True, **kept), source="live", **asked) is None


@pytest.mark.parametrize("floor", [2, 1, 0])
def test_a_floor_as_loose_as_the_threshold_is_compatible(floor: int) -> None:
    kept = snapshot(PAST, floor=floor)
    assert choose(kept, as_of=PAST) == kept


def test_the_final_snapshot_is_selected_else_the_latest_pending_one() -> None:
    early, late = snapshot(PAST, "z", minutes=3), snapshot(PAST, "a", minutes=50)
    for order in ([early, late], [late, early]):
        assert choose(*order, as_of=PAST) == late
    final = snapshot(PAST, "f", minutes=3, final=True)
    assert choose(early, late, final, as_of=PAST) == final


def test_two_reads_of_the_same_instant_are_ordered() -> None:
    one, other = snapshot(PAST, "a"), snapshot(PAST, "b")
    assert choose(one, other, as_of=PAST) == choose(other, one, as_of=PAST) == other


@pytest.mark.parametrize(
    ("days", "said"),
    [
        ((), "(no other day has one)"),
        ((PAST,), "(no other day has one)"),
        ((PAST - DAY,), "(the nearest others are of 2026-11-11 00:00 UTC)"),
        ((PAST + 2 * DAY, PAST + 3 * DAY), "(the nearest others are of 2026-11-14 00:00 UTC)"),
        (
            (PAST + 2 * DAY, PAST - 3 * DAY, PAST, PAST - DAY, PAST + 4 * DAY),
            "(the nearest others are of 2026-11-11 00:00 UTC and 2026-11-14 00:00 UTC)",
        ),
    ],
)
def test_the_error_names_the_date_the_nearest_days_and_source_live(days: tuple[datetime, ...], said: str) -> None:
    missing = refusal(as_of=PAST, days=days)
    assert missing == (
        f"CF-PLAN-05: cohort calm has no snapshot of 2026-11-12 00:00 UTC {said}: run with source=live to use the"
        " current graph, under a separate name"
    )
    assert said in refusal(snapshot(PAST, floor=9), as_of=PAST, days=days)


def test_other_days_are_listed_only_for_an_error() -> None:
    """They are a listing of a bucket."""

    def days() -> Any:
        raise AssertionError

    plan = Plan.model_validate(plan_output(as_of=NEWEST, cohort="calm"))
    assert choose_source(plan, newest=NEWEST, snapshots=[], days=days) is None


def test_every_source_explains_itself() -> None:
    assert list(SOURCES) == ["auto", "live", "snapshot"]
    assert all(SOURCES.values())


def test_live_runs_and_uploaded_extracts_are_not_canonical() -> None:
    assert EXTRACT not in SOURCES, "no param says it"
    plans = {source: Plan.model_validate(plan_output(source=source)) for source in (*SOURCES, EXTRACT)}
    assert {source: is_canonical_run(plan) for source, plan in plans.items()} == {
        "auto": True, "live": False, "snapshot": True, "extract": False,
    }  # fmt: skip
