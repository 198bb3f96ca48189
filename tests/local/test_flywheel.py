"""`make flywheel`, as a newcomer runs it; graph, suppressions and effect by the truth that the emulation kept."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import scipy  # its modules are imported when they are used

from cohort_flywheel.engagement.suppressions import suppression_key
from local import config
from local.config import ROOT
from local.flywheel_sums import Turned, checks
from tests.local.test_demo import MARK, marked

HERE = ROOT / ".local" / "flywheel"
STATE = config.load(environ={}).state_bucket

pytestmark = pytest.mark.nightly  # a minute, on an idle machine


class Command(NamedTuple):
    """What the command printed, and what it left."""

    code: int
    output: str
    left_running: list[str]
    turned: Turned


@pytest.fixture(scope="module")
def command() -> Command:
    value = uuid.uuid4().hex
    run = subprocess.run(
        [sys.executable, "-m", "local", "flywheel"],
        cwd=ROOT, env=os.environ | {MARK: value}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]
    return Command(run.returncode, run.stdout, marked(value), Turned.read(HERE, STATE))


def players(events: list[dict[str, Any]], kind: str, *, bots: bool = True) -> Counter[str]:
    """The players of the events of a type, and how many each has."""
    found = Counter[str]()
    for each in events:
        if each["eventType"] == kind and (bots or each[kind.lower()].get("isBotEvent") != "Likely"):
            (address,) = each["mail"]["destination"]
            found[re.sub(r"^\w+\+|@.*", "", address)] += 1
    return found


def test_it_prints_the_sums_and_leaves_nothing_running(command: Command, figure: Callable[[str], None]) -> None:
    numbers = {name: int(number) for name, number in re.findall(r"^  (\w[\w ]*?) +(-?\d+)  ", command.output, re.M)}
    assert numbers["members of ea_atrisk"] + numbers["held out"] > numbers["mailed"] > 200
    assert numbers["records"] + numbers["repeated"] == numbers["events"] == len(command.turned.events)
    assert numbers["messages"] == numbers["mailed"]
    assert numbers["members of clicked"] > numbers["in the segment"] > 0, "some who clicked have unsubscribed since"
    assert len(re.findall(r" mailed and .* held out ", command.output)) >= 2
    assert "figures agree" in command.output
    assert "DIFFERENT" not in command.output
    assert command.left_running == []
    figure(f"the flywheel: {command.output.rstrip().splitlines()[-2]}")


def test_the_suppression_list_has_the_addresses_and_players_of_the_feedback(command: Command) -> None:
    salt = bytes.fromhex(json.loads((HERE / STATE / "erasure" / "salt").read_text(encoding="utf-8"))["salt"])
    expected = set()
    kinds = {"Bounce": "bounced", "Complaint": "complained", "Subscription": "unsubscribed"}
    for each in command.turned.events:
        if reason := kinds.get(each["eventType"]):
            (address,) = each["mail"]["destination"]
            expected.add(("address", suppression_key(salt, "address", address), reason))
            if reason != "bounced":
                (player,) = players([each], each["eventType"])
                expected.add(("player", suppression_key(salt, "player", player), reason))
    with (HERE / STATE / "engagement" / "suppressions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert {tuple(row[:3]) for row in rows} == expected
    assert {row[4] for row in rows} == {"suppressed"}
    assert min(Counter(reason for *_, reason in expected).values()) >= 2


def test_the_graph_has_the_clicks_and_opens_without_those_of_bots(command: Command) -> None:
    events, graph = command.turned.events, command.turned.graph
    clicks, opens = (players(events, kind, bots=False) for kind in ("Click", "Open"))
    found = {name: Counter[str]() for name in ("eng_clicks_30d", "eng_opens_30d")}
    for vertex in graph["players"]:
        (player,) = vertex["playerId"]
        for name, numbers in found.items():
            numbers[player] = max(numbers[player], *vertex[name], 0)
    assert (+found["eng_clicks_30d"], +found["eng_opens_30d"]) == (clicks, opens)
    assert clicks.keys() < players(events, "Click").keys(), "a bot clicked alone"
    assert len(graph["players"]) == 1000, "no vertex was created"
    assert {edge["to"] for edge in graph["edges"]} == {f"eng-campaign-{_tag(events)}"}


def _tag(events: list[dict[str, Any]]) -> str:
    (tag,) = {each["mail"]["tags"]["launch"][0] for each in events}
    return str(tag)


def test_the_effect_is_that_of_the_scores_with_newcombes_interval(command: Command) -> None:
    """Newcombe 1998, method 10, by the two Wilson intervals."""
    turned = command.turned
    (launch,) = turned.engagement[2]["effects"]["launches"]
    effect, after = launch["launch_holdout"], turned.scores["day 2"]
    mailed, held_out = list(players(turned.events, "Send")), turned.held_out
    shares = [sum(after[player] <= 0 for player in group) / len(group) for group in (mailed, held_out)]
    (low_1, high_1), (low_2, high_2) = (
        _wilson(share, len(group)) for share, group in zip(shares, (mailed, held_out), strict=True)
    )
    difference = shares[0] - shares[1]
    low = difference - math.hypot(shares[0] - low_1, high_2 - shares[1])
    high = difference + math.hypot(high_1 - shares[0], shares[1] - low_2)
    left = effect["left"]
    assert (left["difference"], left["low"], left["high"]) == pytest.approx((difference, low, high), abs=1e-6)
    assert left["verdict"] == "higher"
    assert low < 0.25 < high, "the rule makes 40 of a hundred less, instead of 15"


def _wilson(share: float, number: int) -> tuple[float, float]:
    z = scipy.stats.norm.ppf(0.975)
    middle, width = share + z * z / (2 * number), z * math.sqrt((share * (1 - share) + z * z / (4 * number)) / number)
    return (middle - width) / (1 + z * z / number), (middle + width) / (1 + z * z / number)


@pytest.mark.parametrize(
    ("kind", "figure_name"),
    [
        ("Bounce", "suppressed addresses after day 3"), ("Click", "messages that were clicked"),
        ("Complaint", "suppressed players after day 3"), ("Delivery", "messages by their states"),
        ("Open", "messages that were opened"), ("Send", "players compared, mailed"),
        ("Subscription", "messages that were unsubscribed"),
    ],
)  # fmt: skip
def test_a_player_whose_events_are_lost_is_noticed(command: Command, kind: str, figure_name: str) -> None:
    player = min(players(command.turned.events, kind))
    less = [each for each in command.turned.events if each["eventType"] != kind or player not in players([each], kind)]
    wrong = {each.what for each in checks(_replace(command.turned, events=less)) if each.expected != each.found}
    assert figure_name in wrong


def test_another_score_is_noticed(command: Command) -> None:
    scores = json.loads(json.dumps(command.turned.scores))
    scores["day 2"][command.turned.held_out[0]] += 1
    wrong = {each.what for each in checks(_replace(command.turned, scores=scores)) if each.expected != each.found}
    assert "mean change of the scores, held_out" in wrong


def _replace(turned: Turned, **changes: Any) -> Turned:
    return Turned(**vars(turned) | changes)
