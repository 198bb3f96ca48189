"""Read the records in answers of BatchGetItem."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from itertools import chain

import msgspec
from boto3.dynamodb.types import TypeDeserializer

from cohort_flywheel.common.records import AwsStructure

#: The records of some keys, by key.
Records = Mapping[str, dict[str, object]]


def read_records(answer: AwsStructure, key_attribute: str) -> dict[str, dict[str, object]]:
    """Return the records of an answer, by key."""
    found: dict[str, dict[str, object]] = {}
    # of the one table: its key may be its name where the request has its ARN
    for item in chain.from_iterable(answer["Responses"].values()):
        record = {name: value["S"] if "S" in value else _deserialize(value) for name, value in item.items()}
        found[str(record[key_attribute])] = record
    return found


def unprocessed(answer: AwsStructure) -> AwsStructure:
    """Return the request for the keys of the one table that an answer leaves; empty if it leaves none."""
    return next(iter((answer.get("UnprocessedKeys") or {}).values()), {})


class _WireDeserializer(TypeDeserializer):
    """boto3's deserializer, also for binary values that are still base64 text."""

    def _deserialize_b(self, value: object) -> object:
        return super()._deserialize_b(b64decode(value) if isinstance(value, str) else value)


_deserialize = _WireDeserializer().deserialize


class _Text(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    S: str


class _Texts(msgspec.Struct):
    """An answer with nothing but texts."""

    Responses: dict[str, list[dict[str, _Text]]]
    UnprocessedKeys: dict[str, object] = {}


_TEXTS = msgspec.json.Decoder(_Texts)


def read_texts(body: bytes, key_attribute: str) -> Records | None:
    """Return the records of a whole answer that has nothing but texts, as most have; None for any other."""
    try:
        answer = _TEXTS.decode(body)
        items = chain.from_iterable(answer.Responses.values())
        found: Records = {item[key_attribute].S: {name: value.S for name, value in item.items()} for item in items}
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return None
    return None if answer.UnprocessedKeys else found
