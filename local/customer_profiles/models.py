"""The state of Customer Profiles, account by account and region by region, in a backend for moto."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Timer
from typing import Any

from moto.core.base_backend import BackendDict, BaseBackend

from local.rest_json.errors import ServiceError
from local.rest_json.naming import hex_id

from . import segments
from .control import control
from .presigned import new_path
from .profiles import Document, Path, ProfileBook, ProfileError, flattened, target
from .segments import Definition, DefinitionError, Estimate
from .upload_file import FileError, rows
from .uploads import DAY, INGESTED_AT, FileResult, Job, UploadPath

# [Connect guide: imported files] "You can map up to 25 attributes." [strict] By the API neither.
MAX_FIELDS = 25
CHUNK = 1_000  # rows processed before the lock is released once


class BadRequestError(ServiceError):
    def __init__(self, message: str) -> None:
        super().__init__("BadRequestException", 400, message)


class NotFoundError(ServiceError):
    def __init__(self, what: str) -> None:
        super().__init__("ResourceNotFoundException", 404, f"The {what} does not exist.")


@dataclass
class Domain:
    """A domain's contents, oldest first."""

    name: str
    request: dict[str, Any]
    created: float
    book: ProfileBook
    jobs: dict[str, Job] = field(default_factory=dict)
    definitions: dict[str, Definition] = field(default_factory=dict)
    estimates: dict[str, Estimate] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """[shape CreateDomainResponse]"""
        kept = ("DefaultExpirationDays", "DefaultEncryptionKey", "DeadLetterQueueUrl", "Tags")
        found = {name: self.request[name] for name in kept if name in self.request}
        return {"DomainName": self.name, "CreatedAt": self.created, "LastUpdatedAt": self.created} | found

    def forget(self) -> None:
        self.book = ProfileBook(self.name)
        self.jobs, self.definitions, self.estimates = {}, {}, {}


