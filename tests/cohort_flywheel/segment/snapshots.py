"""Snapshots of given vertices, and extracts of given members."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.members import Member, Members, Score, Vertex
from cohort_flywheel.segment.snapshot import Header, read_vertices, write_snapshot


def snapshot_file(folder: Path, header: Header, vertices: Iterable[Vertex], memory_mb: int | None = None) -> Path:
    """Write a snapshot into a folder; return its path."""
    path = folder / "snapshot.parquet"
    with Members(folder, direction=header.direction, threshold=header.floor, memory_mb=memory_mb) as members:
        members.add(vertices)
        write_snapshot(members, header, path)
    return path


def records_of(members: Iterable[Member], property: str) -> Iterator[str]:
    """The records of an extract."""
    return (json.dumps({"playerId": [player_id], property: [score]}) for player_id, score in members)


def keep_snapshot(
    state: State, header: Header, scores: Mapping[str, Score] | Iterable[Vertex], *, final: bool = False
) -> str:
    """Put a snapshot of players into the state bucket; return its key."""
    vertices = (Vertex(*each) for each in scores.items()) if isinstance(scores, Mapping) else scores
    with TemporaryDirectory() as folder:
        key = state.put_snapshot(snapshot_file(Path(folder), header, vertices), header)
        if not final:
            return key
        return state.make_final(header.cohort, header.as_of, key, Path(folder)).key


def vertices_of(state: State, snapshot_key: str) -> list[Vertex]:
    """The vertices of a snapshot in the state bucket."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.parquet"
        state.fetch_snapshot(snapshot_key, path)
        return list(read_vertices(path))


def players_of(content: bytes) -> Iterator[str]:
    """The playerIds of a snapshot's bytes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.parquet"
        path.write_bytes(content)
        yield from [vertex.player_id or "" for vertex in read_vertices(path)]
