"""The outcomes of the mails of a batch, and their totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from cohort_flywheel.campaign.launch import SentMails
from cohort_flywheel.common.records import Json

#: The reason of a player who was not mailed before the next as-of: the newer run may mail the player.
OLDER_AS_OF = "older_as_of"


class Outcome(NamedTuple):
    """The outcome of a batch: the number of sent mails, and the other playerIds by reason."""

    sent: int = 0
    withdrawn: Mapping[str, Sequence[str]] = {}
    in_doubt: Sequence[str] = ()
    refused: Mapping[str, Sequence[str]] = {}  #: finally, by SES's code
    left: Sequence[str] = ()  #: pending, for another attempt
    refusals: Mapping[str, Sequence[str]] = {}  #: the pending ones that SES refused, by code, maybe due to the sender
    message_ids: Mapping[str, str] = {}  #: of the sent mails, by the index of the player in the intents
    untracked: int = 0  #: of the sent mails, those of players who have not agreed to tracking


def outcome_of(record: Json) -> Outcome:
    """Read a record, of any version of this package."""
    return Outcome(**{name: record[name] for name in Outcome._fields if name in record})


def settled(outcome: Outcome, players: AbstractSet[str]) -> Outcome:
    """Return the next record of a batch: the refusals of these players are final, the others are still pending."""
    refused, refusals = (
        {code: found for code, ids in outcome.refusals.items() if (found := [p for p in ids if (p in players) is good])}
        for good in (True, False)
    )
    left = [player_id for player_id in outcome.left if player_id not in players]
    return Outcome(refused=refused, left=left, refusals=refusals)


class Totals:
    """The totals of a launch, and on disk the players in doubt."""

    def __init__(self, folder: Path) -> None:
        self.sent = self.in_doubt = self.batches = self.untracked = 0
        self.withdrawn = Counter[str]()
        self.refused = Counter[str]()
        self.in_doubt_path = folder / "in_doubt.txt"
        self.never_path = folder / "never.txt"

    def add(self, outcome: Outcome) -> None:
        self.batches += 1
        self.sent += outcome.sent
        self.untracked += outcome.untracked
        self.in_doubt += len(outcome.in_doubt)
        for counter, players in ((self.withdrawn, outcome.withdrawn), (self.refused, outcome.refused)):
            counter.update({reason: len(ids) for reason, ids in players.items()})
        never = outcome.withdrawn.get(OLDER_AS_OF, ())
        for path, player_ids in ((self.in_doubt_path, outcome.in_doubt), (self.never_path, never)):
            with path.open("a", encoding="utf-8", newline="") as file:
                file.writelines(f"{player_id}\n" for player_id in player_ids)

    def never(self) -> Iterator[str]:
        """Yield the players who were not mailed before the next as-of."""
        with self.never_path.open(encoding="utf-8", newline="") as file:
            yield from (line.removesuffix("\n") for line in file)

    def sent_mails(self, in_doubt_list: str | None) -> SentMails:
        found = SentMails(
            rows=self.sent + self.withdrawn.total() + self.in_doubt + self.refused.total(),
            sent=self.sent,
            withdrawn=dict(sorted(self.withdrawn.items())),
            in_doubt=self.in_doubt,
            refused=dict(sorted(self.refused.items())),
            batches=self.batches,
            in_doubt_list=in_doubt_list,
        )
        return found.model_copy(update={"untracked": self.untracked}) if self.untracked else found


def by_reason(reasons: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Group pairs of playerId and reason by reason."""
    found: dict[str, list[str]] = {}
    for player_id, reason in reasons:
        found.setdefault(reason, []).append(player_id)
    return found
