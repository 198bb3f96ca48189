"""One cohort through all three destinations: the same players, the same holdout, and unsubscribed players stay out."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cohort_flywheel.destinations.pinpoint.layout import CHANNEL
from cohort_flywheel.runs.names import endpoint_id
from cohort_flywheel.segment.contacts import is_held_out
from local import seed
from local.servers import Servers
from tests.cohort_flywheel.dag_simulator import TODAY, YESTERDAY, DagSimulator
from tests.cohort_flywheel.destinations.customer_profiles.profiles_domain import Domain
from tests.cohort_flywheel.destinations.ses.ses_account import Account

NAMES = ("customer_profiles", "ses", "pinpoint")
PLAYERS = [f"player-{number:02d}" for number in range(40)]
#: Yesterday's graph has all but the last ten, today's all but the first ten.
DAYS = {YESTERDAY: PLAYERS[:30], TODAY: PLAYERS[10:]}
HELD = {player for player in PLAYERS if is_held_out(player, 20)}
#: Three who are in both days' segments.
SOMEBODY, ANOTHER, OTHER = [player for player in PLAYERS[10:30] if player not in HELD][:3]


class Studio(DagSimulator):
    """Forty players, two days of snapshots, a holdout of a fifth; and what the destination says of its segment."""

    def __init__(self, name: str, *where: Any) -> None:
        super().__init__(name, *where)
        self.account, self.domain = Account(self.servers, self.config), Domain(self.servers, self.config)
        self.edit("holdout_percent: 0", "holdout_percent: 20")
        self.contacts(PLAYERS)
        for day, players in DAYS.items():
            self.snapshot(day, dict.fromkeys(players, 3))

    def ends(self, day: Any, outcome: str = "imported", **how: Any) -> dict[str, Any]:
        report = self.simulate(day, **how)
        assert (report["outcome"], report["faults"], report["errors"]) == (outcome, [], {})
        return report

    def members(self, report: dict[str, Any]) -> set[str]:
        """Who may be mailed by the segment of a run, as the destination has it."""
        if self.name == "customer_profiles":
            return players_of(self.domain.members())
        if self.name == "ses":  # the file says who is mailed, and the list who has unsubscribed
            subscribed = {address for address, has_left in self.account.contacts.items() if not has_left}
            return players_of(row["address"] for row in self.rows(report)) & players_of(subscribed)
        by_id = {endpoint_id(CHANNEL, player): player for player in PLAYERS}
        app = self.run.outputs["plan"]["pinpoint_application_id"]
        (state,) = (each for each in pinpoint_state(self.servers)["applications"] if each["id"] == app)
        opted_out = {each["Id"] for each in state["endpoints"] if each.get("OptOut") == "ALL"}
        (segment,) = (each for each in state["segments"] if each["Id"] == report["imported"]["segment_id"])
        return {by_id[each] for each in segment["Members"] if each not in opted_out}

    def unsubscribe(self, player: str) -> None:
        """At the destination, by whatever a player meets there."""
        if self.name == "ses":
            self.account.unsubscribe(f"{player}@example.com")
        elif self.name == "pinpoint":
            seed.client("pinpoint", self.servers, self.config).update_endpoint(
                ApplicationId=self.run.outputs["plan"]["pinpoint_application_id"],
                EndpointId=endpoint_id(CHANNEL, player), EndpointRequest={"OptOut": "ALL"},
            )  # fmt: skip
        else:  # Connect has no such thing: the studio's page writes the contacts table, and perhaps the profile
            self.contacts([player], emailConsent="no")


def pinpoint_state(servers: Servers) -> Any:
    with urllib.request.urlopen(f"{servers.aws_url}/cohort-flywheel/pinpoint", timeout=10) as answer:  # noqa: S310 - our own server
        return json.load(answer)


def players_of(addresses: Any) -> set[str]:
    return {address.partition("@")[0] for address in addresses}


@pytest.fixture
def house(
    airflow_env: Any, servers: Any, fresh_config: Any, seeded: Any, fresh_seeded: Any, pinpoint: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:  # fmt: skip
    ours = seeded._replace(application_id=fresh_seeded.application_id, role_arn=fresh_seeded.role_arn)
    made: list[Studio] = []

    def make(name: str) -> Studio:
        made.append(Studio(name, servers, fresh_config, ours, tmp_path, monkeypatch))
        return made[-1]

    yield make
    for each in made:
        each.account.control(reset=True)
        each.domain.control(reset=True)


# --- the same players ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_same_players_and_holdout_and_the_joiners_and_leavers_of_day_two(
    house: Callable[[str], Studio], name: str
) -> None:
    """The expected players do not depend on the destination, so they are the same at all three."""
    one = house(name)
    one.contacts([OTHER], emailConsent="no")
    found = []
    for day, players in DAYS.items():
        report = one.ends(day)
        expected = set(players) - HELD - {OTHER}
        assert {row["playerId"] for row in one.rows(report)} == one.members(report) == expected
        assert report["segment"]["rows"] == report["imported"]["segment_size"] == len(expected)
        assert one.rejected(report) == {"holdout": HELD & set(players), "opted_out": {OTHER}}
        found.append(one.members(report))
    first, second = found
    assert (second - first, first - second) == (set(PLAYERS[30:]) - HELD, set(PLAYERS[:10]) - HELD)
    if name == "customer_profiles":
        left = one.domain.attribute(*sorted(set(PLAYERS[:10]) - HELD))
        assert set(left.values()) == {"out"}


# --- unsubscribed players ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_unsubscribed_contact_is_unchanged(house: Callable[[str], Studio], name: str) -> None:
    """Before a run, and between a run's segment file and its import job."""
    one = house(name)
    assert {SOMEBODY, ANOTHER, OTHER} < one.members(one.ends(YESTERDAY))
    one.unsubscribe(SOMEBODY)
    report = one.ends(TODAY, before={"create_import_job": lambda: one.unsubscribe(ANOTHER)})
    assert ANOTHER in {row["playerId"] for row in one.rows(report)}, "the file was made before"
    # an upload to Customer Profiles sets the players of the released file: recipients are checked again before
    # it starts (test_campaigns.py), and the next run sets them out
    late = {ANOTHER} if name == "customer_profiles" else set()
    assert {SOMEBODY, ANOTHER, OTHER} & one.members(report) == {OTHER} | late
    assert {SOMEBODY, ANOTHER, OTHER} & one.members(one.ends(TODAY)) == {OTHER}
    if name == "customer_profiles":
        assert set(one.domain.attribute(SOMEBODY, ANOTHER).values()) == {"out"}
