"""The batches of a launch by Amazon SES: the sends, and the records of what became of each mail.

The records are in the state bucket, as they name players.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ProxyConnectionError,
)
from botocore.parsers import ResponseParserError

from cohort_flywheel.campaign.launch import SentMails
from cohort_flywheel.campaign.launch_store import Row, launch_folder
from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.common.records import AwsStructure, Json
from cohort_flywheel.destinations.ses.hook import SENDS_IN_FLIGHT, SesV2Hook
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, get_json, keys, put_json, put_unless_equal
from cohort_flywheel.segment.segment_file import digest

#: The mails that are intended, sent and recorded together.
BATCH = 100
#: So many refusals with one code, and no accepted mail after them, stop the launch: the fault may be the sender's.
MAX_REFUSALS = 20

#: Seconds before each further try of a mail that SES has clearly not taken; then the launch stops.
_WAITS = (1, 2, 4, 8, 15, 30, 60)
#: So many lost answers in one batch stop the launch: a person looks before more are in doubt.
_MAX_IN_DOUBT = 10
#: No mail begins so shortly before the end of the send ledger: a request and its answer take less.
_LAST_MINUTES = timedelta(minutes=5)

#: What SES answers to SendEmail [botocore's model of sesv2; the first two as AWS's other services spell it].
#: A rate and the daily quota alike.
_THROTTLED = ("Throttling", "ThrottlingException", "TooManyRequestsException")
#: Of one mail (its content, its address), or of all: SES answers MessageRejected for a sender that is not verified too
#: [SES developer guide: troubleshooting], and in the sandbox for each recipient. Any other code is of the sender, the
#: account or the template (AccountSuspendedException, SendingPausedException of the account and of a configuration set,
#: MailFromDomainNotVerifiedException, NotFoundException of a template, a list, a configuration set): it stops at once.
_OF_THE_MAIL = ("BadRequestException", "MessageRejected")
#: No request has left this machine.
_NOT_SENT = (
    ConnectTimeoutError, CredentialRetrievalError, EndpointConnectionError, NoCredentialsError, ProxyConnectionError,
)  # fmt: skip

#: The reason of a player that was not mailed before the next as-of: the newer run may mail the player.
OLDER_AS_OF = "older_as_of"

#: What became of one mail; of a refused one it is the code.
_SENT, _IN_DOUBT, _LEFT = "sent", "in_doubt", "left"


class Outcome(NamedTuple):
    """What became of a batch: playerIds by reason, but of the mails that were sent their number."""

    sent: int = 0
    withdrawn: Mapping[str, Sequence[str]] = {}
    in_doubt: Sequence[str] = ()
    refused: Mapping[str, Sequence[str]] = {}  #: for good, by SES's code
    left: Sequence[str] = ()  #: for another attempt
    refusals: Mapping[str, Sequence[str]] = {}  #: of those left: refused, and perhaps for the sender's fault


def settled(outcome: Outcome, players: AbstractSet[str]) -> Outcome:
    """What a batch's next record says: the refusals of these players are for good, the others are still left."""
    refused, refusals = (
        {code: found for code, ids in outcome.refusals.items() if (found := [p for p in ids if (p in players) is good])}
        for good in (True, False)
    )
    left = [player_id for player_id in outcome.left if player_id not in players]
    return Outcome(refused=refused, left=left, refusals=refusals)


