"""Parse a line of a list of players, as an export, a spreadsheet or a mail program writes it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from html import unescape
from typing import NamedTuple
from urllib.parse import unquote

#: The fast path for most lines: one playerId or one address, which is its own normal form.
_ASCII_LABEL = "[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*"
_SIMPLE = re.compile(rf"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*(?:@{_ASCII_LABEL}(?:\.{_ASCII_LABEL})+)?")
#: A playerId of digits, in a column that a tool has read as decimal numbers.
_DECIMAL = re.compile(r"([0-9]+)\.0+")
#: A long number as a spreadsheet rounds it; the other digits are lost.
_ROUNDED = re.compile(r"[0-9](?:\.[0-9]+)?E\+[0-9]{2,}")
#: Removed at both ends: characters around an entry that are rarely part of it.
_AROUND = " \"'`<>()[]{}.,;:|*\\"
#: Typographic quotes, the punctuation of East Asian keyboards, and invisible characters that are not in the category
#: Cf: joiners, fillers and variation selectors.
_LOOK_ALIKES = str.maketrans(
    dict.fromkeys("‘’‚‛‹›′´ʹʼʻ", "'")
    | dict.fromkeys("“”„‟«»″〝〞〟「」『』", '"')
    | {"。": ".", "、": ",", "\u2800": "", "\u3164": "", "\uffa0": ""}
    | dict.fromkeys(map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810))), "")
    | dict.fromkeys(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))), "")
)
#: Replacements of other characters by Unicode category: dashes, brackets, quotes.
_BY_CATEGORY = {"Pd": "-", "Ps": "(", "Pe": ")", "Pi": '"', "Pf": '"'}
_FIELDS = re.compile(r"[,;\t|]")
_WORDS = re.compile(r'[\s<>()\[\]{}"=:,;|]+')
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
#: With length limits, because a search without them takes quadratic time on a long line.
_LOCAL_PART, _LABEL = r'[^\s<>()\[\]{},;:"|\\@]{1,256}', r'[^\s<>()\[\]{},;:"|\\@.*%/?&=]{1,256}'
_ADDRESSES = re.compile(rf"{_LOCAL_PART}@(?:{_LABEL}\.)+{_LABEL}")
#: Also found next to other characters, as in `email=jo@example.com`.
_ASCII_ADDRESSES = re.compile(rf"[A-Za-z0-9_.+'-]{{1,256}}@{_ASCII_LABEL}(?:\.{_ASCII_LABEL})+")
#: `jo (at) example [dot] com`
_AT, _DOT = (re.compile(rf"\s*[(\[{{]\s*{word}\s*[)\]}}]\s*", re.IGNORECASE) for word in ("at", "dot"))
#: Not `*@example.com`, nor `@example.com`.
_OF_A_PLAYER = re.compile(r"[^@*]*\w[^@*]*@")
_MORE_THAN_A_PLAYER_ID = re.compile(r'[,;\t|<>()\[\]{}"]|^mailto:', re.IGNORECASE)


class Entry(NamedTuple):
    """The possible playerIds (`texts`) and addresses of a line. A blank line has none."""

    texts: frozenset[str]
    addresses: frozenset[str]


def normal_form(text: str) -> str:
    """Return the form in which texts are compared, so that texts that look alike are equal.

    It has no invisible characters, no quotes, brackets or punctuation at its ends, and single blanks. Full-width
    forms, NFD, and typographic quotes and dashes are replaced by what one types (NFKC). The case is unchanged.
    """
    return text if _SIMPLE.fullmatch(text) else " ".join(_as_typed(text).split()).strip(_AROUND)


def read_entry(text: str) -> Entry | None:
    """Read a line; return None if it cannot be an address or a playerId.

    A line may have more than its entry: quotes, brackets, a name before the address, further columns, `mailto:`. Each
    possible reading is returned, so that the list excludes too many players rather than too few.
    """
    stripped = text.strip()
    if _SIMPLE.fullmatch(stripped):
        if _ROUNDED.fullmatch(stripped):
            return None
        return Entry(_with_whole_numbers([stripped]), frozenset([stripped] if "@" in stripped else []))
    if any(each == "\ufffd" or (each != "\t" and unicodedata.category(each) == "Cc") for each in stripped):
        return None  # UTF-16, or characters that a conversion lost
    typed = _as_typed(text)
    if not typed.strip():
        return Entry(frozenset(), frozenset())
    texts, addresses = _texts(typed), _addresses(typed)
    if "&" in typed or "%" in typed:  # from a web page, or a link
        decoded = _as_typed(unquote(unescape(text)))
        found = _addresses(decoded)
        texts, addresses = texts | _texts(decoded), None if found is None else found | (addresses or frozenset())
    if not texts or addresses is None or any(map(_ROUNDED.fullmatch, texts)):
        return None
    return Entry(texts | {stripped}, addresses)


def is_exact(text: str) -> bool:
    """Whether a line is exactly one playerId, without characters around or in it that may not belong to it."""
    return normal_form(text) == text and not _MORE_THAN_A_PLAYER_ID.search(text)


def _texts(typed: str) -> frozenset[str]:
    quoted = [each.replace('""', '"') for each in _QUOTED.findall(typed)]
    parts = map(normal_form, [typed, *_FIELDS.split(typed), *_WORDS.split(typed), *quoted])
    return _with_whole_numbers(parts) - {""}


def _with_whole_numbers(texts: Iterable[str]) -> frozenset[str]:
    found = frozenset(texts)
    return found | {whole[1] for each in found if (whole := _DECIMAL.fullmatch(each))}


def _addresses(text: str) -> frozenset[str] | None:
    """Return the addresses in a text; None if an `@` belongs to neither an address nor a playerId."""
    text = re.sub(r"\s*@\s*", "@", _DOT.sub(".", _AT.sub("@", text)))
    if "@" not in text:
        return frozenset()
    found = [each for each in map(normal_form, _ADDRESSES.findall(text)) if _OF_A_PLAYER.match(each)]
    if text.count("@") != len(found):
        whole = normal_form(text)
        if re.search(r"@[^@]*\.", whole) or len(_WORDS.split(whole)) > 1:
            return None
    plain = [normal_form(each) for each in _ASCII_ADDRESSES.findall(text)]
    return frozenset(found).union(plain, (each.lstrip("_") for each in plain))  # `_jo@example.com_`, as in Markdown


def _as_typed(text: str) -> str:
    if text.isascii():
        return text
    visible = "".join(each for each in text.translate(_LOOK_ALIKES) if unicodedata.category(each) != "Cf")
    composed = unicodedata.normalize("NFKC", visible).translate(_LOOK_ALIKES)
    return "".join(each if each < "\x80" else _BY_CATEGORY.get(unicodedata.category(each), each) for each in composed)
