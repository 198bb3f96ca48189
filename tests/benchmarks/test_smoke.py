"""The benchmark with a thousand players: every peer makes the same members, and the same rows. Nothing is timed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.config import Config
from local.servers import Servers
from tests.benchmarks import data, environments, rounds

N = 1000
#: The sample's players have none of it, so that both may be in one graph.
PROPERTY = "bench_atrisk"


@pytest.fixture(scope="module")
def graph(servers: Servers) -> Iterator[None]:
    """A thousand players more, for as long as this module's tests run."""
    data.load_graph(servers.gremlin_url, N, PROPERTY, lambda line: None)
    yield
    data.drop_graph(servers.gremlin_url, PROPERTY)


def floor(what: str) -> dict[str, str]:
    return {"file": f"floor_{what}.txt"}


@pytest.mark.nightly
def test_every_peer_makes_the_same_members(graph: None, servers: Servers, fresh_config: Config, tmp_path: Path) -> None:
    left_out = {}
    for name, install in {"wrangler": environments.wrangler_python, "tinkerpop": environments.tinkerpop_path}.items():
        try:
            install()
        except environments.CannotInstallError as error:
            left_out[name] = str(error)
    data.load_table(servers, fresh_config, N, lambda line: None)
    bench = rounds.Bench(servers, data.with_table(fresh_config, N), N, PROPERTY, tmp_path)
    for peer, stages in rounds.STAGES.items():
        if peer not in left_out:
            found = rounds.run(bench, peer, stages)
            assert list(found) == stages
    with pytest.raises(rounds.PeerFailedError):
        rounds.run(bench, "unknown", ["graph"])
    other = rounds.Bench(servers, bench.config, N - 1, PROPERTY, tmp_path / "other")
    for stage, outcome in {"graph": {"members": floor("members")}, "enrich": {"rows": floor("rows")}}.items():
        rounds.check(bench, stage, outcome)
        for file in tmp_path.glob("floor_*.txt"):
            shutil.copy(file, other.folder)
        with pytest.raises(rounds.WrongResultError):
            rounds.check(other, stage, outcome)
    if left_out:
        pytest.skip(f"the others agree; left out were {left_out}")
