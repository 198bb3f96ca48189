"""Make a segment file from an extract and a table of contacts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import batched, chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from cohort_flywheel.campaign.send_ledger_store import load_recently_mailed
from cohort_flywheel.common.collector import seldom_collecting
from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.records import Json, Output
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.attribute_paths import COLUMNS, AttributePath
from cohort_flywheel.config.cohorts import Consent
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.destinations import get_destination
from cohort_flywheel.engagement.suppressions_store import SuppressionTable
from cohort_flywheel.hooks.dynamodb import IN_FLIGHT, MAX_BATCH_KEYS, DynamoDBBatchGetHook
from cohort_flywheel.hooks.s3 import S3Hook, lines, put_unless_equal
from cohort_flywheel.runs.names import (
    matched_file_name,
    part_file_name,
    rejects_folder,
    rejects_part_key,
    segment_file_name,
)
from cohort_flywheel.runs.plan import Withhold
from cohort_flywheel.segment.contact_batches import Asked, classify_batch
from cohort_flywheel.segment.contacts import (
    Contact,
    Listed,
    RecordCounts,
    Reject,
    Suppressed,
    classify_member,
    exclusion_reason,
    lookup_paths,
    player_forms,
    projection,
)
from cohort_flywheel.segment.do_not_contact_store import (
    ENTRIES,
    find_listed,
    is_listed,
    load_do_not_contact,
    match_entries,
    write_matched,
)
from cohort_flywheel.segment.extract_file import read_extract, read_shard
from cohort_flywheel.segment.members import Member
from cohort_flywheel.segment.outputs import EnrichedFile, SegmentPart, Shard
from cohort_flywheel.segment.segment_file import digest, write_segment

if TYPE_CHECKING:
    from airflow.sdk import Context


class DynamoDBEnrichOperator(TemporaryFolderMixin, AwsBaseOperator[DynamoDBBatchGetHook]):
    """Look up the members of an extract in a table, and write the segment file and the rejects.

    The name of the file ends with a digest of its bytes. The cohort is not held in memory. Returns (each also an
    XCom of its own) `s3_bucket`, `s3_key`, `s3_url`, `bytes`, `sha256`, `rejects_key`, `do_not_contact`
    (entries of the list), `do_not_contact_matched` (those that name a member), and the counts
    `members = rows + rejects`, `rejects` by reason, `records` (found), `records_without` (a value, by attribute). Of a
    shard also `matched_key`: an entry may name members of several shards, so the file has the lines that matched;
    None where none did.

    :param extract_bucket: the bucket of the extract. (templated)
    :param extract_key: the key of the extract. (templated)
    :param property: the property of the score in the extract. (templated)
    :param table_name: the table of contacts, with one key. (templated)
    :param segment_bucket: the bucket of the segment file. (templated)
    :param segment_folder: the prefix of its key. (templated)
    :param name: the beginning of its file name. (templated)
    :param rejects_bucket: the bucket of the rejects. (templated)
    :param rejects_key: the key of the rejects. (templated)
    :param attributes: the attribute of the table by column of the file, besides the names and the role; an attribute
        in a map as a list of names. (templated)
    :param score_column: the column of the score, or None. (templated)
    :param consent: a Consent as a dict, or None if consent is not required. (templated)
    :param do_not_contact_key: the key of the do-not-contact list in the rejects' bucket, or None. (templated)
    :param layout: the destination of the file, which defines its format. (templated)
    :param withhold: the settings that exclude contacts, as CohortPlanOperator returns them: `holdout_percent`,
        `launch_holdout_percent` (drawn by `name`), the `placeholders` that must have values, the `template` with which
        players were mailed `since`, and `suppressions`, the key of the suppression list; or None. (templated)
    :param data_schema: a DataSchema as a dict, or None for the Cohort Modeler's names. (templated)
    :param shard: the part of the extract that this task does (`extract_file.write_extract`), or None for all of it. The
        files of a shard lie in folders named as the whole ones would be. (templated)
    :param in_flight: the number of concurrent lookups, or None for the default of DynamoDBBatchGetHook.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    aws_hook_class = DynamoDBBatchGetHook
    template_fields = aws_template_fields(
        "extract_bucket", "extract_key", "property", "table_name", "segment_bucket", "segment_folder", "name",
        "rejects_bucket", "rejects_key", "attributes", "score_column", "consent", "do_not_contact_key", "layout",
        "withhold", "data_schema", "shard",
    )  # fmt: skip
    ui_color = "#f0dcb7"

    def __init__(
        self,
        *,
        extract_bucket: str,
        extract_key: str,
        property: str,
        table_name: str,
        segment_bucket: str,
        name: str,
        rejects_bucket: str,
        rejects_key: str,
        segment_folder: str = "",
        attributes: Mapping[str, AttributePath] | None = None,
        score_column: str | None = None,
        consent: Json | None = None,
        do_not_contact_key: str | None = None,
        layout: str = "pinpoint",
        withhold: Json | None = None,
        data_schema: Json | None = None,
        shard: Json | None = None,
        in_flight: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.extract_bucket = extract_bucket
        self.extract_key = extract_key
        self.property = property
        self.table_name = table_name
        self.segment_bucket = segment_bucket
        self.segment_folder = segment_folder
        self.name = name
        self.rejects_bucket = rejects_bucket
        self.rejects_key = rejects_key
        self.attributes = attributes
        self.score_column = score_column
        self.consent = consent
        self.do_not_contact_key = do_not_contact_key
        self.layout = layout
        self.withhold = withhold
        self.data_schema = data_schema
        self.shard = shard
        self.in_flight = in_flight

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it writes the same files from the same extract and records."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            if shard := self._shard():  # the name of this mapped task in the UI
                first = shard.index * shard.size + 1
                context["shard_label"] = f"members {first:,} to {first + shard.members - 1:,}"  # type: ignore[typeddict-unknown-key]  # what map_index_template reads
            return self.make(folder, side_effects).model_dump(mode="json")

    def _shard(self) -> Shard | None:
        return Shard.model_validate(self.shard) if self.shard else None

    @seldom_collecting()
    def make(self, folder: Path, side_effects: list[str]) -> EnrichedFile:
        """Write both files, and add the changes to `side_effects`; for a shard the result is a SegmentPart."""
        shard = self._shard()
        s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
        layout = get_destination(self.layout).layout
        schema = DataSchema.model_validate(self.data_schema or {})
        attributes = COLUMNS.validate_python(dict(self.attributes or {}))
        columns = [*schema.name_columns, *attributes, *([self.score_column] if self.score_column else [])]
        rows_path, rejects_path, matched_path = folder / "segment.csv", folder / "rejects.csv", folder / "matched.csv"
        consent = Consent.model_validate(self.consent) if self.consent else None
        found = RecordCounts(projection(attributes, consent, schema))
        withhold = Withhold.model_validate(self.withhold or {})
        with closing(sqlite3.connect(folder / "do_not_contact.sqlite")) as listed:
            entries = load_do_not_contact(s3, self.rejects_bucket, self.do_not_contact_key, listed)
            suppressions = SuppressionTable(s3, self.rejects_bucket, withhold.suppressions, listed)
            suppressions.refresh()
            judged = self._classified(
                self._members(s3, shard), shard, attributes, consent, schema, found, listed if entries else None,
                suppressions.reasons if withhold.suppressions else None,
            )  # fmt: skip
            counts = write_segment(judged, columns, layout, rows_path, rejects_path, self._exclusion(s3, listed))
            matched = write_matched(listed, matched_path)
        rejects_key = self.rejects_key
        if shard:
            rejects_key = rejects_part_key(rejects_folder(rejects_key, shard.of, shard.size), shard.index)
        put_unless_equal(s3, rejects_path, self.rejects_bucket, rejects_key, digest(rejects_path))
        side_effects.append(f"the rejects were put at s3://{self.rejects_bucket}/{rejects_key}")
        sha256, size = digest(rows_path), rows_path.stat().st_size
        file_name = part_file_name(self.name, shard.index, sha256) if shard else segment_file_name(self.name, sha256)
        key = self.segment_folder + file_name
        url = f"s3://{self.segment_bucket}/{key}"
        put_unless_equal(s3, rows_path, self.segment_bucket, key, sha256)
        side_effects.append(f"the segment file was put at {url}")
        self.log.info("%s: %s rows of %s members", side_effects[-1], f"{counts.rows:,}", f"{counts.members:,}")
        file = EnrichedFile(
            s3_bucket=self.segment_bucket, s3_key=key, s3_url=url, bytes=size, sha256=sha256, rejects_key=rejects_key,
            do_not_contact=entries, do_not_contact_matched=matched, records=found.records,
            records_without=found.without, **counts.model_dump(),
        )  # fmt: skip
        if not shard:
            return file
        matched_key = self._put_matched(s3, matched_path, shard) if matched else None
        return SegmentPart(**file.model_dump(), matched_key=matched_key, index=shard.index, of=shard.of)

    def _put_matched(self, s3: S3Hook, path: Path, shard: Shard) -> str:
        """Upload the do-not-contact lines that matched, beside the shard's part; return the key."""
        key = str(self.segment_folder + matched_file_name(self.name, shard.index, sha256 := digest(path)))
        put_unless_equal(s3, path, self.segment_bucket, key, sha256)
        return key

    def _members(self, s3: S3Hook, shard: Shard | None) -> Iterator[Member]:
        found = lines(s3, self.extract_bucket, self.extract_key, shard)
        return read_shard(found, self.property, shard.members) if shard else read_extract(found, self.property)

    def _exclusion(self, s3: S3Hook, listed: sqlite3.Connection) -> Callable[[Contact], Reject | None] | None:
        """Return the function that excludes contacts from the segment; None if nothing does."""
        withhold = Withhold.model_validate(self.withhold or {})
        template = withhold.template
        percents = withhold.holdout_percent, withhold.launch_holdout_percent
        if not (template or withhold.placeholders or any(percents)):
            return None
        if template and withhold.since:
            load_recently_mailed(s3, self.rejects_bucket, template, withhold.since, self.name, listed)
        return partial(
            exclusion_reason,
            defaults=withhold.placeholders,
            recently_mailed=partial(is_listed, "mailed", listed=listed) if template else lambda _: False,
            holdout_percent=withhold.holdout_percent,
            launch_holdout_percent=withhold.launch_holdout_percent,
            launch=self.name,
        )

    def _classified(
        self,
        members: Iterable[Member],
        shard: Shard | None,
        attributes: dict[str, AttributePath],
        consent: Consent | None,
        schema: DataSchema,
        found: RecordCounts,
        listed: sqlite3.Connection | None,
        find_suppressed: Callable[[Sequence[Asked]], Mapping[Asked, str]] | None,
    ) -> Iterator[Contact | Reject]:
        """Classify each member, and count the records; `listed` is None if the do-not-contact list has no entry."""
        columns = schema.name_columns | attributes

        def rule(
            member: Member,
            record: Mapping[str, object] | None,
            *,
            do_not_contact: Listed | None,
            suppressed: Suppressed | None,
        ) -> Contact | Reject:  # a partial of all settings takes longer
            return classify_member(
                member, record, columns=columns, score_column=self.score_column, consent=consent,
                do_not_contact=do_not_contact, suppressed=suppressed, schema=schema,
            )  # fmt: skip

        progress = Progress(self.log, "members looked up", shard.members if shard else None)
        lookups = self.hook.get_many(
            self.table_name,
            schema.contacts_key,
            batched(members, MAX_BATCH_KEYS),
            lookup_paths(attributes, consent, schema),
            key=lambda member: member.player_id,
            in_flight=self.in_flight or IN_FLIGHT,
        )
        for batch, records in lookups:
            found.add(records.values())
            looked = [(member, records.get(member.player_id)) for member in batch]
            find_entries = partial(find_listed, ENTRIES, listed=listed) if listed else None
            outcomes = classify_batch(looked, rule, find_entries, find_suppressed)
            if listed:  # rejects for any reason: an entry may match the player as well
                rejects = [each for each, outcome in zip(looked, outcomes, strict=True) if isinstance(outcome, Reject)]
                forms = (player_forms(member.player_id, record, schema) for member, record in rejects)
                match_entries(chain.from_iterable(forms), listed)
            yield from outcomes
            progress.add(len(batch))


def enrich_arguments(plan: Output, extract: Output) -> Json:
    """Return the arguments without the shard, from a plan and its extract, as values or as task outputs (XComArg)."""
    return {
        "extract_bucket": extract["s3_bucket"],
        "extract_key": extract["s3_key"],
        "table_name": plan["contacts_table"],
        "segment_bucket": plan["state_bucket"],
        "segment_folder": plan["staged_folder"],
        "rejects_bucket": plan["state_bucket"],
    } | {
        name: plan[name]
        for name in (
            "property", "attributes", "score_column", "consent", "do_not_contact_key", "name", "rejects_key", "layout",
            "withhold", "data_schema",
        )
    }  # fmt: skip
