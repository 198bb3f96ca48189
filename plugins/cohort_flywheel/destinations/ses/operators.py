"""Import the players of a segment file who are not on the contact list of Amazon SES."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from cohort_flywheel.common.failures import RetryableError, describe_failure, unconfirmed
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.records import AwsStructure, Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.destinations.ses.hook import SesV2Hook
from cohort_flywheel.destinations.ses.layout import import_file_name, import_folder, import_header, import_row
from cohort_flywheel.destinations.ses.ses_outputs import SesImport, SesImportJobs
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, keys, lines, objects, put_unless_equal
from cohort_flywheel.runs.lock_store import acquire, this_run
from cohort_flywheel.runs.names import claim_key
from cohort_flywheel.runs.newest_store import skip_unless_newest
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import Clock, utc_now
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.contacts import normalize_entry
from cohort_flywheel.segment.outputs import Segment
from cohort_flywheel.segment.segment_file import digest

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The maximum number of contacts of one import job [Amazon SES developer guide: "Using list management"].
MAX_CONTACTS = 1_000_000

#: The maximum difference of S3's and SES's clock; a greater value only reads more jobs.
_CLOCKS = timedelta(hours=1)
_ENDED = ("COMPLETED", "FAILED", "CANCELLED")


class SesCreateImportJobsOperator(TemporaryFolderMixin, AwsBaseOperator[SesV2Hook]):
    """Create the import jobs of the rows that are not on the contact list, or adopt existing jobs.

    An import overwrites the record of a contact, including its consent, so contacts of the list are never in an import
    file; the list is read first. Running jobs of this segment file are adopted, and their contacts are not imported
    again; a job of exactly the same file is adopted unless it FAILED or refused contacts. One run at a time imports
    into a list. A run of an older as-of is skipped. Returns (each also as a separate XCom) `job_ids`, and the numbers
    of rows `on_list`, `new`, and `under_way` (in a running job, or with the address of an earlier row).

    :param plan: the output of CohortPlanOperator. (templated)
    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param contact_list: the contact list's name. (templated)
    :param topic: the topic to which new contacts are subscribed. (templated)
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: gives the time, with its zone.
    """

    aws_hook_class = SesV2Hook
    template_fields = aws_template_fields("plan", "segment", "contact_list", "topic")
    ui_color = "#d5c7f2"

    def __init__(
        self, *, plan: Json, segment: Json, contact_list: str, topic: str, clock: Clock = utc_now, **kwargs: Any
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.segment = segment
        self.contact_list = contact_list
        self.topic = topic
        self.clock = clock

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it imports only players not on the list and not in a running job."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
            plan = Plan.model_validate(self.plan)
            state = State(s3, plan.state_bucket)
            skip_unless_newest(plan, state, context, self.clock, self.log)
            key = claim_key(f"ses_contact_list_{self.contact_list}")
            self._hold_list(state, key, context)
            jobs = self._import(s3, Segment.model_validate(self.segment), folder, side_effects)
            state.release_lock(key, this_run(context))  # the next run sees its jobs from here on
        return jobs.model_dump(mode="json")

    def _hold_list(self, state: State, key: str, context: Context) -> None:
        """Acquire the lock of the list: no job of another run may begin between our read of the list and our job."""
        try:
            acquire(state, key, f"contact list {self.contact_list}", context)
        except FlywheelError:
            raise RetryableError(
                f"another run is importing into contact list {self.contact_list}: a later attempt follows it",
                code=Code.BUSY,
            ) from None

    def _import(self, s3: S3Hook, segment: Segment, folder: Path, side_effects: list[str]) -> SesImportJobs:
        bucket, prefix = segment.s3_bucket, import_folder(segment.s3_key)
        jobs = self._jobs(s3, bucket, prefix)
        running = [job for job in jobs if job["JobStatus"] not in _ENDED]
        # of exactly these files; refused contacts are not on the list, and may be imported again
        ended = {_url(job): job["JobId"] for job in jobs if job["JobStatus"] in _ENDED and not _refused(job)}
        with closing(_Addresses(folder)) as addresses:
            for job in running:
                addresses.add_imported(_import_addresses(s3, bucket, _url(job).removeprefix(f"s3://{bucket}/")))
            addresses.add_contacts(_contacts(self.hook, self.contact_list, self.topic))
            files = _Files(folder, self.topic)
            with closing(files):
                counts = {"on_list": 0, "under_way": 0, "new": 0}
                for address in segment_addresses(s3, segment):
                    found = addresses.find(address)
                    if found is None:
                        addresses.add_imported([address])  # another row may have it in another case
                        files.add(address)
                    counts["new" if found is None else "on_list" if found.on_list else "under_way"] += 1
        job_ids = [job["JobId"] for job in running]
        for job_id in job_ids:
            side_effects.append(f"import job {job_id} of this segment file runs")
        for index, path in enumerate(files.paths):
            job_ids.append(
                self._import_file(s3, bucket, prefix + import_file_name(index, digest(path)), path, ended, side_effects)
            )
        self.log.info(
            "of %s rows %s are on contact list %s, %s are in a running job, %s are new: import jobs %s",
            f"{sum(counts.values()):,}", f"{counts['on_list']:,}", self.contact_list, f"{counts['under_way']:,}",
            f"{counts['new']:,}", ", ".join(job_ids) or "none",
        )  # fmt: skip
        return SesImportJobs(job_ids=job_ids, **counts)

    def _import_file(
        self, s3: S3Hook, bucket: str, key: str, path: Path, ended: Mapping[str, str], side_effects: list[str]
    ) -> str:
        url = f"s3://{bucket}/{key}"
        if url in ended:
            self.log.info("adopted import job %s, which has imported the same file", ended[url])
            return ended[url]
        put_unless_equal(s3, path, bucket, key, digest(path))
        with unconfirmed(side_effects, f"an import job of {url} may have been created"):
            job_id = self.hook.create_import_job(self.contact_list, url)
        side_effects[-1] = f"import job {job_id} was created"
        return job_id

    def _jobs(self, s3: S3Hook, bucket: str, prefix: str) -> list[AwsStructure]:
        """Return the jobs of this segment file that have not failed; raise RetryableError while any other job runs.

        A listing does not have the S3 address, so each job since our first file is read.
        """
        put = [each.written for each in objects(s3, bucket, prefix)]
        since: datetime | None = min(put) - _CLOCKS if put else None
        ours = []
        for summary in self.hook.import_jobs(self.contact_list):
            if summary["JobStatus"] in _ENDED and (since is None or summary["CreatedTimestamp"] < since):
                continue
            job = self.hook.get_import_job(summary["JobId"])
            if _url(job).startswith(f"s3://{bucket}/{prefix}"):
                if job["JobStatus"] not in ("FAILED", "CANCELLED"):
                    ours.append(job)
            elif summary["JobStatus"] not in _ENDED:
                raise RetryableError(
                    f"import job {job['JobId']} into contact list {self.contact_list} is running with another file:"
                    " a later attempt sees which contacts it has added",
                    code=Code.BUSY,
                )
        return ours


class SesVerifyContactsOperator(TemporaryFolderMixin, AwsBaseOperator[SesV2Hook]):
    """Fail unless every row of a segment file is on the contact list.

    Contacts that have unsubscribed are on the list too; SES does not mail them under the list. Returns (each also as a
    separate XCom) `job_ids`, `contact_list`, `topic`, `segment_id` (the address of the segment file), `segment_size`
    (its rows on the list), and the numbers of these that this segment file's imports added (`new_contacts`), that were
    on the list before (`already_on_list`), and that are `unsubscribed`.

    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param contact_list: the contact list's name. (templated)
    :param topic: the topic of the mail. (templated)
    :param job_ids: the import jobs. (templated)
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    aws_hook_class = SesV2Hook
    template_fields = aws_template_fields("segment", "contact_list", "topic", "job_ids")
    ui_color = "#d5c7f2"

    def __init__(self, *, segment: Json, contact_list: str, topic: str, job_ids: Sequence[str], **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.segment = segment
        self.contact_list = contact_list
        self.topic = topic
        self.job_ids = job_ids

    def execute(self, context: Context) -> Json:
        with (
            describe_failure("Clearing this task is safe: it only reads.") as side_effects,
            self.temporary_folder() as folder,
            closing(_Addresses(folder)) as addresses,
        ):
            side_effects.append(f"import jobs {', '.join(self.job_ids) or '(none was needed)'} have ended")
            s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
            segment = Segment.model_validate(self.segment)
            counts = self._count(s3, segment, addresses)
            rows, url = sum(counts[n] for n in ("new_contacts", "already_on_list", "missing")), segment.s3_url
            if rows != segment.rows:
                raise FlywheelError(
                    f"{url} has {rows:,} rows, but {segment.rows:,} were released: it has changed since; clear"
                    " check_limits with downstream",
                    code=Code.SEGMENT_FILE_CHANGED,
                )
            if missing := counts.pop("missing"):
                raise FlywheelError(
                    f"{missing:,} of {rows:,} rows of {url} are not on contact list {self.contact_list}, although the"
                    " import jobs succeeded: do not send with it. If the list is only behind, clear this task later;"
                    " put a contact that was deleted from it on the do-not-contact list, or the run of the next as-of"
                    " imports it again",
                    code=Code.COUNT_DIFFERS,
                )
        self.log.info(
            "all %s rows are on contact list %s: %s", f"{rows:,}", self.contact_list,
            ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in counts.items()),
        )  # fmt: skip
        return SesImport(
            job_ids=list(self.job_ids), contact_list=self.contact_list, topic=self.topic, segment_id=url,
            segment_size=rows, **counts,
        ).model_dump(mode="json")  # fmt: skip

    def _count(self, s3: S3Hook, segment: Segment, addresses: _Addresses) -> dict[str, int]:
        bucket = segment.s3_bucket
        for key in keys(s3, bucket, import_folder(segment.s3_key)):
            addresses.add_imported(_import_addresses(s3, bucket, key))
        addresses.add_contacts(_contacts(self.hook, self.contact_list, self.topic))
        counts = {"new_contacts": 0, "already_on_list": 0, "unsubscribed": 0, "missing": 0}
        for address in segment_addresses(s3, segment):
            found = addresses.find(address)
            if found is None or not found.on_list:
                counts["missing"] += 1
                continue
            counts["new_contacts" if found.imported else "already_on_list"] += 1
            counts["unsubscribed"] += found.unsubscribed
        return counts


