"""Pinpoint's reasons for refused rows, without personal data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

#: The words of a failure that may be logged. The form of the service's texts is not documented and they may quote
#: a row, so everything else (an address, a playerId, a name) becomes "…".
_WORDS = set(
    (
        "a address already an and are at attribute attributes be bytes by cannot channel channeltype character "
        "characters column  columns could count csv demographic does duplicate email empty endpoint endpoints "
        "exceeded exceeds expected export  failed field file for format found from has header id import in invalid is "
        "json length limit line location  long malformed maximum metric metrics missing more must no not number of "
        "only optout or phone piece quota  quote read record required role row rows s3 size sms than the this to too "
        "type unknown unsupported user  userattributes userid utf-8 valid value values voice with"
    ).split()
)


def reasons(failures: Iterable[str]) -> str:
    """Return the failures as a short list of reasons with counts, without personal data."""
    counted = Counter(_reason(text) for text in failures)
    if not counted:
        return "Pinpoint gave no reason"
    most = counted.most_common(5)
    rest = counted.total() - sum(number for _text, number in most)
    return "; ".join([f"{number} × {text}" for text, number in most] + ([f"{rest} more"] if rest else []))


def _reason(text: str) -> str:
    words = [word if word.lower().strip(".,:;()") in _WORDS else "…" for word in text.split()[:40]]
    return re.sub(r"…(?: …)+", "…", " ".join(words)) or "…"
