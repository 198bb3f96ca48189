"""The state of Pinpoint, account by account and region by region, as an extension of moto's own backend."""

import json
import time
from dataclasses import dataclass, field
from threading import Timer
from typing import Any, cast

from moto.core.base_backend import BackendDict
from moto.pinpoint.models import App, PinpointBackend, pinpoint_backends

from .control import control
from .endpoints import EndpointBook, EndpointError, Item
from .errors import BadRequestError, NotFoundError, TooManyRequestsError
from .import_file import PieceError, rows
from .jobs import PROCESSED_AT, FileResult, Job, Segment
from .naming import derived_id, iso_now
from .source import Source, parse_s3_url


@dataclass
class AppState:
    """An application's contents, oldest first."""

    book: EndpointBook
    jobs: dict[str, Job] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    segments_made: int = 0


class FlywheelPinpointBackend(PinpointBackend):
    """moto's Pinpoint with import jobs. Call every public method under control.lock."""

    def __init__(self, region_name: str, account_id: str):
        super().__init__(region_name, account_id)
        self.states: dict[str, AppState] = {}
        self._apps_made: dict[str, int] = {}

    def reset(self) -> None:
        """Called by moto's reset on every backend."""
        with control.lock:
            super().reset()
            control.reset()

    def forget_imports(self) -> None:
        """Applications stay; their jobs, segments and endpoints go."""
        self.states = {application_id: AppState(EndpointBook(application_id)) for application_id in self.apps}

    def create_app(self, name: str, tags: dict[str, str]) -> App:
        """As moto's, with an id derived from account, region, name and the number of earlier apps of that name."""
        app = super().create_app(name, {})
        del self.apps[app.application_id]
        self._apps_made[name] = self._apps_made.get(name, 0) + 1
        new_id = derived_id(self.account_id, self.region_name, "app", name, self._apps_made[name])
        app.arn = app.arn.replace(app.application_id, new_id)
        app.application_id = new_id
        app.created = iso_now()  # type: ignore[assignment]  # [shape ApplicationResponse.CreationDate] a string
        self.apps[new_id] = app
        self.states[new_id] = AppState(EndpointBook(new_id))
        self.tagger.tag_resource(app.arn, self.tagger.convert_dict_to_tags_input(tags))
        return app

    def delete_app(self, application_id: str) -> App:
        app = super().delete_app(application_id)
        del self.states[application_id]
        return app

    def state(self, application_id: str) -> AppState:
        self.get_app(application_id)
        return self.states[application_id]

    # --- import jobs

    def create_import_job(self, application_id: str, request: dict[str, Any]) -> Job:
        """A new job each time: [shape CreateImportJobRequest] has no idempotency token."""
        state = self.state(application_id)
        source = self._source(application_id, request)
        self._check_segment(state, request)
        now = time.time()
        # [Pinpoint docs: quotas] active import jobs: 10 per account on one page, 2 on another. [strict] 2.
        # [shape CreateImportJob errors] Of the modelled errors TooManyRequestsException (429) is the one that fits.
        if (
            sum(j.active(now) for s in self.states.values() for j in s.jobs.values())
            >= control.settings.max_active_jobs
        ):
            raise TooManyRequestsError("The account has reached its limit of active import jobs.")
        source.check()
        job = Job(
            id=derived_id(application_id, "import job", len(state.jobs) + 1),
            application_id=application_id,
            request=request,
            source=source,
            created=now,
            seconds=control.settings.import_seconds,
            doomed=control.take("fail_next_jobs"),
        )
        state.jobs[job.id] = job
        timer = Timer(job.seconds * PROCESSED_AT, self._run_job, (state, job))
        timer.daemon = True
        timer.start()
        return job

    def _source(self, application_id: str, request: dict[str, Any]) -> Source:
        bucket, key = parse_s3_url(request["S3Url"])
        return Source(
            self.account_id,
            self.partition,
            self.get_app(application_id).arn,
            bucket,
            key,
            request["RoleArn"],
            request["Format"],
        )

    def _check_segment(self, state: AppState, request: dict[str, Any]) -> None:
        defines = request.get("DefineSegment", False)
        if "SegmentId" in request and not defines:
            raise BadRequestError(
                "SegmentId needs DefineSegment."
            )  # [strict] The documentation does not connect the two.
        if not defines and not request.get("RegisterEndpoints", False):
            raise BadRequestError("A job must define a segment or register endpoints.")  # [strict] It would do nothing.
        if "SegmentId" in request and request["SegmentId"] not in state.segments:
            raise NotFoundError()

    def get_import_job(self, application_id: str, job_id: str) -> Job:
        job = self.state(application_id).jobs.get(job_id)
        if job is None:
            raise NotFoundError()
        return job

    def get_import_jobs(self, application_id: str) -> list[Job]:
        """Newest first [strict: the order is not documented]."""
        return list(self.state(application_id).jobs.values())[::-1]

    def get_segment_import_jobs(self, application_id: str, segment_id: str) -> list[Job]:
        self.get_segment(application_id, segment_id)
        return [job for job in self.get_import_jobs(application_id) if job.segment_id == segment_id]

    # --- running a job, on its own thread

    def _run_job(self, state: AppState, job: Job) -> None:
        result = FileResult()
        try:
            objects = job.source.objects()
        except PieceError as refused:
            objects = []
            result.add_error(str(refused))
        # [Pinpoint docs: quotas] 1 GB a job, 10^9 bytes [strict].
        too_large = sum(key.size for key in objects) > control.settings.max_bytes
        for number, key in enumerate(objects, start=1):
            try:
                if job.doomed:
                    raise PieceError("The piece could not be processed.")
                if too_large:
                    raise PieceError("The files of a job must not be larger than 1 GB.")
                content = job.source.read(key)
                self._import_piece(state, job, result, number, content)
                result.completed_pieces += 1
            except PieceError as refused:
                result.failed_pieces += 1
                result.add_error(f"Piece {number}: {refused}")
        if not objects:
            result.failed_pieces = 1
            result.add_error("No object to import exists at S3Url.")
        with control.lock:
            self._define_segment(state, job, result)
            result.processed_at = time.time()
            job.result = result

    def _import_piece(self, state: AppState, job: Job, result: FileResult, number: int, content: bytes) -> None:
        """[strict] Each object is one piece; Pinpoint cuts pieces of "an approximately equal portion"."""
        register = job.request.get("RegisterEndpoints", False)
        for line, row in rows(content, job.request["Format"]):
            result.processed += 1  # rows that failed included: TotalProcessed - TotalFailures were imported
            try:
                if isinstance(row, str):
                    raise EndpointError(row)
                with control.lock:
                    endpoint = _import_row(state.book, row, register)
                result.members[endpoint["Id"]] = endpoint["ChannelType"]
            except EndpointError as refused:
                result.failed_rows += 1
                # A line's number and no value. [strict] The real service may well quote the row: log no Failures.
                result.add_error(f"Piece {number}, line {line}: {refused}")

    def _define_segment(self, state: AppState, job: Job, result: FileResult) -> None:
        request = job.request
        failed = result.failed_pieces > 0
        known = state.segments.get(request.get("SegmentId", ""))
        if not request.get("DefineSegment", False) or (failed and control.settings.failed_job_segment == "none"):
            job.segment_id = known.id if known else None
            return
        now = time.time()
        if known is None:
            state.segments_made += 1
            new_id = derived_id(job.application_id, "segment", state.segments_made)
            arn = f"{job.source.application_arn}/segments/{new_id}"
            # [shape ImportJobRequest.SegmentName] "for the segment that's created by the import job": an update does
            # not rename [strict], and the name of an unnamed one is not documented.
            name = request.get("SegmentName", f"import-{job.id}")
            known = state.segments[new_id] = Segment(new_id, job.application_id, arn, name, now)
        elif control.settings.segment_update == "replace":
            # [shape ImportJobRequest.SegmentId] "the segment to update or add the imported endpoint definitions to":
            # whether members that left are removed is not documented, so both are here.
            known.members = {}
        known.members |= result.members
        known.imported(job, now)
        job.segment_id = known.id

    # --- segments and endpoints

    def get_segment(self, application_id: str, segment_id: str) -> Segment:
        segment = self.state(application_id).segments.get(segment_id)
        if segment is None:
            raise NotFoundError()
        return segment

    def delete_segment(self, application_id: str, segment_id: str) -> Segment:
        self.get_segment(application_id, segment_id)
        return self.state(application_id).segments.pop(segment_id)

    def update_endpoint(self, application_id: str, endpoint_id: str, request: Item) -> None:
        try:
            self.state(application_id).book.put(endpoint_id, request)
        except EndpointError as refused:
            raise BadRequestError(str(refused)) from None