def segment_addresses(s3: S3Hook, segment: Segment) -> Iterator[str]:
    """Stream the address of each row of a segment file, in order."""
    for part in segment.parts:
        yield from _import_addresses(s3, segment.s3_bucket, part.s3_key)


def is_unsubscribed(contact: AwsStructure, topic: str) -> bool:
    """Whether a contact has opted out of a topic [SES: Contact]; without a preference the topic's default applies."""
    choices = (*contact.get("TopicDefaultPreferences", ()), *contact.get("TopicPreferences", ()))
    chosen = {choice["TopicName"]: choice["SubscriptionStatus"] for choice in choices}
    return bool(contact.get("UnsubscribeAll", False) or chosen.get(topic) == "OPT_OUT")


def _import_addresses(s3: S3Hook, bucket: str, key: str) -> Iterator[str]:
    """Stream the first column of one of our files, which is the address; a row is one line."""
    rows = csv.reader(line.decode() for line in lines(s3, bucket, key))
    next(rows, None)
    return (row[0] for row in rows)


def _contacts(hook: SesV2Hook, contact_list: str, topic: str) -> Iterator[tuple[str, bool]]:
    progress = Progress(hook.log, "contacts of the list read")
    for contact in hook.contacts(contact_list):
        yield contact["EmailAddress"], is_unsubscribed(contact, topic)
        progress.add(1)


