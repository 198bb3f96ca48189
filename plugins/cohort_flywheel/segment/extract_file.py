"""The extract: one record per line, sorted by playerId, cut into shards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import batched, chain, islice
from operator import lt
from typing import Any, BinaryIO

import msgspec
import orjson

from cohort_flywheel.common.duckdb import BATCH, quoted
from cohort_flywheel.config.data_schema import PLAYER_ID
from cohort_flywheel.config.decimals import MAX_INT
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.segment.members import Member, Members, is_score
from cohort_flywheel.segment.outputs import Shard

#: The members of a shard, less than a minute of work beside the some five seconds in which Airflow starts a task; more
#: if there would be more shards than Airflow maps.
SHARD_MEMBERS = 250_000
#: The lines that are read at a time.
LINES = 200
#: Airflow's `max_map_length`, which MWAA does not raise.
MAX_SHARDS = 1024


def shard_size(members: int, shard_members: int | None = None) -> int:
    return max(shard_members or SHARD_MEMBERS, -(-members // MAX_SHARDS))


def extract_records(members: Members, property: str) -> Iterator[str]:
    """The seed's record of each member, sorted by playerId: `{"playerId":["wayne96"],"ea_atrisk":[3]}`."""
    whole = f"score = trunc(score) AND abs(score) <= {MAX_INT}"  # as `plain_score`
    score = f"CASE WHEN {whole} THEN score::BIGINT::VARCHAR ELSE score::VARCHAR END"
    name = quoted(json.dumps(property))
    for (record,) in members.rows(
        f"""'{{"playerId":[' || to_json(player_id) || '],' || {name} || ':[' || {score} || ']}}'"""
    ):
        yield record


def write_extract(records: Iterable[str], file: BinaryIO, size: int = SHARD_MEMBERS) -> list[Shard]:
    """Write the seed's format, `[{"playerId": ["wayne96"], "ea_atrisk": [3]}, …]`: valid JSON, one record per line.

    Returns the shards, each of `size` members, the last one of fewer. Every member is in exactly one shard; an empty
    cohort has one empty shard. Their `of`, the digest of the file, is empty until the file is closed.
    """
    starts: list[int] = []
    number, end, separator, remaining = 0, file.write(b"["), b"\n", iter(records)
    while batch := list(islice(remaining, min(BATCH, size - number % size))):
        if number % size == 0:
            starts.append(end + len(separator))
        end += file.write(separator + ",\n".join(batch).encode())
        number, separator = number + len(batch), b",\n"
    file.write(b"\n]\n" if starts else b"]\n")
    ends = [*(start - len(separator) for start in starts[1:]), end if starts else 0]
    return [
        Shard(index=index, first=first, bytes=last - first, members=min(size, number - index * size), size=size, of="")
        for index, (first, last) in enumerate(zip(starts or [0], ends, strict=True))
    ]


def read_shard(lines: Iterable[bytes], property: str, members: int) -> Iterator[Member]:
    """Read the lines of one shard; raises FlywheelError like read_extract, and for another number of members."""
    number = 0
    for member in read_extract(chain([b"["], lines, [b"]"]), property):
        number += 1
        yield member
    if number != members:
        raise FlywheelError(
            f"the shard has {number} members and not {members}: write the extract again", code=Code.FILE_CHANGED
        )


def read_extract(lines: Iterable[bytes], property: str) -> Iterator[Member]:
    """Read an extract, some lines at a time.

    Raises FlywheelError, with the line number and not the text, for any other format than ours: one record per line,
    sorted by playerId, each playerId once, and the closing bracket, without which the file is truncated.
    """
    last, number, text = "", 0, b""
    decoder = _decoder(property)
    for some in batched(lines, LINES):
        members = decoder and _read_records(some, decoder)
        if not members or members[0].player_id <= last:
            members = [*_read_lines(some, property, number, last)]
        if members:
            last = members[-1].player_id
            yield from members
        text = next(filter(None, map(bytes.strip, reversed(some))), text)
        number += len(some)
    if text.rstrip(b",") not in (b"]", b"[]"):
        raise FlywheelError(f"the extract is truncated after line {number}: write it again", code=Code.FILE_CHANGED)


def _read_lines(lines: Iterable[bytes], property: str, before: int, last: str) -> Iterator[Member]:
    """Read the lines after line number `before`, whose playerId is `last`."""
    for number, line in enumerate(lines, start=before + 1):
        text = line.strip().rstrip(b",")
        if text in (b"", b"[", b"]", b"[]"):
            continue
        try:
            record = orjson.loads(text)
            (player_id,), (score,) = record["playerId"], record[property]
            ours = isinstance(record["playerId"], list) and isinstance(record[property], list) and is_score(score)
            if not ours or not player_id.encode():
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FlywheelError(
                f"line {number} of the extract is not a record with one playerId and one {property}:"
                " write one record per line, as this package does",
                code=Code.FILE_CHANGED,
            ) from None
        if player_id <= last:
            raise FlywheelError(
                f"line {number} of the extract does not come after the one before: sort it by playerId, each once",
                code=Code.FILE_CHANGED,
            )
        last = player_id
        yield Member(player_id, score)


@cache
def _decoder(property: str) -> msgspec.json.Decoder[Any] | None:
    """The decoder of a record; None for a name that msgspec does not take."""
    fields = [("player_id", tuple[str]), ("score", tuple[int | float])]
    names = {"player_id": PLAYER_ID, "score": property}
    with suppress(ValueError):
        return msgspec.json.Decoder(msgspec.defstruct("_Record", fields, rename=names, gc=False))
    return None


def _read_records(lines: Sequence[bytes], decoder: msgspec.json.Decoder[Any]) -> list[Member] | None:
    """Read lines that are all records, sorted by playerId; return None for any others, which `_read_lines` reads."""
    if not all(line.startswith(b"{") for line in lines):
        return None
    try:
        records = decoder.decode_lines(b"\n".join(lines).replace(b",\n", b"\n").rstrip(b",\n"))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    ids, scores = [each.player_id[0] for each in records], [each.score[0] for each in records]
    if (
        len(ids) != len(lines)
        or not all(map(lt, ids, ids[1:]))
        or not -MAX_INT <= min(scores) <= max(scores) <= MAX_INT
    ):
        return None
    return [*map(Member, ids, scores)]
