"""Validate an uploaded extract while streaming it."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from cohort_flywheel.common.encoding import check_not_utf_16
from cohort_flywheel.common.records import Json
from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.runs.names import UPLOADED_FOLDER
from cohort_flywheel.segment.members import Vertex, is_score, usable_player_id

#: The maximum size of a file, about twenty million records.
MAX_BYTES = 2**30
#: The maximum length of a record, which is held in memory.
MAX_RECORD_CHARACTERS = 2**16
#: The maximum length of a table's key [DynamoDB: constraints, partition key length].
MAX_PLAYER_ID_BYTES = 2048

# S3's safe characters, which need no encoding in an event, a URL or a log [S3: naming objects]
_URI = re.compile(r"s3://([^/]+)/([A-Za-z0-9!_.*'()/-]+)")
_BLANK = re.compile(r"[ \t\r\n]*")


def uploaded_extract_key(uri: str, export_bucket: str) -> str:
    """Return the key of `s3://<export bucket>/dropped/<key>`; raise FlywheelError for any other address."""
    found = _URI.fullmatch(uri)
    if not found or found[1] != export_bucket or not found[2].startswith(UPLOADED_FOLDER) or found[2].endswith("/"):
        raise FlywheelError(
            f"extract_uri is not a file below s3://{export_bucket}/{UPLOADED_FOLDER}: upload it there, under a name of"
            " letters, digits and !_.*'()/- only, and give that address",
            code=Code.UPLOAD_PLACE,
        )
    return found[2]


def read_uploaded_extract(
    chunks: Iterable[bytes], uri: str, *, property: str, direction: Direction, required: Iterable[str] = ()
) -> Iterator[Vertex]:
    """Read `[{"playerId": ["wayne96"], "ea_atrisk": [3]}, …]`, UTF-8, with line breaks anywhere; a record is a vertex.

    Like a vertex, a record may have several values, and no playerId. Raises FlywheelError, with the numbers of the
    record and its line and not their text, for anything else, and for a truncated file.
    """
    like = f'write each record like {{"playerId": ["…"], "{property}": [1]}}'
    for number, line, record in _records(chunks, uri):
        where = f"record {number} of {uri}, on line {line},"
        players, scores = record.get("playerId", []), record.get(property)
        if not isinstance(players, list) or not all(map(_is_player_id, players)):
            raise FlywheelError(
                f"{where} has a playerId that is not in a list, is not text, or is longer than {MAX_PLAYER_ID_BYTES:,}"
                f" bytes: {like}",
                code=Code.UPLOAD_CONTENT,
            )
        if not isinstance(scores, list) or not scores or not all(map(is_score, scores)):
            raise FlywheelError(
                f"{where} has no list of finite numbers as its {property}: {like}", code=Code.UPLOAD_CONTENT
            )
        properties: Json = {name: record.get(name) for name in required}
        if missing := [name for name, values in properties.items() if not isinstance(values, list)]:
            raise FlywheelError(
                f"{where} has no list as its {', '.join(missing)}, which the cohort's `where` names: write"
                " the values beside the score",
                code=Code.UPLOAD_CONTENT,
            )
        score = max(scores) if direction == "above" else min(scores)
        yield Vertex(usable_player_id(players), score, properties)


def _is_player_id(value: object) -> bool:
    return isinstance(value, str) and len(value.encode(errors="replace")) <= MAX_PLAYER_ID_BYTES


def _records(chunks: Iterable[bytes], uri: str) -> Iterator[tuple[int, int, Json]]:
    """Yield the number, line and value of each record of a JSON list as they arrive."""
    decode, parse = codecs.getincrementaldecoder("utf-8-sig")().decode, json.JSONDecoder().raw_decode
    text, line, number, may = "", 1, 0, "["  # `may`: the allowed next characters
    rest, start = iter(chunks), b""
    while len(start) < 2 and (more := next(rest, None)) is not None:
        start += more
    check_not_utf_16(start, uri, Code.UPLOAD_CONTENT)
    for chunk in chain((start,), rest, (None,)):
        try:
            text += decode(chunk or b"", final=chunk is None)
        except UnicodeDecodeError:
            raise FlywheelError(
                f"{uri} is not UTF-8 after line {line}: write plain JSON, not compressed", code=Code.UPLOAD_CONTENT
            ) from None
        at = 0
        while True:
            at, line = _skip_blank(text, at, line)
            if at == len(text):
                break
            if text[at] not in may:
                write = f"write {' or '.join(may)} there" if may else "nothing may follow its end"
                raise FlywheelError(
                    f"line {line} of {uri}, after {number} records, is not a list of records: {write}",
                    code=Code.UPLOAD_CONTENT,
                )
            if text[at] != "{":
                may = {"[": "{]", ",": "{", "]": ""}[text[at]]
                at += 1
                continue
            try:
                record, end = parse(text, at)
            except (ValueError, RecursionError):
                record, end = None, len(text)
            is_too_long = end - at > MAX_RECORD_CHARACTERS
            if record is None and chunk is not None and not is_too_long:
                break  # the rest may be in the next chunk
            if record is None or is_too_long:
                raise FlywheelError(
                    f"record {number + 1} of {uri}, on line {line}, is not JSON, is truncated, or is longer than"
                    f" {MAX_RECORD_CHARACTERS:,} characters: upload the whole file again",
                    code=Code.UPLOAD_CONTENT,
                )
            number += 1
            yield number, line, record
            line += text.count("\n", at, end)
            at, may = end, ",]"
        text = text[at:]
    if may:
        raise FlywheelError(
            f"{uri} is truncated after {number} records: upload the whole file again; a file without players is []",
            code=Code.UPLOAD_CONTENT,
        )


def _skip_blank(text: str, at: int, line: int) -> tuple[int, int]:
    """Return the position after blanks, and its line."""
    blank = _BLANK.match(text, at)
    end = blank.end() if blank else at
    return end, line + text.count("\n", at, end)
