"""The loader of one cluster: its jobs, one at a time, first in, first out."""

import time
from contextlib import closing
from threading import Timer
from typing import Any

from gremlin_python.driver.driver_remote_connection import DriverRemoteConnection
from gremlin_python.driver.serializer import GraphBinarySerializersV1
from gremlin_python.process.anonymous_traversal import traversal

from local.config import load
from local.rest_json.errors import ServiceError
from local.rest_json.naming import uuid_id

from .control import control
from .jobs import Feed, Job
from .load import Counts, is_edge_file, load_file
from .source import Source, bad_request

MAX_QUEUED = 64


class Loader:
    """Every method must be called under control.lock; a job loads in a thread of its own, without it.

    :param gremlin_url: the graph; without one a job cannot start.
    """

    def __init__(self, gremlin_url: str | None = None) -> None:
        self.gremlin_url = gremlin_url
        #: [loader: bulk-load-tutorial-IAM] the roles that are added to the cluster
        self.attached: set[str] = set()
        self.jobs: list[Job] = []
        self._made = 0

    def forget(self) -> None:
        """End all jobs, so that none loads into the graph of the next test, and forget them."""
        for job in self.jobs:
            job.outcome = job.outcome or "LOAD_CANCELLED_BY_USER"
        self.jobs = []

    # --- the operations

    def start(self, request: dict[str, Any]) -> Job:
        """[model StartLoaderJob]"""
        self._refuse_reader("Start new load operation not permitted on a read replica instance.")
        if request["format"] != "csv" or "dependencies" in request or "parserConfiguration" in request:
            raise ServiceError("UnsupportedOperationException", 400, "Only Gremlin CSV alone is emulated.")
        if self.gremlin_url is None:
            raise ServiceError("InternalFailureException", 500, "This server has no graph.")
        source = Source(request["source"], request["region"], request["iamRoleArn"])
        etags = source.check(self.attached, load().region)
        active = [job for job in self.jobs if job.active(control.now())]
        if active and not request.get("queueRequest"):
            # [run elsewhere; model queueRequest] "the load request will fail if another load job is already running"
            raise bad_request("Failed to start new load for the source. Max concurrent load limit breached. Limit is 1")
        if sum(job.started is None for job in active) >= MAX_QUEUED:
            raise bad_request("Failed to start new load for the source. Max load task queue size limit breached.")
        job = self._job(request, source, etags)
        self._run_next()
        return job

    def _job(self, request: dict[str, Any], source: Source, etags: dict[str, str]) -> Job:
        settings = control.settings
        earlier = next((job for job in reversed(self.jobs) if job.source.uri == source.uri), None)
        mode = request.get("mode", "AUTO")
        if mode == "RESUME" and earlier is None and settings.resume_without_earlier == "refuse":
            raise bad_request("Failed to start new load for the source. No previous load to resume.")
        feeds = {name: Feed(etag) for name, etag in etags.items()}
        if mode == "RESUME" and earlier is None:
            feeds = {}
        fails_with = settings.failure if control.take("fail_next_loads") else ""
        resumes = mode != "NEW" and earlier is not None
        if earlier and resumes and settings.resumed_job == "same" and not earlier.active(control.now()):
            job = earlier
            job.feeds = {name: job.feeds.get(name, feed) for name, feed in feeds.items()}
            job.request, job.outcome, job.started, job.ended = request, "", None, None
            job.fails_with = fails_with
            self.jobs.remove(job)
        else:
            self._made += 1
            job = Job(uuid_id("load", self._made), request, source, feeds, control.now(), settings.load_seconds)
            job.fails_with = fails_with
        # [loader: load-api-reference-status-response] "incremented when the load is restarted"
        job.run_number = earlier.run_number + 1 if earlier and resumes else 1
        self.jobs = [*self.jobs, job][-settings.remembered :]
        return job

    def job(self, load_id: str) -> Job:
        found = next((job for job in self.jobs if job.id == load_id), None)
        if found is None:
            raise ServiceError("BulkLoadIdNotFoundException", 404, "The load does not exist.")
        return found

    def list(self, limit: int, include_queued: bool) -> list[str]:
        """[loader: load-api-reference-status-requests] queued jobs come first; newest first."""
        jobs = list(reversed(self.jobs))
        if jobs and control.take("lists_behind"):
            jobs = jobs[1:]
        queued = [job for job in jobs if job.status(control.now()) == "LOAD_IN_QUEUE"]
        others = [job for job in jobs if job not in queued]
        return [job.id for job in [*(queued if include_queued else []), *others]][:limit]

    def cancel(self, load_id: str) -> None:
        """[loader: load-api-reference-cancel] [strict] What was loaded until then stays: half of the first file."""
        self._refuse_reader("Load cancellation is not permitted on a read replica instance.")
        job, now = self.job(load_id), control.now()
        status = job.status(now)
        if not job.active(now):
            raise ServiceError("BulkLoadIdNotFoundException", 404, "The load does not exist or not active.")
        if status == "LOAD_IN_PROGRESS" and not job.counts().records:
            self._load_half(job)
        self._end(job, "LOAD_CANCELLED_BY_USER")

    def _refuse_reader(self, message: str) -> None:
        if control.settings.endpoint == "reader":  # [loader: load-api-reference-load-errors, -cancel] HTTP 405
            raise ServiceError("BadRequestException", 405, message)

    # --- the work

    def _run_next(self) -> None:
        if any(job.started and not job.outcome for job in self.jobs):
            return
        job = next((job for job in self.jobs if job.started is None and not job.outcome), None)
        if job:
            job.started = control.now()
            timer = Timer(job.seconds, self._work, (job,))
            timer.daemon = True
            timer.start()

    def _work(self, job: Job) -> None:
        while control.settings.held == "yes" and not job.outcome:
            time.sleep(0.02)
        with control.lock:
            if job.outcome:
                return
            if job.fails_with:
                self._load_half(job)
                self._end(job, job.fails_with)
                return
            contents = self._read(job)
        for name, content in contents.items():
            counts = self._load_content(job, content, name)
            with control.lock:
                if job.outcome:  # it was cancelled
                    return
                job.feeds[name].counts = counts
                job.feeds[name].status = "LOAD_FAILED" if counts.failed() else "LOAD_COMPLETED"
            if counts.failed() and job.flag("failOnError", True):
                break
        with control.lock:
            if not job.outcome:
                # [loader: loader-message] "If any of the feeds receive this error, overall load status is set to
                # LOAD_FAILED"
                wrong = any(feed.status != "LOAD_COMPLETED" for feed in job.feeds.values())
                self._end(job, "LOAD_FAILED" if wrong else "LOAD_COMPLETED")

    def _read(self, job: Job) -> dict[str, bytes]:
        """The content of each file that is to be loaded and that can be, in the order of the load."""
        now, contents = job.source.etags(), dict[str, bytes]()
        for name, feed in self._to_load(job).items():
            content = job.source.read(name)
            if now.get(name) != feed.etag:
                feed.status = "LOAD_DATA_FAILED_DUE_TO_FEED_MODIFIED_OR_DELETED"
            elif content is None:
                feed.status = "LOAD_S3_ACCESS_DENIED_ERROR"
            else:
                contents[name] = content
        # [model edgeOnlyLoad] "the loader automatically loads vertex files first, then edge files afterwards"
        if job.flag("edgeOnlyLoad", False):
            return contents
        return dict(sorted(contents.items(), key=lambda pair: is_edge_file(pair[1])))

    def _to_load(self, job: Job) -> dict[str, Feed]:
        """[model Mode] a resumed job "only tries to process failed files"; in mode NEW all are loaded."""
        if job.mode != "NEW":
            done = {
                name
                for other in self.jobs
                if other.source.uri == job.source.uri
                for name, feed in other.feeds.items()
                if feed.status == "LOAD_COMPLETED"
            }
            for name in done & job.feeds.keys():
                job.feeds[name] = Feed(job.feeds[name].etag, "LOAD_COMPLETED")  # its figures are the earlier job's
        return {name: feed for name, feed in job.feeds.items() if feed.status != "LOAD_COMPLETED"}

    def _load_half(self, job: Job) -> None:
        for name, feed in list(self._to_load(job).items())[:1]:
            content = job.source.read(name)
            if content is not None:
                feed.counts = self._load_content(job, content, name, share=0.5)
            feed.status = "LOAD_FAILED"

    def _load_content(self, job: Job, content: bytes, name: str, share: float = 1.0) -> Counts:
        connection = DriverRemoteConnection(
            self.gremlin_url, control.settings.graph, message_serializer=GraphBinarySerializersV1()
        )
        with closing(connection):
            return load_file(
                traversal().with_(connection), content, job.source.uri_of(name),
                update_single=job.flag("updateSingleCardinalityProperties", False),
                fail_on_error=job.flag("failOnError", True), share=share, is_cancelled=lambda: bool(job.outcome),
            )  # fmt: skip

    def _end(self, job: Job, outcome: str) -> None:
        job.outcome, job.ended = outcome, control.now()
        self._run_next()
