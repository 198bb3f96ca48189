"""Generated vertices, records and list entries: each kind of value once, and ordinary players between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Item = dict[str, Any]

#: The scores of a vertex, as literals of Groovy. The threshold is 2, the floor 0.
SCORES = (
    "[3]", "[7]", "[3.5d]", "[4.0d]", "[1, 9]", "[2]", "[2.5f]", "[9007199254740992L]", "[1]", "[3, 3L]", "[(byte) 5]",
    "[1e20d]", "[0.1d, 2.0001d]", "[12345678901L]",
)  # fmt: skip
STATUS = ("['Active']", "['Active']", "['Active', 'Active']", "['Inactive']", "['Active', 'Inactive']", "[]", "[true]")
#: playerIds that an engine may write, sort or compare in another way.
ODD_IDS = (
    "a,b", 'quo"ted', "ünï", "名前", "\U0001f409dragon", "Zebra", "zebra", "=1+1", "-2", "0", "007", "7", "1e3", "null",
    "true", "mail@example.com", "two words", "#hash", "#two,words", "line\nbreak", "carriage\rreturn", "tab\t",
    "x" * 101,
    "semi;colon", "back\\slash", "'single'", "é", "e\u0301",
)  # fmt: skip
#: What is in place of an ordinary record's attribute; None takes it out. The types are DynamoDB's.
CHANGES: tuple[tuple[str, Item | None], ...] = (
    ("email", None), ("email", {"S": ""}), ("email", {"N": "5"}), ("email", {"NULL": True}),
    ("email", {"S": "no at sign"}), ("email", {"S": "two@@example.com"}), ("email", {"S": "Upper.Case@EXAMPLE.Com"}),
    ("email", {"S": "Postmaster@example.com"}), ("email", {"S": "user@b\u00fccher.example.com"}),
    ("email", {"S": "\u00fcser@example.com"}), ("email", {"S": "user@xn--bcher-kva.example.com"}),
    ("email", {"S": '"quo ted"@example.com'}), ("email", {"S": " blank@example.com"}),
    ("email", {"S": "user@invalid"}), ("email", {"S": "user@sub.test"}), ("email", {"S": "shared@example.com"}),
    ("email", {"S": "shared@example.com"}), ("email", {"S": "Listed@Example.com"}), ("email", {"S": "#a@example.com"}),
    ("emailConsent", None), ("emailConsent", {"S": "no"}), ("emailConsent", {"BOOL": True}),
    ("emailConsent", {"BOOL": False}), ("emailConsent", {"N": "1"}), ("emailConsent", {"S": "Yes"}),
    ("emailConsent", {"S": ""}), ("firstName", None), ("firstName", {"S": ""}), ("firstName", {"S": "\u200b "}),
    ("firstName", {"N": "12.50"}), ("firstName", {"BOOL": True}), ("firstName", {"L": [{"S": "x"}]}),
    ("firstName", {"M": {}}), ("firstName", {"SS": ["a"]}), ("firstName", {"B": b"x"}), ("firstName", {"NULL": True}),
    ("firstName", {"S": "Ann, Jr."}), ("firstName", {"S": 'Ann "Ace"'}), ("firstName", {"S": "x" * 100}),
    ("firstName", {"S": "x" * 101}), ("firstName", {"S": "a\nb"}), ("firstName", {"S": "a\rb"}),
    ("firstName", {"S": "a\tb"}), ("firstName", {"S": "a\u2028b"}), ("lastName", {"S": "=1+1"}),
    ("lastName", {"S": "#1"}), ("lastName", {"S": "# one, two"}), ("lastName", {"S": "-1"}),
    ("lastName", {"S": "O'Neil"}), ("lastName", {"S": "\u00d1\u00fa\u00f1ez \u0141"}),
    ("lastName", {"S": "\U0001f409"}),
    ("level", None), ("level", {"N": "1E+3"}), ("level", {"N": "-0.10"}), ("level", {"N": "12345678901234567890"}),
    ("level", {"S": "high"}), ("favoriteRole", None), ("favoriteRole", {"N": "3"}),
)  # fmt: skip
LISTED = (
    "# not a comment", "listed@EXAMPLE.com", "", "player-009", "PLAYER-017", "  player-037  ", "unknown@example.com",
    "ünï", "mail@example.com", "Success+43@Simulator.AmazonSES.com",
)  # fmt: skip


def player_ids() -> list[str]:
    """An id for each kind of record, an ordinary one after each, and the odd ids."""
    return [f"player-{number:03d}" for number in range(2 * len(CHANGES))] + list(ODD_IDS)


def vertices() -> Iterator[str]:
    """The steps of Groovy that give a vertex its properties; in an order that is not that of the ids."""
    owners = [[player_id] for player_id in player_ids()]
    owners += [[], [""], ["one", "other"], ["same", "same"], ["player-001"], ["player-003"], ["player-003"]]
    for number, owner in enumerate(reversed(owners)):
        steps = [f".property('playerId', {_groovy(each)})" for each in owner]
        for name, values in (("ea_atrisk", SCORES[number % len(SCORES)]), ("status", STATUS[number % len(STATUS)])):
            if values != "[]":
                steps += [f".property('{name}', {value})" for value in values[1:-1].split(", ")]
        yield "".join(steps)


def records() -> Iterator[Item]:
    """The items of the contacts table; some players have none."""
    ids = player_ids()
    for number, player_id in enumerate(ids):
        item = {
            "playerId": {"S": player_id}, "email": {"S": f"success+{number}@simulator.amazonses.com"},
            "firstName": {"S": "Jo"}, "lastName": {"S": "Park"}, "favoriteRole": {"S": "Tank"}, "level": {"N": "7"},
            "emailConsent": {"S": "yes"},
        }  # fmt: skip
        if number < 2 * len(CHANGES) and number % 2 == 0:
            name, value = CHANGES[number // 2]
            item = {key: each for key, each in (item | {name: value}).items() if each is not None}
        if number % 20 != 19:
            yield item


def _groovy(text: str) -> str:
    escaped = "".join(c if c.isascii() and c.isalnum() else f"\\u{u:04x}" for c in text for u in _utf_16(c))
    return f"'{escaped}'"


def _utf_16(character: str) -> list[int]:
    data = character.encode("utf-16-be")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