class CustomerProfilesBackend(BaseBackend):
    """Call every method under control.lock."""

    def __init__(self, region_name: str, account_id: str):
        super().__init__(region_name, account_id)
        self.domains: dict[str, Domain] = {}

    def reset(self) -> None:
        """Called by moto's reset on every backend."""
        with control.lock:
            super().reset()
            control.reset()

    # --- domains

    def create_domain(self, name: str, request: dict[str, Any]) -> Domain:
        if name in self.domains:
            raise BadRequestError("A domain with this name already exists.")  # the modelled errors have no conflict
        made = Domain(name, request, control.now(), ProfileBook(name))
        self.domains[name] = made
        return made

    def domain(self, name: str) -> Domain:
        found = self.domains.get(name)
        if found is None:
            raise NotFoundError("domain")
        found.book.expire(control.now())
        return found

    def delete_domain(self, name: str) -> None:
        self.domain(name)
        del self.domains[name]

    # --- upload jobs

    def create_upload_job(self, domain_name: str, request: dict[str, Any]) -> Job:
        """A new job each time: [shape CreateUploadJobRequest] has no idempotency token."""
        domain = self.domain(domain_name)
        _check_fields(request)
        same_name = any(job.request["DisplayName"] == request["DisplayName"] for job in domain.jobs.values())
        if same_name and control.settings.same_display_name == "refused":
            raise BadRequestError("An upload job with this DisplayName already exists.")
        job = Job(hex_id(domain_name, "upload job", len(domain.jobs) + 1), request, control.now())
        domain.jobs[job.id] = job
        return job

    def upload_job(self, domain_name: str, job_id: str) -> Job:
        job = self.domain(domain_name).jobs.get(job_id)
        if job is None:
            raise NotFoundError("upload job")
        return job

    def upload_path(self, domain_name: str, job_id: str) -> UploadPath:
        job = self.upload_job(domain_name, job_id)
        if job.status(control.now()) != "CREATED":
            raise BadRequestError("The job was already started and does not accept a file.")  # [strict]
        return new_path(domain_name, job, self.region_name, control.now(), control.settings.url_seconds)

    def start_upload_job(self, domain_name: str, job_id: str) -> None:
        domain, job = self.domain(domain_name), self.upload_job(domain_name, job_id)
        if job.status(control.now()) != "CREATED":
            raise BadRequestError("Only a job that is CREATED can be started.")  # [strict]
        if job.content is None:
            raise BadRequestError("No file was uploaded for the job.")  # [strict]
        job.started, job.seconds = control.now(), control.settings.job_seconds
        if control.take("fail_next_jobs"):
            job.simulated_failure = "fail"
        elif control.take("partly_fail_next_jobs"):
            job.simulated_failure = "partly"
        timer = Timer(job.seconds * INGESTED_AT, _ingest, (domain.book, job))
        timer.daemon = True
        timer.start()

    def stop_upload_job(self, domain_name: str, job_id: str) -> None:
        """[shape UploadJobStatus] "manually stopped or terminated before completion"; what was ingested stays."""
        job, now = self.upload_job(domain_name, job_id), control.now()
        if job.ended(now):
            raise BadRequestError("The job has ended.")  # [strict]
        job.stopped = now

    # --- segments

    def create_definition(self, domain_name: str, name: str, request: dict[str, Any]) -> Definition:
        domain = self.domain(domain_name)
        if name in domain.definitions:
            raise BadRequestError("A segment definition with this name already exists.")  # the model has no conflict
        if "SegmentSqlQuery" in request or "SegmentGroups" not in request:
            raise BadRequestError("SegmentGroups is required; SegmentSqlQuery is not emulated.")
        self._check(domain, request["SegmentGroups"])
        arn = f"arn:{self.partition}:profile:{self.region_name}:{self.account_id}:domains/{domain_name}"
        made = Definition(f"{arn}/segment-definitions/{name}", request, control.now())
        domain.definitions[name] = made
        return made

    def definition(self, domain_name: str, name: str) -> Definition:
        found = self.domain(domain_name).definitions.get(name)
        if found is None:
            raise NotFoundError("segment definition")
        return found

    def delete_definition(self, domain_name: str, name: str) -> None:
        self.definition(domain_name, name)
        for other in self.domains[domain_name].definitions.values():
            if name in segments.sources(other.groups):
                raise BadRequestError("Another segment definition uses this one.")  # [strict]
        del self.domains[domain_name].definitions[name]

    def members(self, domain_name: str, groups: dict[str, Any]) -> Iterator[Document]:
        """The profiles that are in a segment now."""
        domain = self.domain(domain_name)
        for entry in domain.book.by_id.values():
            if segments.includes(groups, entry.document, domain.definitions.__getitem__):
                yield entry.document

    def by_arn(self, arn: str) -> tuple[str, Definition] | None:
        """The domain's name and the definition that an ARN names, if it is of this account and region."""
        for name, domain in self.domains.items():
            for definition in domain.definitions.values():
                if definition.arn == arn:
                    return name, definition
        return None

    def create_estimate(self, domain_name: str, request: dict[str, Any]) -> Estimate:
        domain = self.domain(domain_name)
        if "SegmentSqlQuery" in request or "SegmentQuery" not in request:
            raise BadRequestError("SegmentQuery is required; SegmentSqlQuery is not emulated.")
        self._check(domain, request["SegmentQuery"])
        size = sum(1 for _ in self.members(domain_name, request["SegmentQuery"]))
        size += control.settings.add_to_next_estimate
        control.settings.add_to_next_estimate = 0
        made = Estimate(
            hex_id(domain_name, "estimate", len(domain.estimates) + 1),
            control.now() + control.settings.estimate_seconds,
            size,
            control.take("fail_next_estimates"),
        )
        domain.estimates[made.id] = made
        return made

    def estimate(self, domain_name: str, estimate_id: str) -> Estimate:
        found = self.domain(domain_name).estimates.get(estimate_id)
        if found is None:
            raise NotFoundError("segment estimate")
        return found

    def _check(self, domain: Domain, groups: dict[str, Any]) -> None:
        try:
            segments.check(groups, domain.definitions.__contains__)
        except DefinitionError as wrong:
            raise BadRequestError(str(wrong)) from None

    # --- profiles

    def create_profile(self, domain_name: str, document: Document) -> str:
        domain = self.domain(domain_name)
        # [shape CreateDomainRequest.DefaultExpirationDays] "until the data within the domain expires"
        expires = control.now() + domain.request["DefaultExpirationDays"] * DAY
        return domain.book.make(flattened(document), expires)

    def update_profile(self, domain_name: str, profile_id: str, document: Document) -> None:
        domain = self.domain(domain_name)
        if profile_id not in domain.book.by_id:
            raise NotFoundError("profile")
        domain.book.update(profile_id, flattened(document), None)

    def delete_profile(self, domain_name: str, profile_id: str) -> None:
        if not self.domain(domain_name).book.delete(profile_id):
            raise NotFoundError("profile")