def _url(job: AwsStructure) -> str:
    return str(job["ImportDataSource"]["S3Url"])


def _refused(job: AwsStructure) -> bool:
    return bool(job.get("FailedRecordsCount") or job.get("FailureInfo"))


class _Found(NamedTuple):
    """The flags of one address, as 0 or 1."""

    on_list: int
    unsubscribed: int
    imported: int


class _Addresses:
    """The flags of addresses, on disk: a list can exceed a worker's memory.

    Addresses that differ only in case count as the same [strict: not documented]: if they are one contact, importing
    the second would overwrite the preferences of the first.
    """

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "addresses.sqlite")
        self._db.execute(
            "CREATE TABLE address (text TEXT PRIMARY KEY, on_list INT DEFAULT 0, unsubscribed INT DEFAULT 0,"
            " imported INT DEFAULT 0) WITHOUT ROWID"
        )

    def close(self) -> None:
        self._db.close()

    def add_contacts(self, contacts: Iterable[tuple[str, bool]]) -> None:
        """Add contacts of the list, each an address and whether it is unsubscribed."""
        self._db.executemany(
            "INSERT INTO address (text, on_list, unsubscribed) VALUES (?, 1, ?) ON CONFLICT DO UPDATE SET on_list = 1,"
            " unsubscribed = max(unsubscribed, excluded.unsubscribed)",
            ((normalize_entry(address), unsubscribed) for address, unsubscribed in contacts),
        )

    def add_imported(self, addresses: Iterable[str]) -> None:
        self._db.executemany(
            "INSERT INTO address (text, imported) VALUES (?, 1) ON CONFLICT DO UPDATE SET imported = 1",
            ((normalize_entry(address),) for address in addresses),
        )

    def find(self, address: str) -> _Found | None:
        row = self._db.execute(
            "SELECT on_list, unsubscribed, imported FROM address WHERE text = ?", (normalize_entry(address),)
        ).fetchone()
        return _Found(*row) if row else None


class _Files:
    """Write the import files, each with at most the maximum number of contacts of a job."""

    def __init__(self, folder: Path, topic: str) -> None:
        self._folder = folder
        self._topic = topic
        self.paths: list[Path] = []
        self._file: IO[str] | None = None
        self._rows = 0

    def add(self, address: str) -> None:
        if self._file is None or self._rows == MAX_CONTACTS:
            self.close()
            self.paths.append(self._folder / f"contacts_{len(self.paths):04d}.csv")
            self._file, self._rows = self.paths[-1].open("w", encoding="utf-8", newline=""), 0
            self._writer = csv.writer(self._file, lineterminator="\n")
            self._writer.writerow(import_header(self._topic))
        self._writer.writerow(import_row(address))
        self._rows += 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
