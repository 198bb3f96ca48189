"""The outputs of the tasks `extract`, `enrich` and `check_limits`: locations and counts, and no player."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cohort_flywheel.common.records import Record


class Shard(Record):
    """A part of an extract that one task looks up: `members` lines from byte `first`, of `bytes` bytes.

    `size` is the number of members of every shard but the last, `of` the SHA-256 of the extract.
    """

    index: int
    first: int
    bytes: int
    members: int
    size: int
    of: str


class VertexCounts(Record):
    """The vertices that were read.

    `vertices_read = vertices + vertices_not_beyond + vertices_not_as_required`, and
    `vertices = members + merged + vertices_without_playerId`.
    """

    vertices_read: int
    vertices_not_beyond: int
    vertices_not_as_required: int
    vertices: int
    members: int
    merged: int
    vertices_without_player_id: Annotated[int, Field(alias="vertices_without_playerId")]


class ExtractFile(VertexCounts):
    """An extract in S3; `put` is false if the same bytes were there already."""

    s3_bucket: str
    s3_key: str
    bytes: int
    sha256: str
    put: bool


class GremlinExtract(ExtractFile):
    """The output of GremlinToS3Operator."""

    shards: list[Shard]
    vertices_without_number: int | None = None


class ExtractSource(Record):
    """Where the members come from.

    `read_at` is when the graph was read, or when the extract was uploaded (ISO 8601). `snapshot_key` is None for
    `live`, for an uploaded extract, and for the graph in a dry run. `vertices_without_number` are vertices of the graph
    with the property but without a number in it, which no other count has; None if they were not counted.
    """

    source: Literal["graph", "snapshot", "extract"]
    read_at: str
    snapshot_key: str | None
    snapshot: Literal["pending", "final"] | None
    vertices_without_number: int | None = None


class Extract(ExtractFile, ExtractSource):
    """The facts of a run's extract: the XCom `facts` of CohortExtractOperator."""

    vertices_erased: int = 0


class SegmentCounts(Record):
    """`members = rows + rejects`; the rejects are counted by reason."""

    members: int
    rows: int
    rejects: dict[str, int]


class RecordSums(SegmentCounts):
    """`records` are the records found in the contacts table; `records_without` counts those without a value, by
    attribute. `do_not_contact` is the number of entries of the list."""

    bytes: int
    sha256: str
    do_not_contact: int
    records: int = 0
    records_without: dict[str, int] = Field(default_factory=dict)


class EnrichedFile(RecordSums):
    """The output of DynamoDBEnrichOperator for a whole extract."""

    s3_bucket: str
    s3_key: str
    s3_url: str
    rejects_key: str
    do_not_contact_matched: int = 0


class SegmentPart(EnrichedFile):
    """The output of DynamoDBEnrichOperator for a shard, of which `index` and `of` are.

    `matched_key` is the file of the lines of the do-not-contact list that match a member, or None.
    """

    index: int
    of: str
    matched_key: str | None = None


class PartFile(Record):
    """A file of a segment."""

    s3_key: str
    sha256: str


class SegmentSums(RecordSums):
    """The parts of a segment file, put together; `sha256` is over their digests."""

    parts: list[PartFile]


class CombinedParts(SegmentSums):
    """With the files of the lines of the do-not-contact list that match a member."""

    matched_keys: list[str]


class Segment(SegmentSums):
    """A segment file: the folder `s3_key` of `s3_bucket`."""

    s3_bucket: str
    s3_key: str
    s3_url: str
    rejects_key: str
    do_not_contact_matched: int = 0


class LimitResult(Record):
    """One limit: what it allows, what was found (None: it could not be evaluated), and a sentence on it."""

    limit: str
    allowed: int
    found: int | float | None
    holds: bool
    sentence: str


class Previous(Record):
    """The members of the run before, and what they are the members of."""

    members: int
    what: str


class LimitsOverride(Record):
    """The user who lets a run through, the reason, and the limits that do not hold."""

    by: str
    reason: str
    limits: list[str] = Field(default_factory=list)


class LimitResults(Record):
    """One result per limit."""

    limits: list[LimitResult]
    previous: Previous | None
    override: LimitsOverride | None


class JudgedSegment(LimitResults):
    """The XCom `judged` of CohortLimitsOperator, which a run that is stopped has too."""

    extract: Extract
    segment: Segment


class CheckedSegment(JudgedSegment):
    """The output of CohortLimitsOperator: the segment file where it can be imported, and the key of the snapshot."""

    snapshot: str | None
    s3_url: str
    rows: int