def _check_fields(request: dict[str, Any]) -> None:
    """[shape CreateUploadJobRequest.Fields] "mapping between CSV Columns and Profile Object attributes"."""
    fields: dict[str, dict[str, str]] = request["Fields"]
    if not 1 <= len(fields) <= MAX_FIELDS:
        raise BadRequestError(f"Fields must have 1 to {MAX_FIELDS} columns.")
    for name, mapped in fields.items():
        if "Target" not in mapped:
            raise BadRequestError("A field must have a Target.")  # [strict]
        # [shape ObjectTypeField.Source] "_source.FirstName". [strict] It names the column as its key does.
        if mapped.get("Source", f"_source.{name}") != f"_source.{name}":
            raise BadRequestError("A field's Source must be _source.<the column's name>.")
        try:
            target(mapped["Target"])
        except ProfileError as wrong:
            raise BadRequestError(str(wrong)) from None
    if len({mapped["Target"] for mapped in fields.values()}) != len(fields):
        raise BadRequestError("Two columns have the same Target.")  # [strict]
    # [Connect guide: imported files] "choose one mapped attribute as the customer identifier (unique key)".
    if request["UniqueKey"] not in fields:
        raise BadRequestError("UniqueKey must be one of the columns in Fields.")


# --- running a job, on its own thread


def _ingest(book: ProfileBook, job: Job) -> None:
    result = FileResult(0.0)
    try:
        # [Connect guide: imported files] "Under 1GB in size", 10^9 bytes [strict].
        if len(job.content or b"") >= control.settings.max_bytes:
            raise FileError("The file must be smaller than 1 GB.")
        found = rows(job.content or b"", job.request["Fields"], job.request["UniqueKey"])
        _ingest_rows(book, job, result, found)
        if not result.created + result.updated + result.failed:
            raise FileError("The file has no rows.")  # [strict]
    except FileError as wrong:
        result.reason = "VALIDATION_FAILURE"
        result.add_error(str(wrong))
    with control.lock:
        result.processed_at = control.now()
        job.result = result


def _ingest_rows(book: ProfileBook, job: Job, result: FileResult, found: Iterator[Any]) -> None:
    path, _ = target(job.request["Fields"][job.request["UniqueKey"]]["Target"])
    read = list(found)
    if job.simulated_failure == "fail":
        # [strict] A job that FAILED may have changed profiles before it did.
        result.reason = "INTERNAL_FAILURE"
        read = read[: (len(read) + 1) // 2] if control.settings.failed_job_ingests == "half" else []
    for start in range(0, len(read), CHUNK):
        with control.lock:
            if job.stopped is not None:
                return
            for number, (line, row) in enumerate(read[start : start + CHUNK], start=start):
                is_failing = job.simulated_failure == "partly" and number == 0
                fault = "The row could not be processed." if is_failing else row if isinstance(row, str) else None
                fault = fault or _upsert(book, job, result, path, row)
                if fault:
                    result.failed += 1
                    result.add_error(f"Line {line}: {fault}")


def _upsert(book: ProfileBook, job: Job, result: FileResult, path: Path, values: dict[Path, str]) -> str | None:
    """[Connect guide: imported files] the identifier serves to "create new profiles or update existing ones"."""
    known = book.matching(path, values[path])
    if len(known) > 1:
        return "More than one profile has this unique key."  # [strict]
    expires = control.now() + job.expiry_days * DAY
    if known:
        book.update(next(iter(known)), values, expires)
        result.updated += 1
    else:
        book.make(values, expires)
        result.created += 1
    return None


backends = BackendDict(CustomerProfilesBackend, "customer-profiles")


def forget() -> None:
    """Reset all but the seeded domains; /moto-api/reset removes those too."""
    for regions in backends.values():
        for backend in regions.values():
            for domain in backend.domains.values():
                domain.forget()


def find_upload(key: str) -> tuple[Job, UploadPath] | None:
    """The job and the path of a presigned URL."""
    for regions in backends.values():
        for backend in regions.values():
            for domain in backend.domains.values():
                for job in domain.jobs.values():
                    if key in job.paths:
                        return job, job.paths[key]
    return None


def state() -> dict[str, Any]:
    """The whole state of the service, for assertions of tests."""
    return {
        "domains": [
            _domain_state(backend, domain)
            for regions in backends.values()
            for backend in regions.values()
            for domain in backend.domains.values()
        ]
    }


def _domain_state(backend: CustomerProfilesBackend, domain: Domain) -> dict[str, Any]:
    now = control.now()
    domain.book.expire(now)
    return {
        "account": backend.account_id,
        "region": backend.region_name,
        "name": domain.name,
        "profiles": [entry.document | {"Expires": entry.expires} for entry in domain.book.by_id.values()],
        "upload_jobs": [_job_state(job, now) for job in domain.jobs.values()],
        "segments": [
            definition.document()
            | {"Members": [member["ProfileId"] for member in backend.members(domain.name, definition.groups)]}
            for definition in domain.definitions.values()
        ],
    }


def _job_state(job: Job, now: float) -> dict[str, Any]:
    return job.document(now) | {
        "Started": job.started is not None,
        "Uploaded": None if job.content is None else len(job.content),
        "Sentences": job.result.sentences if job.result else [],
    }
