"""What is recorded of the load of one file, in the state bucket, before anything is asked of the loader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from cohort_flywheel.common.records import Json, Record
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.graph_load.job import JobStatus

#: The clock of a worker and that of the cluster may differ by this much.
CLOCK_TOLERANCE = timedelta(minutes=15)


class LoadSource(BaseModel):
    """A file to load: its S3 address, and what was found there before.

    etag: of the object that was validated; None to load whatever is there. records: how many records the loader is to
    count; None if that is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    etag: str | None = None
    records: int | None = None

    @property
    def place(self) -> tuple[str, str]:
        """Bucket and key."""
        bucket, _, key = self.uri.removeprefix("s3://").partition("/")
        return bucket, key


class LoadRecord(Record):
    """The load of one file.

    intended_at: when StartLoaderJob was about to be sent. known_ids: the jobs that the loader listed before. load_id:
    None until the answer has arrived. recovers: the request repeats one whose answer was lost. refused: the loader has
    refused the request. status, records, duplicates: of the job, once it has ended.
    """

    source: str
    etag: str
    mode: str
    intended_at: datetime
    known_ids: list[str]
    load_id: str | None = None
    adopted: bool = False
    recovers: bool = False
    refused: bool = False
    status: str | None = None
    records: int = 0
    duplicates: int = 0

    @property
    def has_ended(self) -> bool:
        return self.status is not None

    def with_job(self, load_id: str, *, adopted: bool) -> LoadRecord:
        return self.model_copy(update={"load_id": load_id, "adopted": adopted})

    def ended(self, job: JobStatus) -> LoadRecord:
        figures = {"status": job.status, "records": job.records, "duplicates": job.duplicates}
        return self.model_copy(update=figures)

    def find_own(self, jobs: Iterable[JobStatus]) -> JobStatus | None:
        """The job that a lost request started: of the same source, and not known before it.

        A job that has loaded nothing is not taken for it: it may be a repetition in mode RESUME.
        """
        earliest = (self.intended_at - CLOCK_TOLERANCE).timestamp()
        for job in jobs:
            is_new = job.load_id not in self.known_ids and (job.start_time is None or job.start_time >= earliest)
            if is_new and job.source == self.source and (job.is_active or job.records or not job.is_completed):
                return job
        return None


def read_sources(sources: Iterable[str | Json]) -> list[LoadSource]:
    """Return the sources as models.

    Raises FlywheelError for a source that is not the address of an object, or that is named twice.
    """
    found = [LoadSource(uri=each) if isinstance(each, str) else LoadSource.model_validate(each) for each in sources]
    for source in found:
        if not source.uri.startswith("s3://") or not all(source.place) or source.uri.endswith("/"):
            raise FlywheelError(
                f"{source.uri!r} is not the address of a file: write s3://bucket/key", Code.GRAPH_LOAD_FILES
            )
    if twice := [uri for uri, number in Counter(source.uri for source in found).items() if number > 1]:
        raise FlywheelError(f"{twice[0]} is a source twice: remove one of the two", Code.GRAPH_LOAD_FILES)
    return found
