"""The figures of `make flywheel`: what the DAGs reported, beside what the emulated SES and the graph kept.

What the emulation kept is counted here by itself, without code of the package.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

Item = dict[str, Any]

_DAYS = ("2026-11-20_00-00-00", "2026-11-21_00-00-00", "2026-11-22_00-00-00")
LAUNCH = f"ea_atrisk_0_{_DAYS[0]}"


class Check(NamedTuple):
    """A figure by the emulation, and the same by the DAGs."""

    what: str
    expected: object
    found: object


class Readers:
    """What the players of some events did, each player of one e-mail."""

    def __init__(self, events: list[Item]) -> None:
        self.by_type: dict[str, set[str]] = {}
        self.clicks, self.opens, self.last_click_day = Counter[str](), Counter[str](), dict[str, int]()
        for each in events:
            kind, player = each["eventType"], player_of(each)
            self.by_type.setdefault(kind, set()).add(player)
            about = each.get(kind.lower(), {})
            if about.get("isBotEvent") == "Likely":
                continue
            if kind == "Open":
                self.opens[player] += 1
            elif kind == "Click":
                self.clicks[player] += 1
                day = int(f"{datetime.fromisoformat(about['timestamp']):%Y%m%d}")
                self.last_click_day[player] = max(day, self.last_click_day.get(player, 0))

    def of(self, kind: str) -> set[str]:
        return self.by_type.get(kind, set())

    @property
    def suppressed(self) -> dict[str, int]:
        """How many addresses are suppressed, by reason: of the sample, each bounce is for good."""
        kinds = {"bounced": "Bounce", "complained": "Complaint", "unsubscribed": "Subscription"}
        return {reason: len(self.of(kind)) for reason, kind in kinds.items()}


@dataclass(frozen=True)
class Turned:
    """What the three days wrote, and the truth; the events of day 2 are those that were written by then."""

    launch: Item
    second: Item
    clicked: Item
    engagement: tuple[Item, Item, Item]
    mailed: list[str]
    held_out: list[str]
    segment: list[str]
    graph: Item
    events_by_day_2: list[Item]
    events: list[Item]
    scores: dict[str, dict[str, int]]

    @classmethod
    def read(cls, here: Path, state_bucket: str) -> Turned:
        """Read the folder of the command."""
        state = here / state_bucket
        launch, second, clicked = (
            _json(next((state / "reports" / name).glob("*.json")))
            for name in (LAUNCH, f"ea_atrisk_0_{_DAYS[1]}", f"clicked_0_{_DAYS[2]}")
        )
        one, two, three = (_json(state / "engagement" / "reports" / f"{day}.json") for day in _DAYS)
        rejects = [
            (row["playerId"], row["reason"])
            for file in sorted((state / launch["segment"]["rejects_key"]).glob("*.csv"))
            for row in _rows(file)
        ]
        bucket = clicked["segment"]["url"].removeprefix("s3://").partition("/")[0]
        parts = [here / bucket / part["s3_key"] for part in clicked["segment"]["parts"]]
        return cls(
            launch=launch,
            second=second,
            clicked=clicked,
            engagement=(one, two, three),
            mailed=(state / "launches" / LAUNCH / "mailed.txt").read_text(encoding="utf-8").split("\n")[:-1],
            held_out=[player for player, reason in rejects if reason == "launch_holdout"],
            segment=[row["playerId"] for part in parts for row in _rows(part)],
            graph=_json(here / "graph.json"),
            events_by_day_2=_list(here / "truth" / "events_by_day_2.json"),
            events=_list(here / "truth" / "events.json"),
            scores=_json(here / "truth" / "scores.json"),
        )


def player_of(event: Item) -> str:
    """Return the player of an event: the sample's addresses have the playerId between + and @."""
    (address,) = event["mail"]["destination"]
    return str(address).partition("@")[0].partition("+")[2]


def checks(turned: Turned) -> list[Check]:
    """Compare each figure of the three days with the truth."""
    return [*_of_launch(turned), *_of_events(turned), *_of_graph(turned), *_of_clicked(turned), *_of_effect(turned)]


def _of_launch(turned: Turned) -> Iterator[Check]:
    segment, sent = turned.launch["segment"], Readers(turned.events).of("Send")
    members = {player for player, score in turned.scores["day 1"].items() if score > 0}
    yield Check("members of day 1", len(members), segment["members"])
    yield Check("members = rows + rejects", segment["members"], segment["rows"] + sum(segment["rejects"].values()))
    yield Check("e-mails that SES sent", len(sent), turned.launch["campaign"]["launched"]["sent"])
    yield _same("players on the list of the mailed", sent, turned.mailed)
    yield Check("players held out", segment["rejects"]["launch_holdout"], len(set(turned.held_out)))
    yield Check("players both held out and mailed", 0, len(sent & set(turned.held_out)))
    yield Check("held-out players who are no members", 0, len(set(turned.held_out) - members))


