"""Classify a batch of members, with one lookup in each list for all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, Protocol

from cohort_flywheel.segment.contacts import Contact, Listed, Reject, Suppressed
from cohort_flywheel.segment.members import Member

#: A member with its record (None: not found).
type Looked = tuple[Member, Mapping[str, object] | None]
#: An address or a playerId, of which the suppression list is asked.
type Asked = tuple[Literal["address", "player"], str]


class Rule(Protocol):
    """`classify_member`, with the settings of a run."""

    def __call__(
        self,
        member: Member,
        record: Mapping[str, object] | None,
        *,
        do_not_contact: Listed | None,
        suppressed: Suppressed | None,
    ) -> Contact | Reject:
        """Return the contact or the reject."""


def classify_batch(
    batch: Sequence[Looked],
    rule: Rule,
    find_listed: Callable[[Sequence[str]], Collection[str]] | None,
    find_suppressed: Callable[[Sequence[Asked]], Mapping[Asked, str]] | None,
) -> list[Contact | Reject]:
    """Return the outcome of each member: the rule's own, with one lookup in each list.

    The rule is applied as if nothing were listed, and each text that it asks for is noted. If one of them is listed, it
    is applied again with the answers. The second pass asks for no other texts.

    :param find_listed: returns those of some texts that are on the do-not-contact list; None for an empty list.
    :param find_suppressed: returns the reasons of those that are on the suppression list; None for an empty list.
    """
    texts: list[str] = []
    asked: list[Asked] = []

    def note_text(text: str) -> bool:
        texts.append(text)
        return False

    def note_asked(kind: Literal["address", "player"], text: str) -> None:
        asked.append((kind, text))

    note = note_text if find_listed else None, note_asked if find_suppressed else None
    outcomes = [rule(member, record, do_not_contact=note[0], suppressed=note[1]) for member, record in batch]
    listed = find_listed(texts) if find_listed else ()
    reasons = find_suppressed(asked) if find_suppressed else {}
    if not listed and not reasons:
        return outcomes
    return [
        rule(member, record, do_not_contact=listed.__contains__, suppressed=lambda *each: reasons.get(each))
        for member, record in batch
    ]
