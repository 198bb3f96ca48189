"""The encoding of a file that a person writes: UTF-8, with or without a byte-order mark."""

from __future__ import annotations

import codecs
import io

from cohort_flywheel.errors import Code, FlywheelError

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def check_not_utf_16(start: bytes, place: str, code: Code) -> None:
    """Raise FlywheelError if the first two bytes are those of UTF-16 or UTF-32, as Windows tools write it."""
    if start.startswith(_UTF_16) or b"\0" in start[:2]:
        raise FlywheelError(f"{place} is encoded as UTF-16 or UTF-32: save it as UTF-8", code=code)


def decode_text(content: bytes, place: str, code: Code) -> str:
    """Return the text without its byte-order mark, line breaks as `\\n`; raise FlywheelError unless it is UTF-8."""
    check_not_utf_16(content, place, code)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FlywheelError(f"{place} is not UTF-8 on line {line}: save it as UTF-8", code=code) from None
    return io.StringIO(text, newline=None).read()
