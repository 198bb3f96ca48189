"""The figures of `make flywheel`: a small one whose sums hold, and each of them that is wrong is named."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from cohort_flywheel.config.registry import read_registry
from local import flywheel
from local.flywheel_sums import LAUNCH, Turned, checks
from local.flywheel_text import describe

#: `ann` opens and clicks; a bot clicks a mail of `bob`, who unsubscribes late; `bouncer` bounces; `held` gets no mail.
DAY_1 = {"ann": 2, "bob": 1, "bouncer": 1, "held": 1, "other": 0}
DAY_2 = {"ann": 1, "bob": 0, "bouncer": 1, "held": 2, "other": 0}
EFFECT = ("engagement", 2, "effects", "launches", 0, "launch_holdout")
NUMBERS = ("eng_clicks_30d", "eng_opens_30d", "eng_last_click_day")


def event(player: str, kind: str, bot: str | None = None) -> dict[str, Any]:
    address = f"{'bounce' if player == 'bouncer' else 'success'}+{player}@simulator.amazonses.com"
    about = {"timestamp": "2026-11-20T11:00:00.000Z"} | ({"isBotEvent": bot} if bot else {})
    return {"eventType": kind, "mail": {"destination": [address]}, kind.lower(): about}


BY_DAY_2 = [
    event("ann", "Send"), event("ann", "Delivery"), event("ann", "Open", "Unlikely"), event("ann", "Click"),
    event("bob", "Send"), event("bob", "Delivery"), event("bob", "Click", "Likely"),
    event("bouncer", "Send"), event("bouncer", "Bounce"),
]  # fmt: skip


def vertex(player: str, *numbers: int) -> dict[str, Any]:
    found: dict[str, list[int]] = {name: [] for name in NUMBERS}
    found |= {name: [number] for name, number in zip(NUMBERS, numbers, strict=False)}
    return {"id": f"v-{player}", "playerId": [player]} | found


def turned() -> Turned:
    """What the DAGs report of these players."""
    suppressed = {"bounced": 1, "complained": 0, "unsubscribed": 0}
    after = suppressed | {"unsubscribed": 1}
    counts = {"late": 0, "other_mails": 0}
    launch_counts = {
        "messages": 3, "states": {"bounced": 1, "delivered": 2}, "opened": 1, "clicked": 2, "complained": 0,
        "unsubscribed": 1,
    }  # fmt: skip
    effect = {
        "mailed": 3, "held_out": 1, "further": {"mailed": 0, "held_out": 1, "sentence": "further"},
        "left": {"mailed": 1, "held_out": 0, "sentence": "left"},
        "change": {"mailed": -0.666667, "held_out": 1.0, "sentence": "change"},
    }  # fmt: skip
    return Turned(
        launch={
            "segment": {"members": 4, "rows": 3, "rejects": {"launch_holdout": 1}},
            "campaign": {"launched": {"sent": 3}},
        },
        second={"segment": {"rejects": dict(suppressed)}},
        clicked={"segment": {"members": 1, "rows": 1, "rejects": {}}, "imported": {"segment_size": 1}},
        engagement=(
            {},
            {
                "events": counts | {"objects": 2, "records": 10, "events": 9, "repeated": 1, "unreadable": 1},
                "suppressions": {"addresses": dict(suppressed), "players": suppressed | {"bounced": 0}},
            },
            {
                "events": counts | {"objects": 1, "records": 1, "events": 1, "repeated": 0, "unreadable": 0},
                "suppressions": {"addresses": after, "players": after | {"bounced": 0}},
                "launches": {LAUNCH: launch_counts},
                "effects": {"launches": [{"launch_holdout": effect}]},
            },
        ),
        mailed=["ann", "bob", "bouncer"],
        held_out=["held"],
        segment=["ann"],
        graph={
            "players": [vertex("ann", 1, 1, 20261120), *(vertex(f"p{number}") for number in range(999))],
            "campaigns": [
                {
                    "name": [LAUNCH], "eng_launch": [LAUNCH], "eng_messages": [3], "eng_delivered": [2],
                    "eng_bounced": [1], "eng_complained": [0], "eng_unsubscribed": [1], "eng_opened": [1],
                    "eng_clicked": [1],
                }
            ],
            "edges": [{"from": "v-ann", "to": "campaign"}],
        },
        events_by_day_2=BY_DAY_2,
        events=[*BY_DAY_2, event("bob", "Subscription")],
        scores={"day 1": DAY_1, "day 2": DAY_2},
    )  # fmt: skip


def wrong(found: Turned) -> list[str]:
    return [each.what for each in checks(found) if each.expected != each.found]


def test_the_sums_hold_and_are_printed() -> None:
    assert wrong(turned()) == []
    lines = [" ".join(line.split()) for line in describe(turned()).splitlines()]
    for line in (
        "held out -1 of this launch, to measure its effect", "messages 3 = bounced 1 + delivered 2",
        "clicked 2 1 of them by likely bots only", "suppressed 2 addresses: bounced 1, unsubscribed 1", "left",
    ):  # fmt: skip
        assert line in lines


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        (("launch", "segment", "rows"), 2, "members = rows + rejects"),
        (("launch", "campaign", "launched", "sent"), 4, "e-mails that SES sent"),
        (("mailed",), ["ann", "bob", "held"], "players on the list of the mailed"),
        (("held_out",), ["other"], "held-out players who are no members"),
        (("engagement", 1, "events", "events"), 8, "events read on day 2"),
        (("engagement", 1, "events", "unreadable"), 0, "records that came twice, and lines that cannot be read"),
        (("engagement", 2, "launches", LAUNCH, "states"), {"delivered": 3}, "messages by their states"),
        (("engagement", 2, "suppressions", "addresses", "bounced"), 0, "suppressed addresses after day 3"),
        (("engagement", 2, "suppressions", "players", "unsubscribed"), 0, "suppressed players after day 3"),
        (("second", "segment", "rejects", "bounced"), 0, "members of day 2 rejected as bounced"),
        (("graph", "players", 0, NUMBERS[0]), [2], "vertices with other numbers than the readers' clicks and opens"),
        (("graph", "edges"), [], "vertices with an edge to the campaign"),
        (("graph", "campaigns", 0, "eng_clicked"), [2], "campaigns in the graph"),
        (("segment",), ["ann", "bob"], "players of the segment"),
        ((*EFFECT, "left", "mailed"), 0, "who left the cohort, mailed"),
        ((*EFFECT, "held_out"), 2, "players compared, held_out"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)  # fmt: skip
def test_a_wrong_figure_is_named(place: tuple[str | int, ...], value: object, what: str) -> None:
    found = deepcopy(vars(turned()))
    there: Any = found
    for step in place[:-1]:
        there = there[step]
    there[place[-1]] = value
    assert what in wrong(Turned(**found))


def test_the_registry_of_its_dags_is_valid_and_its_e_mail_has_a_link_to_click(tmp_path: Path) -> None:
    flywheel._write_dags(tmp_path)
    registry = read_registry(tmp_path / "include" / "cohorts.yaml")
    assert sorted(registry.names) == ["clicked", "ea_atrisk"]
    assert registry.cohort("clicked").property == "eng_clicks_30d"
    assert flywheel.LINK in (tmp_path / "include" / "email" / "at_risk" / "body.html").read_text(encoding="utf-8")