def _of_events(turned: Turned) -> Iterator[Check]:
    _, two, three = turned.engagement
    by_day_2, all_events = Readers(turned.events_by_day_2), Readers(turned.events)
    late = len(turned.events) - len(turned.events_by_day_2)
    for day, report, number in ((2, two, len(turned.events_by_day_2)), (3, three, late)):
        counts = report["events"]
        once = counts["records"] - counts["repeated"] - counts["late"] - counts["other_mails"]
        yield Check(f"events read on day {day}", number, counts["events"])
        yield Check(f"records of day {day} without those that are left out", counts["events"], once)
    yield Check("records that came twice, and lines that cannot be read", (1, 1), _faults(two))
    counts = three["launches"][LAUNCH]
    yield Check("messages", len(all_events.of("Send")), counts["messages"])
    yield Check("messages = the sum of their states", counts["messages"], sum(counts["states"].values()))
    states = {"bounced": len(all_events.of("Bounce")), "delivered": len(all_events.of("Delivery"))}
    yield Check("messages by their states", states, counts["states"])
    for name, kind in (
        ("opened", "Open"), ("clicked", "Click"), ("complained", "Complaint"), ("unsubscribed", "Subscription"),
    ):  # fmt: skip
        yield Check(f"messages that were {name}", len(all_events.of(kind)), counts[name])
    for day, report, readers in ((2, two, by_day_2), (3, three, all_events)):
        # a bounce says of the address that it cannot be reached, and nothing of the player
        players = readers.suppressed | {"bounced": 0}
        yield Check(f"suppressed addresses after day {day}", readers.suppressed, report["suppressions"]["addresses"])
        yield Check(f"suppressed players after day {day}", players, report["suppressions"]["players"])
    members = {player for player, score in turned.scores["day 2"].items() if score > 0}
    kinds = {"bounced": "Bounce", "complained": "Complaint", "unsubscribed": "Subscription"}
    for reason, kind in kinds.items():
        expected = len(members & by_day_2.of(kind))
        yield Check(f"members of day 2 rejected as {reason}", expected, turned.second["segment"]["rejects"][reason])


def _of_graph(turned: Turned) -> Iterator[Check]:
    readers, players = Readers(turned.events), turned.graph["players"]
    yield Check("vertices of players", 1000, len(players))
    wrong = 0
    for vertex in players:
        (player,) = vertex["playerId"]
        expected = readers.clicks[player], readers.opens[player], readers.last_click_day.get(player, 0)
        names = ("eng_clicks_30d", "eng_opens_30d", "eng_last_click_day")
        wrong += expected != tuple(sum(vertex[name]) for name in names)
    yield Check("vertices with other numbers than the readers' clicks and opens", 0, wrong)
    clicked = {vertex["id"] for vertex in players if vertex["playerId"][0] in readers.clicks}
    yield _same("vertices with an edge to the campaign", clicked, [edge["from"] for edge in turned.graph["edges"]])
    totals = {
        "name": LAUNCH, "eng_launch": LAUNCH, "eng_messages": len(readers.of("Send")),
        "eng_delivered": len(readers.of("Delivery")), "eng_bounced": len(readers.of("Bounce")),
        "eng_complained": len(readers.of("Complaint")), "eng_unsubscribed": len(readers.of("Subscription")),
        "eng_opened": len(readers.opens), "eng_clicked": len(readers.clicks),
    }  # fmt: skip
    found = [{name: values[0] for name, values in each.items()} for each in turned.graph["campaigns"]]
    yield Check("campaigns in the graph", [totals], found)


def _of_clicked(turned: Turned) -> Iterator[Check]:
    segment, readers = turned.clicked["segment"], Readers(turned.events)
    members = set(Readers(turned.events_by_day_2).clicks)  # the graph had no late event in the morning
    withdrawn = members & (readers.of("Complaint") | readers.of("Subscription") | readers.of("Bounce"))
    yield Check("members of the cohort of those who clicked", len(members), segment["members"])
    yield Check("of them suppressed", len(withdrawn), sum(segment["rejects"].values()))
    yield _same("players of the segment", members - withdrawn, turned.segment)
    yield Check(
        "addresses of the segment on SES's list", len(turned.segment), turned.clicked["imported"]["segment_size"]
    )


def _of_effect(turned: Turned) -> Iterator[Check]:
    (launch,) = turned.engagement[2]["effects"]["launches"]
    effect: Item = launch["launch_holdout"]
    groups = {"mailed": Readers(turned.events).of("Send"), "held_out": set(turned.held_out)}
    for group, players in groups.items():
        yield Check(f"players compared, {group}", len(players), effect[group])
        yield Check(f"whose score went further, {group}", sum(_moved(turned, players, 1)), effect["further"][group])
        left = sum(turned.scores["day 2"][player] <= 0 for player in players)
        yield Check(f"who left the cohort, {group}", left, effect["left"][group])
        mean = sum(_changes(turned, players)) / len(players)
        yield Check(f"mean change of the scores, {group}", round(mean, 6), effect["change"][group])


def _moved(turned: Turned, players: set[str], sign: int) -> Iterator[bool]:
    yield from (sign * change > 0 for change in _changes(turned, players))


def _changes(turned: Turned, players: set[str]) -> Iterator[int]:
    one, two = turned.scores["day 1"], turned.scores["day 2"]
    yield from (two[player] - one[player] for player in players)


def _faults(report: Item) -> tuple[int, int]:
    return report["events"]["repeated"], report["events"]["unreadable"]


def _same(what: str, expected: set[str], found: list[str]) -> Check:
    if sorted(expected) == sorted(found):
        return Check(what, len(expected), len(found))
    others = len(set(found) - expected)
    return Check(
        what, f"{len(expected)}", f"{len(found)}, of them {others} others, and {len(found) - len(set(found))} twice"
    )


def _json(path: Path) -> Item:
    found: Item = json.loads(path.read_text(encoding="utf-8"))
    return found


def _list(path: Path) -> list[Item]:
    found: list[Item] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
