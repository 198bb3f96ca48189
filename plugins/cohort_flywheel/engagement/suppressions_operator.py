"""Change the suppression list: by the events of an as-of and SES's account-level list, and by a person."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from botocore.exceptions import ClientError
from pydantic import BaseModel, Field

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json, Record
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.params import refuse_unknown_params
from cohort_flywheel.config.variables import StateSettings, read_settings
from cohort_flywheel.destinations import get_destination
from cohort_flywheel.engagement import suppressions_store as store
from cohort_flywheel.engagement.engagement_outputs import EngagementPlan
from cohort_flywheel.engagement.event_objects import REMOVAL_KEY, removal_key
from cohort_flywheel.engagement.events_store import as_text
from cohort_flywheel.engagement.suppressions import (
    SUPPRESSION_REASONS,
    Entry,
    Kind,
    SuppressionCounts,
    date_text,
    suppression_key,
)
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.governance.erasure import read_players
from cohort_flywheel.governance.tombstones_store import make_salt
from cohort_flywheel.hooks.s3 import S3Hook, delete_every_version, get_json, lines, put_json
from cohort_flywheel.runs.names import SUPPRESSIONS_KEY
from cohort_flywheel.runs.schedule import Clock, utc_now
from cohort_flywheel.segment.contacts import plain_address

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Context

#: Read again, as the order in which SES lists its entries is not documented.
_OVERLAP = timedelta(days=1)


class UpdateSuppressionsOperator(TemporaryFolderMixin, BaseOperator):
    """Add the bounces, complaints, unsubscribes and opt-ins of an as-of to the suppression list.

    Those of earlier as-ofs whose run failed after it had read them are added too. A bounce suppresses the address, the
    others also the player. SES's account-level list is read from where the last run ended. The same entries give the
    same list, in any order. Returns (each also as a separate XCom) the counts of SuppressionCounts.

    :param plan: the output of EngagementPlanOperator. (templated)
    :param destination: the name of a destination.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    template_fields = ("plan",)
    ui_color = "#f4c9c4"

    def __init__(
        self,
        *,
        plan: Json,
        destination: str,
        memory_mb: int | None = None,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.destination = destination
        self.memory_mb = memory_mb
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: the latest entry counts, in whatever order they are added."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            plan, s3 = EngagementPlan.model_validate(self.plan), S3Hook(aws_conn_id=self.aws_conn_id)
            bucket, state = plan.state_bucket, store.read_state(s3, plan.state_bucket)
            self._numbers, self._until = Counter[str](), state.account_until
            salt = make_salt(s3, bucket)
            as_ofs, up_to = store.as_ofs_to_add(s3, bucket, state, plan.as_of)
            entries = self._entries(s3, bucket, as_ofs, salt, state.account_until)
            addresses, players = store.add_entries(s3, bucket, folder, entries, self.memory_mb)
            side_effects.append("the suppression list is up to date")
            store.put_state(s3, bucket, state.with_more(up_to, self._until))
        found = {"addresses": addresses, "players": players}
        counts = SuppressionCounts.model_validate(found | self._numbers).model_dump(mode="json")
        self.log.info("%s", as_text(counts))
        if up_to is None or up_to < plan.as_of:
            self.log.warning(
                "the events of an earlier as-of are not in the list, as its run has failed before it had read them:"
                " clear that run. The list has the events up to %s",
                up_to.isoformat() if up_to else "no as-of",
            )
        return counts

    def _entries(
        self, s3: S3Hook, bucket: str, as_ofs: list[datetime], salt: bytes, since: datetime | None
    ) -> Iterator[Entry]:
        players = store.Players(s3, bucket)
        for each in chain.from_iterable(store.fetch_feedback(s3, bucket, as_of) for as_of in as_ofs):
            self._numbers["feedback"] += 1
            yield Entry("address", each.key, each.reason, each.at, each.state)
            if each.reason == "bounced":  # another address of the player may be reached
                continue
            if player := players.of(each.launch, each.row):
                yield Entry("player", suppression_key(salt, "player", player), each.reason, each.at, each.state)
            else:
                self._numbers["unknown_players"] += 1
        destination = get_destination(self.destination)
        for found in destination.suppressed_addresses(since - _OVERLAP if since else None, self.aws_conn_id):
            self._until = max(self._until or found.at, found.at)
            self._numbers["account_list"] += 1
            key = suppression_key(salt, "address", found.address)
            yield Entry("address", key, found.reason, date_text(found.at), "suppressed")


class RemovalParams(BaseModel):
    """The params of `suppression_removal`; Airflow has checked them against their JSON schema."""

    reason: str | None = None
    dry_run: bool

    def one_line(self) -> str:
        """Return the reason; raise FlywheelError without one."""
        if not self.dry_run and not (self.reason or "").strip():
            raise FlywheelError(
                "the removal needs a reason: write why these addresses and players may be mailed again", code=Code.PARAM
            )
        return " ".join((self.reason or "").split())


class RemovedSuppressions(Record):
    """The output of RemoveSuppressionsOperator.

    `lines` are those of the list of removals, `suppressed` its addresses and players that were suppressed, by reason,
    and `at_destination` the addresses that were removed from the destination's own list; of an attempt after the
    removal of the file only `lines` is known.
    """

    lines: int
    suppressed: dict[str, int] = Field(default_factory=dict)
    at_destination: int = 0


class RemoveSuppressionsOperator(TemporaryFolderMixin, BaseOperator):
    """Remove addresses and players from the suppression list, for a person's reason; in a dry run only count them.

    They are in `engagement/remove.txt` of the state bucket, one per line, so that no param, XCom or log has one; the
    file is deleted at the end. An entry is removed for all reasons, also for events that are read later and are from
    before. Each address is removed from the destination's own list too. Fails where the destination refuses it. Params:
    `reason`, `dry_run`. Returns (each also as a separate XCom) the counts of RemovedSuppressions.

    :param destination: the name of a destination.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: gives the time, with its zone.
    """

    ui_color = "#f4c9c4"

    def __init__(
        self,
        *,
        destination: str,
        memory_mb: int | None = None,
        aws_conn_id: str | None = "aws_default",
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.destination = destination
        self.memory_mb = memory_mb
        self.aws_conn_id = aws_conn_id
        self.clock = clock

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it removes the rest of the list."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            refuse_unknown_params(context)
            params = RemovalParams.model_validate(context["params"])
            why = f"{getattr(context['dag_run'], 'triggering_user_name', None) or 'unknown'}: {params.one_line()}"
            bucket = StateSettings.model_validate(read_settings(StateSettings)).state_bucket
            s3 = S3Hook(aws_conn_id=self.aws_conn_id)
            done_key = removal_key(context["dag_run"].run_id)
            try:
                texts = read_players(lines(s3, bucket, REMOVAL_KEY), REMOVAL_KEY)
            except FlywheelError as error:
                # an earlier attempt of this run has deleted the file
                if error.code == Code.FILE_CHANGED and (done := get_json(s3, bucket, done_key)):
                    return RemovedSuppressions.model_validate(done[0]).model_dump(mode="json")
                raise
            suppressed = Counter(_reasons(s3, bucket, folder, texts))
            addresses = [text for text in texts if plain_address(text)]
            at_destination = 0
            if not params.dry_run:
                at, salt = date_text(self.clock()), make_salt(s3, bucket)
                store.add_entries(s3, bucket, folder, _removals(texts, salt, at, why), self.memory_mb)
                side_effects.append(f"{len(texts):,} lines were removed from the suppression list")
                at_destination = self._remove_there(addresses)
                side_effects.append(f"{at_destination:,} addresses were removed from the list of {self.destination}")
                put_json(s3, bucket, done_key, RemovedSuppressions(lines=len(texts)).model_dump(mode="json"))
                delete_every_version(s3, bucket, REMOVAL_KEY)
        output = RemovedSuppressions(
            lines=len(texts), suppressed=dict(sorted(suppressed.items())), at_destination=at_destination
        ).model_dump(mode="json")
        self.log.info("%s%s (%s)", "dry run: " if params.dry_run else "", as_text(output), why)
        return output

    def _remove_there(self, addresses: list[str]) -> int:
        """Remove addresses from the destination's own list; return the number of those that were there."""
        destination, number = get_destination(self.destination), 0
        for address in addresses:
            try:
                number += destination.remove_suppressed_address(address, self.aws_conn_id)
            except ClientError as error:
                if (code := error.response["Error"]["Code"]) not in ("AccessDenied", "AccessDeniedException"):
                    raise
                raise FlywheelError(
                    f"the entries were removed from the suppression list, but {self.destination} refuses to remove"
                    f" addresses from its own ({code}), and does not mail those on it: grant the execution role"
                    " ses:DeleteSuppressedDestination, then clear this task",
                    code=Code.REFUSED,
                ) from None
        return number


def _reasons(s3: S3Hook, bucket: str, folder: Path, texts: list[str]) -> Iterator[str]:
    """Yield why each of these addresses and players is suppressed."""
    with closing(sqlite3.connect(folder / "suppressed.sqlite")) as listed:
        table = store.SuppressionTable(s3, bucket, SUPPRESSIONS_KEY, listed)
        table.refresh()
        for text in texts:
            for kind in _kinds(text):
                if reason := table.reason(kind, text):
                    yield reason


def _removals(texts: list[str], salt: bytes, at: str, why: str) -> Iterator[Entry]:
    for text in texts:
        for kind in _kinds(text):
            key = suppression_key(salt, kind, text)
            yield from (Entry(kind, key, reason, at, "removed", why) for reason in SUPPRESSION_REASONS)


def _kinds(text: str) -> list[Kind]:
    # a playerId may be an address
    return ["player", "address"] if plain_address(text) else ["player"]
