"""The batches of a launch by Amazon SES: who may still be mailed, the sends, and what became of them.

All that is recorded lies in the state bucket, as it names players.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import batched
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from airflow.sdk.exceptions import AirflowException
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

from cohort_flywheel.campaign.email_template import lacks
from cohort_flywheel.campaign.launch_store import Row, launch_folder, same_address, why_no_more
from cohort_flywheel.config.cohorts import Consent
from cohort_flywheel.destinations.ses.hook import SENDS_IN_FLIGHT, SesV2Hook
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.dynamodb import DynamoDBBatchGetHook
from cohort_flywheel.hooks.s3 import S3Hook, get_json, keys, put_json, put_unless_equal
from cohort_flywheel.segment.contacts import projection
from cohort_flywheel.segment.do_not_contact_store import ENTRIES, add_to_list, is_listed, load_do_not_contact, make_list
from cohort_flywheel.segment.segment_file import digest

#: Whose mails are intended, sent and answered for together.
BATCH = 100

#: Seconds before each further try of a mail that SES has clearly not taken; then the launch stops.
_WAITS = (1, 2, 4, 8, 15, 30, 60)
#: So many lost answers in one batch stop the launch: a person looks before more are in doubt.
_MAX_IN_DOUBT = 10

#: What SES answers to SendEmail [botocore's model of sesv2; the first two as AWS's other services spell it].
_THROTTLED = ("Throttling", "ThrottlingException", "TooManyRequestsException")
_OF_THE_MAIL = ("BadRequestException", "MessageRejected")
#: No request has left this machine.
_NOT_SENT = (
    ConnectTimeoutError, CredentialRetrievalError, EndpointConnectionError, NoCredentialsError, ProxyConnectionError,
)  # fmt: skip

#: Of whoever was not mailed before the newest as-of was another one: a run of that one may mail them.
OLDER_AS_OF = "older_as_of"

#: What became of one mail, beside a refusal, which is told by its code.
_SENT, _IN_DOUBT, _LEFT = "sent", "in_doubt", "left"


class Outcome(NamedTuple):
    """What became of a batch: playerIds by reason, but of the mails that were sent their number."""

    sent: int = 0
    withdrawn: Mapping[str, Sequence[str]] = {}
    in_doubt: Sequence[str] = ()
    refused: Mapping[str, Sequence[str]] = {}
    left: Sequence[str] = ()  #: for another attempt


class Batches:
    """What is recorded of a launch's batches: whom it means to mail, before the first send, and what became of them.

    Both are put once: of two tries that are at work at the same time, one stops.
    """

    def __init__(self, s3: S3Hook, bucket: str, name: str) -> None:
        self._s3, self._bucket, self._folder = s3, bucket, launch_folder(name)
        self.place = f"s3://{bucket}/{self._folder}"
        self._there = set(keys(s3, bucket, self._folder))
        self._this_try = uuid4().hex  # tells our intents, whose answer was lost, from another try's

    def intents(self, number: int, attempt: int) -> dict[str, Any] | None:
        return self._get(f"{number:06d}_{attempt}.intents.json")

    def put_intents(
        self, number: int, attempt: int, player_ids: list[str], withdrawn: Mapping[str, Sequence[str]]
    ) -> None:
        intents = {"player_ids": player_ids, "withdrawn": withdrawn, "try": self._this_try}
        self._put(f"{number:06d}_{attempt}.intents.json", intents)

    def outcome(self, number: int, attempt: int) -> Outcome | None:
        found = self._get(f"{number:06d}_{attempt}.outcome.json")
        return Outcome(**found) if found else None

    def put_outcome(self, number: int, attempt: int, outcome: Outcome) -> None:
        self._put(f"{number:06d}_{attempt}.outcome.json", outcome._asdict())

    def put_in_doubt(self, tally: Tally) -> str | None:
        """The address of the list of all who are in doubt, a playerId a line; None where nobody is."""
        if not tally.in_doubt:
            return None
        key = f"{self._folder}in_doubt.txt"
        put_unless_equal(self._s3, tally.in_doubt_path, self._bucket, key, digest(tally.in_doubt_path))
        return f"s3://{self._bucket}/{key}"

    def _get(self, file_name: str) -> dict[str, Any] | None:
        key = self._folder + file_name
        found = get_json(self._s3, self._bucket, key) if key in self._there else None
        return found[0] if found else None

    def _put(self, file_name: str, value: Mapping[str, Any]) -> None:
        key, value = self._folder + file_name, json.loads(json.dumps(value))
        if not put_json(self._s3, self._bucket, key, value, IfNoneMatch="*"):
            found = get_json(self._s3, self._bucket, key)
            if found is None or found[0] != value:
                raise AirflowException(f"another try of this launch is at work (s3://{self._bucket}/{key})")


class Tally:
    """The sums of a launch, and on disk who is in doubt."""

    def __init__(self, folder: Path) -> None:
        self.sent = self.in_doubt = self.batches = 0
        self.withdrawn, self.refused = Counter[str](), Counter[str]()
        self.in_doubt_path, self.never_path = folder / "in_doubt.txt", folder / "never.txt"

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
        """Who was not mailed before the newest as-of was another one."""
        with self.never_path.open(encoding="utf-8", newline="") as file:
            yield from (line.removesuffix("\n") for line in file)

    def counts(self) -> dict[str, Any]:
        return {
            "rows": self.sent + self.withdrawn.total() + self.in_doubt + self.refused.total(),
            "sent": self.sent,
            "withdrawn": dict(sorted(self.withdrawn.items())),
            "in_doubt": self.in_doubt,
            "refused": dict(sorted(self.refused.items())),
            "batches": self.batches,
        }


class Withdrawals:
    """Who was a row and is not to be mailed any more, asked just before a batch is sent."""

    def __init__(
        self,
        s3: S3Hook,
        records: DynamoDBBatchGetHook,
        plan: Mapping[str, Any],
        asked: Mapping[str, str | None],
        players: sqlite3.Connection,
        is_newest: bool,
        rows: Iterable[Row],
    ) -> None:
        self._s3, self._records, self._plan, self._asked = s3, records, plan, asked
        self._players, self._is_newest = players, is_newest
        self._consent = Consent.model_validate(plan["consent"]) if plan["consent"] else None
        self._etag: str | None = None
        make_list(players, ENTRIES)
        make_list(players, "another")
        for some in batched(same_address(rows, players), 1000):  # who gets one mail: that of the first, if any
            add_to_list(players, "another", some)

    def of(self, rows: Sequence[Row]) -> dict[str, str]:
        """The reason of each player who is not to be mailed."""
        if not self._is_newest:
            return {row.player_id: OLDER_AS_OF for row in rows}
        self._load_do_not_contact()
        wanted, ids = projection({}, self._consent), [row.player_id for row in rows]
        records = self._records.get_items(self._plan["contacts_table"], "playerId", ids, wanted)
        reasons = ((row.player_id, self._reason(row, records.get(row.player_id))) for row in rows)
        return {player_id: reason for player_id, reason in reasons if reason}

    def _reason(self, row: Row, record: Mapping[str, Any] | None) -> str | None:
        if not is_listed("launched", row.player_id, self._players):
            return "recently_mailed"
        if reason := why_no_more(row, record, self._consent, self._players):
            return reason
        if is_listed("another", row.player_id, self._players):
            return "same_address"
        return "missing_value" if lacks(self._asked, row.attributes) else None

    def _load_do_not_contact(self) -> None:
        """Copy the list into its table, as often as it has changed."""
        bucket, key = self._plan["state_bucket"], self._plan["do_not_contact_key"]
        if not key:
            return
        etag = self._s3.get_conn().head_object(Bucket=bucket, Key=key)["ETag"]
        if etag == self._etag:
            return
        load_do_not_contact(self._s3, bucket, key, self._players)
        self._etag = etag


class Sends:
    """Sends the mails of a batch, no faster than the account may; what it cannot send it leaves.

    :param hook: the hook to reach SES with.
    :param request: makes the arguments of SendEmail for a row.
    :param rate: mails a second.
    """

    def __init__(self, hook: SesV2Hook, request: Callable[[Row], dict[str, Any]], rate: float) -> None:
        self._hook, self._request, self._seconds = hook, request, 1 / max(rate, 1)
        self._next = time.monotonic()
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._doubts = 0
        self.any_sent = False  #: in this launch, by whichever try
        self.why: Exception | None = None  #: why it has stopped, for the task to raise
        hook.prepare_sends()
        self._pool = ThreadPoolExecutor(SENDS_IN_FLIGHT, thread_name_prefix="send_email")

    def close(self) -> None:
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def raise_why(self) -> None:
        if self.why:
            raise self.why

    def outcome(self, rows: Sequence[Row]) -> Outcome:
        """What became of the mails of a batch."""
        self._doubts = 0
        answers = list(self._pool.map(self._send, rows))
        by_answer = by_reason((row.player_id, answer) for row, answer in zip(rows, answers, strict=True))
        sent, in_doubt, left = (by_answer.pop(answer, []) for answer in (_SENT, _IN_DOUBT, _LEFT))
        refused = [row.player_id for row in rows] if by_answer and not (sent or in_doubt or left) else []
        if refused and (len(refused) == BATCH or not self.any_sent):
            # nothing was sent, so all of them may be tried again
            code = next(iter(by_answer))
            self._stop(
                FlywheelError(
                    f"SES refuses every mail of a batch of {len(refused)} ({code}): look at the sender and the template"
                    " (docs of SendEmail), mend it, then clear this task, which goes on with them"
                )
            )
            return Outcome(left=refused)
        return Outcome(sent=len(sent), in_doubt=in_doubt, refused=by_answer, left=left)

    def _send(self, row: Row) -> str:
        """What became of one mail."""
        why = ""
        for seconds in (*_WAITS, 0):
            if not self._may_go():
                return _LEFT
            try:
                self._hook.send_email(**self._request(row))
            except ClientError as error:
                code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status >= 500:
                    return self._doubt()
                if code in _OF_THE_MAIL:
                    return str(code)
                if code not in _THROTTLED:
                    self._stop(
                        FlywheelError(
                            f"SES answers SendEmail with {code}: mend the cause, then clear this task, which goes on"
                            " with who is left"
                        )
                    )
                    return _LEFT
                why = f"SES throttles the mails ({code}), by its daily quota or for what else the account sends"
            except _NOT_SENT as error:
                why = f"SES cannot be reached ({type(error).__name__})"
            except (BotoCoreError, ResponseParserError):
                return self._doubt()
            else:
                return _SENT
            self._stopped.wait(seconds)
        self._stop(AirflowException(f"{why}: a later try goes on with who is left"))
        return _LEFT

    def _may_go(self) -> bool:
        """Wait for this mail's turn; False where there is none any more."""
        with self._lock:
            at = max(self._next, time.monotonic())
            self._next = at + self._seconds
        return not self._stopped.wait(max(0, at - time.monotonic()))

    def _doubt(self) -> str:
        """The request may have arrived: SES knows no idempotency token, so it is not sent again."""
        with self._lock:
            self._doubts += 1
            if self._doubts >= _MAX_IN_DOUBT:
                self._stop(
                    AirflowException(
                        f"{self._doubts} answers of SES were lost in one batch: a later try goes on with who is left,"
                        " but not with those in doubt"
                    )
                )
        return _IN_DOUBT

    def _stop(self, why: Exception) -> None:
        self.why = self.why or why
        self._stopped.set()


def by_reason(reasons: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """PlayerIds with the reason of each, the other way round."""
    found: dict[str, list[str]] = {}
    for player_id, reason in reasons:
        found.setdefault(reason, []).append(player_id)
    return found