class Batches:
    """The records of a launch's batches: the intents, before the first send, and the outcome.

    Both are put once: of two tries that are at work at the same time, one stops.
    """

    def __init__(self, s3: S3Hook, bucket: str, name: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._folder = launch_folder(name)
        self.place = f"s3://{bucket}/{self._folder}"
        self._there = set(keys(s3, bucket, self._folder))
        self._this_try = uuid4().hex  # tells our intents, whose answer was lost, from another try's

    def intents(self, number: int, attempt: int) -> Json | None:
        return self._get(f"{number:06d}_{attempt}.intents.json")

    def outcome(self, number: int, attempt: int) -> Outcome | None:
        found = self._get(f"{number:06d}_{attempt}.outcome.json")
        return Outcome(**found) if found else None

    def recorded(self, number: int, attempt: int) -> Outcome | None:
        """What became of a batch; the players of an attempt that broke off are in doubt from now on."""
        outcome = self.outcome(number, attempt)
        if outcome or (intents := self.intents(number, attempt)) is None:
            return outcome
        if "outcome" in intents:
            outcome = Outcome(**intents["outcome"])
        else:
            outcome = Outcome(withdrawn=intents["withdrawn"], in_doubt=intents["player_ids"])
        self.put_outcome(number, attempt, outcome)
        return outcome

    def put_intents(
        self, number: int, attempt: int, player_ids: list[str], withdrawn: Mapping[str, Sequence[str]]
    ) -> None:
        intents = {"player_ids": player_ids, "withdrawn": withdrawn, "try": self._this_try}
        self._put(f"{number:06d}_{attempt}.intents.json", intents)

    def put_outcome(self, number: int, attempt: int, outcome: Outcome) -> None:
        self._put(f"{number:06d}_{attempt}.outcome.json", outcome._asdict())

    def settle(self, number: int, attempt: int, outcome: Outcome) -> None:
        """Record refusals for good, as an attempt that sends nothing, unless another try has begun that attempt."""
        intents = {"player_ids": [], "withdrawn": {}, "try": self._this_try, "outcome": outcome._asdict()}
        self._put(f"{number:06d}_{attempt}.intents.json", intents)
        self.put_outcome(number, attempt, outcome)

    def put_in_doubt(self, tally: Tally) -> str | None:
        """The address of the list of players in doubt, one playerId per line; None if there are none."""
        if not tally.in_doubt:
            return None
        key = f"{self._folder}in_doubt.txt"
        put_unless_equal(self._s3, tally.in_doubt_path, self._bucket, key, digest(tally.in_doubt_path))
        return f"s3://{self._bucket}/{key}"

    def _get(self, file_name: str) -> Json | None:
        key = self._folder + file_name
        found = get_json(self._s3, self._bucket, key) if key in self._there else None
        return found[0] if found else None

    def _put(self, file_name: str, value: Json) -> None:
        key, value = self._folder + file_name, json.loads(json.dumps(value))
        if not put_json(self._s3, self._bucket, key, value, IfNoneMatch="*"):
            found = get_json(self._s3, self._bucket, key)
            if found is None or found[0] != value:
                raise RetryableError(
                    f"another try of this launch is at work (s3://{self._bucket}/{key})", code=Code.BUSY
                )


class Tally:
    """The sums of a launch, and on disk the players in doubt."""

    def __init__(self, folder: Path) -> None:
        self.sent = self.in_doubt = self.batches = 0
        self.withdrawn = Counter[str]()
        self.refused = Counter[str]()
        self.in_doubt_path = folder / "in_doubt.txt"
        self.never_path = folder / "never.txt"

    def add(self, outcome: Outcome) -> None:
        self.batches += 1
        self.sent += outcome.sent
        self.in_doubt += len(outcome.in_doubt)
        for counter, players in ((self.withdrawn, outcome.withdrawn), (self.refused, outcome.refused)):
            counter.update({reason: len(ids) for reason, ids in players.items()})
        never = outcome.withdrawn.get(OLDER_AS_OF, ())
        for path, player_ids in ((self.in_doubt_path, outcome.in_doubt), (self.never_path, never)):
            with path.open("a", encoding="utf-8", newline="") as file:
                file.writelines(f"{player_id}\n" for player_id in player_ids)

    def never(self) -> Iterator[str]:
        """The players that were not mailed before the next as-of."""
        with self.never_path.open(encoding="utf-8", newline="") as file:
            yield from (line.removesuffix("\n") for line in file)

    def sent_mails(self, in_doubt_list: str | None) -> SentMails:
        return SentMails(
            rows=self.sent + self.withdrawn.total() + self.in_doubt + self.refused.total(),
            sent=self.sent,
            withdrawn=dict(sorted(self.withdrawn.items())),
            in_doubt=self.in_doubt,
            refused=dict(sorted(self.refused.items())),
            batches=self.batches,
            in_doubt_list=in_doubt_list,
        )


class Refusal(NamedTuple):
    code: str
    begun: int  #: how many mails had begun by then


class Sends:
    """Sends the mails of a batch, no faster than the account may; what it cannot send it leaves.

    :param hook: the hook to reach SES with.
    :param request: makes the arguments of SendEmail for a row.
    :param rate: mails per second.
    :param may_begin: whether the send ledger still allows a mail to begin.
    """

    def __init__(
        self, hook: SesV2Hook, request: Callable[[Row], AwsStructure], rate: float, may_begin: Callable[[], bool]
    ) -> None:
        self._hook = hook
        self._request = request
        self._seconds = 1 / max(rate, 1)
        self._may_begin = may_begin
        self._next = time.monotonic()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._doubts = self._begun = 0
        self._refusals: dict[str, Refusal] = {}
        self._followed: set[str] = set()
        self.why: Exception | None = None  #: why it has stopped, for the task to raise
        hook.prepare_sends()
        self._pool = ThreadPoolExecutor(SENDS_IN_FLIGHT, thread_name_prefix="send_email")

    def close(self) -> None:
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def raise_why(self) -> None:
        if self.why:
            raise self.why

    def stop(self, why: Exception) -> None:
        self.why = self.why or why
        self._stopped.set()

    def outcome(self, rows: Sequence[Row]) -> Outcome:
        """What became of the mails of a batch."""
        self._doubts = 0
        answers = list(self._pool.map(self._send, rows))
        by_answer = by_reason((row.player_id, answer) for row, answer in zip(rows, answers, strict=True))
        sent, in_doubt, left = (by_answer.pop(answer, []) for answer in (_SENT, _IN_DOUBT, _LEFT))
        refused = [player_id for players in by_answer.values() for player_id in players]
        return Outcome(sent=len(sent), in_doubt=in_doubt, left=left + refused, refusals=by_answer)

    def take_followed(self) -> set[str]:
        """The players whose refusal was followed by a mail that SES has accepted; each is returned once."""
        found, self._followed = self._followed, set()
        return found

    def why_refused(self, code: str, number: int) -> FlywheelError:
        return FlywheelError(
            f"SES has refused the last {number:,} mails ({code}) and accepted none after them: look at the sender, the"
            " account and the template (docs of SendEmail), mend the cause, then clear this task, which mails those"
            " players; if it is their addresses, put them on the do-not-contact list first",
            code=Code.SENDING_REFUSED,
        )

    def why_all_refused(self) -> FlywheelError | None:
        """The sentence for refusals that no accepted mail has followed; None if there are none."""
        codes = Counter(refusal.code for refusal in self._refusals.values())
        return self.why_refused(*codes.most_common(1)[0]) if codes else None

    def _send(self, row: Row) -> str:
        """What became of one mail."""
        why = ""
        for seconds in (*_WAITS, 0):
            if (number := self._begin()) is None:
                return _LEFT
            try:
                self._hook.send_email(**self._request(row))
            except ClientError as error:
                code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status >= 500:
                    return self._doubt()
                if code in _OF_THE_MAIL:
                    return self._refused(row.player_id, code)
                if code not in _THROTTLED:
                    self.stop(
                        FlywheelError(
                            f"SES answers SendEmail with {code}: mend the cause, then clear this task, which goes on"
                            " with who is left",
                            code=Code.SENDING_REFUSED,
                        )
                    )
                    return _LEFT
                why = f"SES throttles the mails ({code}), by its daily quota or for what else the account sends"
            except _NOT_SENT as error:
                why = f"SES cannot be reached ({type(error).__name__})"
            except (BotoCoreError, ResponseParserError):
                return self._doubt()
            else:
                return self._accepted(number)
            self._stopped.wait(seconds)
        self.stop(RetryableError(f"{why}: a later try goes on with who is left", code=Code.SENDING_INTERRUPTED))
        return _LEFT

    def _begin(self) -> int | None:
        """Wait for this mail's turn, and number it; None where the launch has stopped."""
        with self._lock:
            at = max(self._next, time.monotonic())
            self._next = at + self._seconds
        if self._stopped.wait(max(0, at - time.monotonic())):
            return None
        if not self._may_begin():
            self.stop(
                RetryableError(
                    "the send ledger of this try ends: a later try goes on, with a ledger of its own",
                    code=Code.SENDING_INTERRUPTED,
                )
            )
            return None
        with self._lock:
            self._begun += 1
            return self._begun

    def _accepted(self, number: int) -> str:
        """Every refusal that came before this mail began is of its own mail: SES takes others."""
        with self._lock:
            before = {player_id for player_id, refusal in self._refusals.items() if refusal.begun < number}
            for player_id in before:
                del self._refusals[player_id]
            self._followed |= before
        return _SENT

    def _refused(self, player_id: str, code: str) -> str:
        with self._lock:
            self._refusals[player_id] = Refusal(code, self._begun)
            number = sum(refusal.code == code for refusal in self._refusals.values())
            if number >= MAX_REFUSALS:
                self.stop(self.why_refused(code, number))
        return code

    def _doubt(self) -> str:
        """The request may have arrived: SES knows no idempotency token, so it is not sent again."""
        with self._lock:
            self._doubts += 1
            if self._doubts >= _MAX_IN_DOUBT:
                self.stop(
                    RetryableError(
                        f"{self._doubts} answers of SES were lost in one batch: a later try goes on with who is left,"
                        " but not with those in doubt",
                        code=Code.SENDING_INTERRUPTED,
                    )
                )
        return _IN_DOUBT


def may_begin(mails_until: datetime, clock: Callable[[], datetime]) -> Callable[[], bool]:
    """Whether a mail may begin, by the end of its send ledger."""
    return lambda: clock() < mails_until - _LAST_MINUTES


def by_reason(reasons: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """PlayerIds with the reason of each, the other way round."""
    found: dict[str, list[str]] = {}
    for player_id, reason in reasons:
        found.setdefault(reason, []).append(player_id)
    return found