def _import_row(book: EndpointBook, row: Item, register: bool) -> Item:
    """[Pinpoint docs: importing segments] Updating an endpoint needs its Id; without one the row is a new endpoint."""
    endpoint_id = row.get("Id") or book.choose_id()
    return book.put(endpoint_id, row) if register else book.judge(endpoint_id, row)


# moto's backends, one per account and region, created on demand; install() makes them instances of this class.
backends = cast(BackendDict[FlywheelPinpointBackend], pinpoint_backends)


def install() -> None:
    """Replace moto's backend by this one."""
    backends.backend = FlywheelPinpointBackend


def snapshot() -> str:
    """The whole state of this server, for assertions of tests."""
    applications = [
        _application(backend, application_id, state)
        for regions in backends.values()
        for backend in regions.values()
        for application_id, state in backend.states.items()
    ]
    found = {"settings": vars(control.settings), "calls": control.calls, "applications": applications}
    return json.dumps(found)


def _application(backend: FlywheelPinpointBackend, application_id: str, state: AppState) -> dict[str, Any]:
    now = time.time()
    return {
        "account": backend.account_id,
        "region": backend.region_name,
        "id": application_id,
        "name": backend.apps[application_id].name,
        "jobs": [job.to_json(now) for job in state.jobs.values()],
        "segments": [s.to_json() | {"Members": sorted(s.members)} for s in state.segments.values()],
        "endpoints": list(state.book.by_key.values()),
    }
