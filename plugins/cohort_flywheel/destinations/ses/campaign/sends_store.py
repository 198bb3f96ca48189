"""The batches of a launch by Amazon SES: the sends, and the records of the outcome of each mail.

The records are in the state bucket, because they contain players.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
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

from cohort_flywheel.campaign.launch_store import Row, launch_folder
from cohort_flywheel.campaign.mail_tags import TRACKING_FILE, row_tag
from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.common.records import AwsStructure, Json
from cohort_flywheel.destinations.ses.campaign.send_outcomes import Outcome, Totals, by_reason, outcome_of
from cohort_flywheel.destinations.ses.hook import SENDS_IN_FLIGHT, SesV2Hook
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, get_json, keys, put_json, put_unless_equal
from cohort_flywheel.segment.segment_file import digest

#: The number of mails that are intended, sent and recorded together.
BATCH = 100
#: This number of refusals with one code, without an accepted mail after them, stops the launch: the fault may be the
#: sender's.
MAX_REFUSALS = 20

#: Seconds before each retry of a mail that SES has certainly not accepted; then the launch stops.
_WAITS = (1, 2, 4, 8, 15, 30, 60)
#: This number of lost answers in one batch stops the launch, before more players are in doubt.
_MAX_IN_DOUBT = 10
#: No mail begins later than this before the end of the send ledger; a request and its answer take less.
_LAST_MINUTES = timedelta(minutes=5)

#: Errors of SendEmail [botocore's model of sesv2; the first two are the names of other AWS services]: the sending rate
#: or the daily quota is exceeded.
_THROTTLED = ("Throttling", "ThrottlingException", "TooManyRequestsException")
#: Errors of one mail (its content, its address), or of all: SES also answers MessageRejected for a sender that is not
#: verified [SES developer guide: troubleshooting], and in the sandbox for each recipient. Any other code is an error of
#: the sender, the account or the template (AccountSuspendedException, SendingPausedException of the account and of a
#: configuration set, MailFromDomainNotVerifiedException, NotFoundException of a template, a list, a configuration set):
#: it stops the launch.
_OF_THE_MAIL = ("BadRequestException", "MessageRejected")
#: Errors before a request was sent.
_NOT_SENT = (
    ConnectTimeoutError, CredentialRetrievalError, EndpointConnectionError, NoCredentialsError, ProxyConnectionError,
)  # fmt: skip

#: The outcome of one mail; for a refused one it is the code.
_SENT, _IN_DOUBT, _LEFT = "sent", "in_doubt", "left"


class Batches:
    """The records of a launch's batches: the intents, before the first send, and the outcome.

    Each is written once: of two concurrent attempts, one stops.
    """

    def __init__(self, s3: S3Hook, bucket: str, name: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._folder = launch_folder(name)
        self.place = f"s3://{bucket}/{self._folder}"
        self._there = set(keys(s3, bucket, self._folder))
        self._this_try = uuid4().hex  # distinguishes our intents, after a lost answer, from another attempt's

    def intents(self, number: int, attempt: int) -> Json | None:
        return self._get(f"{number:06d}_{attempt}.intents.json")

    def outcome(self, number: int, attempt: int) -> Outcome | None:
        found = self._get(f"{number:06d}_{attempt}.outcome.json")
        return outcome_of(found) if found else None

    def recorded(self, number: int, attempt: int) -> Outcome | None:
        """Return the outcome of a batch, or None; the players of an interrupted attempt are in doubt from now on."""
        outcome = self.outcome(number, attempt)
        if outcome or (intents := self.intents(number, attempt)) is None:
            return outcome
        if "outcome" in intents:
            outcome = outcome_of(intents["outcome"])
        else:
            in_doubt = [player_id for player_id in intents["player_ids"] if player_id]  # not the erased ones
            outcome = Outcome(withdrawn=intents["withdrawn"], in_doubt=in_doubt)
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
        """Record final refusals as an attempt that sends nothing, unless another task attempt has begun it."""
        intents = {"player_ids": [], "withdrawn": {}, "try": self._this_try, "outcome": outcome._asdict()}
        self._put(f"{number:06d}_{attempt}.intents.json", intents)
        self.put_outcome(number, attempt, outcome)

    def put_in_doubt(self, totals: Totals) -> str | None:
        """Write the list of players in doubt, one playerId per line; return its address, or None if it is empty."""
        if not totals.in_doubt:
            return None
        key = f"{self._folder}in_doubt.txt"
        put_unless_equal(self._s3, totals.in_doubt_path, self._bucket, key, digest(totals.in_doubt_path))
        return f"s3://{self._bucket}/{key}"

    def put_tracking(self, totals: Totals) -> None:
        """Write how many of the sent e-mails are not tracked, if any: their events do not say so."""
        if totals.untracked:
            counts = {"sent": totals.sent, "untracked": totals.untracked}
            put_json(self._s3, self._bucket, f"{self._folder}{TRACKING_FILE}", counts)

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
                    f"another attempt of this launch is running (s3://{self._bucket}/{key})", code=Code.BUSY
                )


class Refusal(NamedTuple):
    code: str
    begun: int  #: the number of mails that had begun by then


class Sends:
    """Send the mails of a batch within the sending rate of the account; mails that cannot be sent remain pending.

    :param hook: the hook of SES.
    :param request: returns the arguments of SendEmail for a row and its tag.
    :param rate: mails per second.
    :param may_begin: returns whether the send ledger still allows a mail to begin.
    """

    def __init__(
        self, hook: SesV2Hook, request: Callable[[Row, str], AwsStructure], rate: float, may_begin: Callable[[], bool]
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
        self._message_ids: dict[str, str] = {}
        self.why: Exception | None = None  #: the error that stopped the launch, for the task to raise
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

    def outcome(self, number: int, attempt: int, rows: Sequence[Row]) -> Outcome:
        """Send the mails of an attempt of a batch; return the outcome."""
        self._doubts = 0
        tags = [row_tag(number, attempt, index) for index in range(len(rows))]
        answers = list(self._pool.map(self._send, rows, tags))
        message_ids = {str(index): self._message_ids[tag] for index, tag in enumerate(tags) if tag in self._message_ids}
        self._message_ids.clear()
        by_answer = by_reason((row.player_id, answer) for row, answer in zip(rows, answers, strict=True))
        sent, in_doubt, left = (by_answer.pop(answer, []) for answer in (_SENT, _IN_DOUBT, _LEFT))
        refused = [player_id for players in by_answer.values() for player_id in players]
        return Outcome(
            sent=len(sent), in_doubt=in_doubt, left=left + refused, refusals=by_answer, message_ids=message_ids
        )

    def take_followed(self) -> set[str]:
        """Return, once, the players with a refusal followed by a mail that SES accepted."""
        found, self._followed = self._followed, set()
        return found

    def why_refused(self, code: str, number: int) -> FlywheelError:
        return FlywheelError(
            f"SES has refused the last {number:,} mails ({code}) and accepted none after them: look at the sender, the"
            " account and the template (docs of SendEmail), correct the cause, then clear this task, which mails those"
            " players; if their addresses are the cause, put them on the do-not-contact list first",
            code=Code.SENDING_REFUSED,
        )

    def why_all_refused(self) -> FlywheelError | None:
        """Return the error for refusals without an accepted mail after them; None if there are none."""
        codes = Counter(refusal.code for refusal in self._refusals.values())
        return self.why_refused(*codes.most_common(1)[0]) if codes else None

    def _send(self, row: Row, tag: str) -> str:
        """Send one mail; return its outcome."""
        why = ""
        for seconds in (*_WAITS, 0):
            if (number := self._begin()) is None:
                return _LEFT
            try:
                message_id = self._hook.send_email(**self._request(row, tag))
            except ClientError as error:
                code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status >= 500:
                    return self._doubt()
                if code in _OF_THE_MAIL:
                    return self._refused(row.player_id, code)
                if code not in _THROTTLED:
                    self.stop(
                        FlywheelError(
                            f"SES answers SendEmail with {code}: correct the cause, then clear this task, which"
                            " continues with the pending players",
                            code=Code.SENDING_REFUSED,
                        )
                    )
                    return _LEFT
                why = f"SES throttles the mails ({code}), because of its daily quota or other mails of the account"
            except _NOT_SENT as error:
                why = f"SES cannot be reached ({type(error).__name__})"
            except (BotoCoreError, ResponseParserError):
                return self._doubt()
            else:
                return self._accepted(number, tag, message_id)
            self._stopped.wait(seconds)
        self.stop(
            RetryableError(f"{why}: a later attempt continues with the pending players", code=Code.SENDING_INTERRUPTED)
        )
        return _LEFT

    def _begin(self) -> int | None:
        """Wait for the sending rate, and return the number of this mail; None if the launch has stopped."""
        with self._lock:
            at = max(self._next, time.monotonic())
            self._next = at + self._seconds
        if self._stopped.wait(max(0, at - time.monotonic())):
            return None
        if not self._may_begin():
            self.stop(
                RetryableError(
                    "the send ledger of this attempt ends: a later attempt continues with its own",
                    code=Code.SENDING_INTERRUPTED,
                )
            )
            return None
        with self._lock:
            self._begun += 1
            return self._begun

    def _accepted(self, number: int, tag: str, message_id: str) -> str:
        """Mark refusals before this mail began as followed: SES accepts other mails, so the sender is not at fault."""
        with self._lock:
            self._message_ids[tag] = message_id
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
        """Count a lost answer: the mail may be sent, and SES has no idempotency token, so it is not sent again."""
        with self._lock:
            self._doubts += 1
            if self._doubts >= _MAX_IN_DOUBT:
                self.stop(
                    RetryableError(
                        f"{self._doubts} answers of SES were lost in one batch: a later attempt continues with the"
                        " pending players, without those in doubt",
                        code=Code.SENDING_INTERRUPTED,
                    )
                )
        return _IN_DOUBT


def may_begin(mails_until: datetime, clock: Callable[[], datetime]) -> Callable[[], bool]:
    """Return a function that returns whether a mail may begin, by the end of its send ledger."""
    return lambda: clock() < mails_until - _LAST_MINUTES
