"""The sample has the modeler's counts, in Python and in the graph, and no address of a real inbox."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gremlin_python.driver.driver_remote_connection import DriverRemoteConnection
from gremlin_python.process.anonymous_traversal import traversal
from gremlin_python.process.graph_traversal import GraphTraversalSource
from gremlin_python.process.traversal import P

from local import sample
from local.__main__ import main
from local.config import ROOT
from local.neptune_csv import LOAD_ORDER, elements
from local.seed import Seeded
from local.servers import Servers

MODELER = ROOT.parent / "shared" / "cohort-modeler"
COUNTS = [
    ("ea_atrisk", "above", 2, 3, 3),
    ("ea_atrisk", "above", 1, 53, 53),
    ("ea_atrisk", "above", 0, 349, 348),
    ("ea_reputation", "below", -75, 4, 4),
]


@pytest.fixture(scope="module")
def g(servers: Servers, seeded: Seeded) -> Iterator[GraphTraversalSource]:
    connection = DriverRemoteConnection(servers.gremlin_url, "g")
    yield traversal().with_(connection)
    connection.close()


@pytest.mark.parametrize(("name", "direction", "threshold", "vertices", "members"), COUNTS)
def test_counts(
    g: GraphTraversalSource, name: str, direction: str, threshold: int, vertices: int, members: int
) -> None:
    assert sample.count_beyond(sample.players(), name, threshold, direction) == (vertices, members)
    beyond = P.gt(threshold) if direction == "above" else P.lt(threshold)
    found = g.V().has_label("player").has(name, beyond).values("playerId").to_list()
    assert (len(found), len(set(found))) == (vertices, members)


def test_the_three_of_the_modeler() -> None:
    players = sample.players()
    assert (len(players), len({player["playerId"] for player in players})) == (1000, 994)
    assert {player["playerId"] for player in players if player["ea_atrisk"] == 3} == {"wayne96", "xortiz", "msmith"}
    assert sorted(int(p["ea_atrisk"]) for p in players if p["playerId"] == "msmith") == [1, 3]
    assert sample.count_beyond(players, "ea_atrisk", 3) == (0, 0)  # so that > 2 and >= 2 differ


@pytest.mark.parametrize(
    ("name", "threshold"), [("ea_altruism", 25), ("ea_duty", 6), ("ea_mischief", 2), ("ea_malice", 1)]
)
def test_every_cohort_has_some_but_not_all_players(name: str, threshold: int) -> None:
    assert 0 < sample.count_beyond(sample.players(), name, threshold)[1] < 100


def test_addresses_are_those_of_the_mailbox_simulator() -> None:
    written = [record["email"] for record in sample.contacts(sample.players()) if record.get("email")]
    well_formed = [address for address in written if re.fullmatch(r"[^@\s]+@[^@\s]+", address)]
    assert len(written) > 900
    assert {re.sub(r"\+[a-z0-9]+@", "+…@", address) for address in well_formed} == {
        f"{kind}+…@simulator.amazonses.com" for kind in ("success", "bounce", "complaint")
    }
    assert all("simulator.amazonses.com" in address for address in written)


def test_the_three_are_contacts() -> None:
    found = {record["playerId"]: record for record in sample.contacts(sample.players())}
    names = {key: tuple(found[key][name] for name in ("firstName", "lastName", "favoriteRole")) for key in sample.KNOWN}
    assert names == sample.KNOWN
    assert {found[key]["emailConsent"] for key in sample.KNOWN} == {"yes"}


@pytest.mark.parametrize("score", [1, 2])
def test_each_oddity_is_among_those_at_risk(score: int) -> None:
    players = sample.players()
    found = {record["playerId"]: record for record in sample.contacts(players)}
    at_risk = [str(player["playerId"]) for player in players if player["ea_atrisk"] == score]
    for kind in sample.KINDS:
        assert any(found.get(each) == sample.contact(each, kind) for each in at_risk), kind


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    assert main(["sample", str(tmp_path / "a")]) == 0
    sample.write(tmp_path / "b")
    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert names == sorted([*LOAD_ORDER, sample.CONTACTS_FILE])
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        if name in LOAD_ORDER:
            assert sum(1 for _ in elements(tmp_path / "a" / name)) > 0
    assert sample.players(seed=1) != sample.players(seed=2)


def test_many() -> None:
    players = list(sample.big(20_000))
    vertices, members = sample.count_beyond(players, "ea_atrisk", 0)
    assert vertices == members
    assert 0.33 < members / len(players) < 0.37
    assert players[:10] == list(sample.big(10))


@pytest.mark.skipif(not MODELER.is_dir(), reason="the Cohort Modeler's own data is not here")
def test_the_schema_is_the_modelers_and_the_rows_are_not(tmp_path: Path) -> None:
    sample.write(tmp_path)
    for name in LOAD_ORDER:
        with (MODELER / name).open(newline="") as theirs, (tmp_path / name).open(newline="") as ours:
            their_rows, our_rows = list(csv.reader(theirs)), list(csv.reader(ours))
        assert sorted(their_rows[0]) == sorted(our_rows[0])
        if name != "action_vertices.csv":  # the names of the actions are the schema's
            assert not {tuple(row) for row in their_rows[1:]} & {tuple(row) for row in our_rows[1:]}
    with (
        (MODELER / "user_vertices.csv").open(newline="") as theirs,
        (tmp_path / "user_vertices.csv").open(newline="") as ours,
    ):
        assert next(csv.reader(theirs)) == next(csv.reader(ours))
