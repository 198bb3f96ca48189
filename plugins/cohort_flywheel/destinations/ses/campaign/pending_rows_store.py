"""The pending rows of a launch, which its records do not account for, and the refusals of this attempt."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import batched, count

from cohort_flywheel.campaign.launch_store import Row
from cohort_flywheel.destinations.ses.campaign.send_outcomes import Outcome, Totals, settled
from cohort_flywheel.destinations.ses.campaign.sends_store import Batches
from cohort_flywheel.segment.do_not_contact_store import is_listed


class PendingRows:
    """Iterate over the rows of a launch that its records do not account for; reading the records fills the totals.

    :param rows: the rows of the segment file.
    :param size: the rows of a batch.
    :param batches: the records.
    :param totals: the recorded outcomes are added to it.
    """

    def __init__(self, rows: Iterable[Row], size: int, batches: Batches, totals: Totals) -> None:
        self._rows = rows
        self._size = size
        self._begun: dict[int, tuple[int, frozenset[str]]] = {}  # the next attempt of a batch, and its pending players
        for number, _ in enumerate(batched(rows, size)):
            for attempt in count(1):
                if (outcome := batches.recorded(number, attempt)) is None:
                    break
                totals.add(outcome)
                self._begun[number] = attempt + 1, frozenset(outcome.left)

    def __iter__(self) -> Iterator[tuple[int, int, list[Row]]]:
        """Yield the number of a batch, its next attempt, and its pending rows."""
        for number, batch in enumerate(batched(self._rows, self._size)):
            attempt, left = self._begun.get(number, (1, None))
            if rows := [row for row in batch if left is None or row.player_id in left]:
                yield number, attempt, rows

    def __bool__(self) -> bool:
        return any(True for _ in self)

    def player_ids(self, table: str, players: sqlite3.Connection) -> Iterator[str]:
        """The playerIds that a table does not have."""
        for _, _, rows in self:
            yield from (row.player_id for row in rows if not is_listed(table, row.player_id, players))


class Refusals:
    """The batches of this attempt with refused mails that may be retried."""

    def __init__(self, batches: Batches, totals: Totals) -> None:
        self._batches = batches
        self._totals = totals
        self._outcomes: dict[int, tuple[int, Outcome]] = {}

    def add(self, number: int, attempt: int, outcome: Outcome) -> None:
        if outcome.refusals:
            self._outcomes[number] = attempt, outcome

    def players(self) -> set[str]:
        return {p for _, outcome in self._outcomes.values() for ids in outcome.refusals.values() for p in ids}

    def settle(self, players: AbstractSet[str]) -> None:
        """Record that these players are finally refused."""
        for number, (attempt, before) in list(self._outcomes.items()):
            outcome = settled(before, players)
            if not outcome.refused:
                continue
            self._batches.settle(number, attempt + 1, outcome)
            self._totals.add(outcome)
            del self._outcomes[number]
            self.add(number, attempt + 1, outcome)
