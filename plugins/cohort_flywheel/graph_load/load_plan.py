"""The plan of a graph load: its files as they were found, and how they are loaded."""

from __future__ import annotations

from cohort_flywheel.common.records import Record
from cohort_flywheel.graph_load.load_record import LoadSource


class PlannedFile(Record):
    """A file as the plan has found it."""

    key: str
    etag: str
    bytes: int


class GraphLoadPlan(Record):
    """What the tasks of a run know of its load; `model_dump(mode="json")` fits an XCom.

    in_order: the files have an order of their own; else vertices are loaded first. folder: where the state bucket keeps
    what belongs to this run.
    """

    load: str
    bucket: str
    files: list[PlannedFile]
    in_order: bool
    mode: str
    single: list[str]
    self_contained: bool
    parallelism: str
    max_findings: int
    iam_role_arn: str
    region: str
    dry_run: bool
    folder: str
    state_bucket: str

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"


class ValidatedFile(Record):
    """A file that the validation has accepted.

    records: labels and values, as the loader counts them.
    """

    key: str
    etag: str
    elements: str
    rows: int
    records: int


class PreparedFile(Record):
    """What is loaded in the place of a validated file: itself, or a copy."""

    uri: str
    etag: str
    records: int
    is_copy: bool

    def source(self) -> LoadSource:
        return LoadSource(uri=self.uri, etag=self.etag, records=self.records)
