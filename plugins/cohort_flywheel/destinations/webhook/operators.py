"""Send a segment to the receiver, and verify it by the receiver's own counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from cohort_flywheel.common.failures import RetryableError, describe_failure
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.destinations.import_result import import_content
from cohort_flywheel.destinations.leavers import SegmentPlayers
from cohort_flywheel.destinations.webhook import layout
from cohort_flywheel.destinations.webhook.hook import DEFAULT_CONN_NAME, PayloadTooLargeError, WebhookHook
from cohort_flywheel.destinations.webhook.members_store import Members, Record
from cohort_flywheel.destinations.webhook.webhook_outputs import SentSegment, WebhookImport
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.newest_store import skip_unless_newest
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import Clock, utc_now
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.outputs import Segment
from cohort_flywheel.segment.segment_file import digest
from cohort_flywheel.segment.segment_file_store import segment_rows

if TYPE_CHECKING:
    from airflow.sdk import Context


class WebhookSendSegmentOperator(TemporaryFolderMixin, BaseOperator):
    """Send the rows of a segment file as members, and former members as leavers.

    The messages are sent in batches, leavers first. The idempotency key of a batch is the digest of the import and the
    number of the batch, so that a retry after a lost answer changes nothing. An import that is verified already is not
    sent again. A run that is not the newest is skipped. Returns (each also an XCom of its own) `segment_name`,
    `import_id`, `batches`, `set_in` and `set_out`.

    :param plan: the output of CohortPlanOperator. (templated)
    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param http_conn_id: the Airflow connection of the receiver.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: returns the current time, with its time zone.
    """

    template_fields = ("plan", "segment")
    ui_color = "#d5c7f2"

    def __init__(
        self,
        *,
        plan: Json,
        segment: Json,
        http_conn_id: str = DEFAULT_CONN_NAME,
        memory_mb: int | None = None,
        aws_conn_id: str | None = "aws_default",
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.segment = segment
        self.http_conn_id = http_conn_id
        self.memory_mb = memory_mb
        self.aws_conn_id = aws_conn_id
        self.clock = clock

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it sends the same batches under the same idempotency keys."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            s3 = S3Hook(aws_conn_id=self.aws_conn_id)
            plan = Plan.model_validate(self.plan)
            state = State(s3, plan.state_bucket)
            members = Members(s3, plan, self.http_conn_id)
            self._check_newest(plan, state, members, context)
            members.acquire(state, context)
            # another run may have changed it before the lock was acquired
            self._check_newest(plan, state, members, context)
            self._segment = Segment.model_validate(self.segment)
            return self._send(plan, s3, members, folder, side_effects).model_dump(mode="json")

    def _check_newest(self, plan: Plan, state: State, members: Members, context: Context) -> None:
        record = members.read()
        imported = datetime.fromisoformat(record.as_of) if record else None
        try:
            skip_unless_newest(plan, state, context, self.clock, self.log, imported)
        except AirflowSkipException:
            members.release(state, context)
            raise

    def _send(self, plan: Plan, s3: S3Hook, members: Members, folder: Path, side_effects: list[str]) -> SentSegment:
        hook, content = WebhookHook(self.http_conn_id), import_content(plan.name, self._segment)
        record, status = members.read(), hook.segment(members.segment)
        verified = record.sent() if record and record.content == content else None
        if verified and status and status.import_id == verified.import_id:
            self.log.info("Import %s of segment %s is verified already", status.import_id, members.segment)
            return verified
        last = max(record.upload if record else 0, status.upload if status else 0)
        goes_on = record and not record.verified and record.content == content and record.upload == last
        upload = last if goes_on else last + 1
        path = folder / "messages.ndjson"
        with closing(SegmentPlayers(folder, self.memory_mb)) as players:
            set_in, set_out = self._write_messages(s3, members, players, path)
            members.write(folder, Record(content, upload, plan.as_of.isoformat()), players.all())
            side_effects.append(f"import {upload} of segment {members.segment} was recorded")
        import_id, number = self._send_batches(hook, members.segment, path, upload, side_effects)
        self.log.info(
            "Sent %s members and %s leavers of segment %s in %s batches", f"{set_in:,}", f"{set_out:,}",
            members.segment, f"{number:,}",
        )  # fmt: skip
        return SentSegment(
            segment_name=members.segment, import_id=import_id, batches=number, set_in=set_in, set_out=set_out
        )

    def _write_messages(self, s3: S3Hook, members: Members, players: SegmentPlayers, path: Path) -> tuple[int, int]:
        """Write all messages to a file, leavers first; return the numbers of members and leavers."""
        players.add_recorded(members.players())
        players.add_rows(cells[1] for cells in _without_header(segment_rows(s3, self._segment)))
        with path.open("wb") as file:
            set_out = _written(file, map(layout.leaver_message, players.leavers()))
            rows = segment_rows(s3, self._segment)
            columns = next(rows)
            set_in = _written(file, (layout.member_message(columns, cells) for cells in rows))
        if set_in != self._segment.rows:
            raise FlywheelError(
                f"{self._segment.s3_url} has {set_in:,} rows, but {self._segment.rows:,} were released: it has"
                " changed since; clear check_limits with downstream",
                code=Code.SEGMENT_FILE_CHANGED,
            )
        return set_in, set_out

    def _send_batches(
        self, hook: WebhookHook, segment: str, path: Path, upload: int, side_effects: list[str]
    ) -> tuple[str, int]:
        """Send all batches; after a 413 again from the first, in batches of half the size."""
        size, content = layout.BATCH_BYTES, digest(path)
        while True:
            import_id = layout.import_id(content, upload, size)
            number, progress = sum(1 for _ in layout.batches(path, size)), Progress(self.log, "messages sent")
            side_effects[1:] = [f"batches of import {import_id} may have been received"]
            try:
                for batch in layout.batches(path, size):
                    lines_of_batch = batch.lines
                    answer = hook.send_batch(segment, import_id, upload, number, batch)
                    if answer.received != batch.lines or answer.rejected:
                        raise FlywheelError(
                            f"the receiver took {answer.received - answer.rejected:,} of {batch.lines:,} messages of"
                            f" batch {batch.number} of import {import_id}: do not use the segment; look at the"
                            " receiver's log, correct the cause, and clear this task",
                            code=Code.WEBHOOK_REJECTED,
                        )
                    progress.add(batch.lines)
                return import_id, number
            except PayloadTooLargeError:
                if lines_of_batch == 1:
                    raise FlywheelError(
                        "the receiver refuses a single message as too large (413): raise its limit, or use fewer"
                        " attributes",
                        code=Code.WEBHOOK_TOO_LARGE,
                    ) from None
                size //= 2
                self.log.warning("The receiver answered 413: sending batches of at most %s bytes", f"{size:,}")


class WebhookVerifySegmentOperator(TemporaryFolderMixin, BaseOperator):
    """Fail unless the receiver has all batches of the import, and as many members as the segment file has rows.

    Returns (each also an XCom of its own) `segment_id`, `segment_name`, `segment_size`, `import_id`, `set_in` and
    `set_out`.

    :param plan: the output of CohortPlanOperator. (templated)
    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param sent: the output of WebhookSendSegmentOperator. (templated)
    :param http_conn_id: the Airflow connection of the receiver.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    template_fields = ("plan", "segment", "sent")
    ui_color = "#d5c7f2"

    def __init__(
        self,
        *,
        plan: Json,
        segment: Json,
        sent: Json,
        http_conn_id: str = DEFAULT_CONN_NAME,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.segment = segment
        self.sent = sent
        self.http_conn_id = http_conn_id
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it reads, and records the same again."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            s3 = S3Hook(aws_conn_id=self.aws_conn_id)
            plan = Plan.model_validate(self.plan)
            state = State(s3, plan.state_bucket)
            members = Members(s3, plan, self.http_conn_id)
            self._segment = Segment.model_validate(self.segment)
            self._sent = SentSegment.model_validate(self.sent)
            members.acquire(state, context)
            record = members.read()
            if record is None or record.content != import_content(plan.name, self._segment):
                raise FlywheelError(
                    f"the last import of segment {members.segment} is of another run: clear enrich with downstream,"
                    " which applies consent again, if this run must be the one",
                    code=Code.OVERTAKEN,
                )
            side_effects.append(f"import {self._sent.import_id} was sent")
            size = self._size(members.segment)
            players = (cells[1] for cells in _without_header(segment_rows(s3, self._segment)))
            members.write(folder, record._replace(verified=self._sent.model_dump(mode="json")), players)
            members.release(state, context)
        self.log.info("Segment %s has the %s members of the file", members.segment, f"{size:,}")
        return WebhookImport(
            segment_id=members.segment, segment_name=members.segment, segment_size=size,
            import_id=self._sent.import_id, set_in=self._sent.set_in, set_out=self._sent.set_out,
        ).model_dump(mode="json")  # fmt: skip

    def _size(self, segment: str) -> int:
        status = WebhookHook(self.http_conn_id).segment(segment)
        sent, rows = self._sent.batches, self._segment.rows
        if status is None and not sent:
            return 0  # nothing was ever sent: no members and no leavers
        if status is None or (sent and status.import_id != self._sent.import_id):
            raise FlywheelError(
                f"the receiver does not have import {self._sent.import_id} as the last of segment {segment}: another"
                " sender has changed it; clear create_import_job with downstream",
                code=Code.WEBHOOK_REJECTED,
            )
        if sent and (status.batches != sent or status.rejected):
            raise FlywheelError(
                f"the receiver has {status.batches:,} of {sent:,} batches of import {self._sent.import_id}, and"
                f" rejected {status.rejected:,} messages: do not use segment {segment}; correct the cause, then clear"
                " create_import_job with downstream",
                code=Code.WEBHOOK_REJECTED,
            )
        if status.members != rows:
            raise RetryableError(
                f"segment {segment} has {status.members:,} members at the receiver, but the file has {rows:,} rows: do"
                " not use it. A later attempt reads the count again; if it stays so, look at the receiver's log",
                code=Code.COUNT_DIFFERS,
            )
        return status.members


def _without_header(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    next(rows, None)
    return rows


def _written(file: IO[bytes], messages: Iterable[bytes]) -> int:
    number = 0
    for message in messages:
        file.write(message)
        number += 1
    return number
