"""Find the rows of a launch that may not be mailed any more: players who have withdrawn, or were mailed meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import batched

from cohort_flywheel.campaign.email_template import first_missing_column
from cohort_flywheel.campaign.launch_store import Row, revocation_reason, same_address
from cohort_flywheel.common.records import Json
from cohort_flywheel.destinations.ses.campaign.send_outcomes import OLDER_AS_OF
from cohort_flywheel.engagement.suppressions_store import SuppressionTable
from cohort_flywheel.hooks.dynamodb import DynamoDBBatchGetHook
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.segment.contacts import has_consented, lookup_paths
from cohort_flywheel.segment.do_not_contact_store import ENTRIES, add_to_list, is_listed, load_do_not_contact, make_list


class Withdrawals:
    """Look up the rows of a batch that may not be mailed any more, just before it is sent.

    `untracked` are the players of the last batch who have not agreed to tracking.
    """

    def __init__(
        self,
        s3: S3Hook,
        records: DynamoDBBatchGetHook,
        plan: Plan,
        defaults: Mapping[str, str | None],
        players: sqlite3.Connection,
        is_newest: bool,
        rows: Iterable[Row],
    ) -> None:
        self._s3 = s3
        self._records = records
        self._plan = plan
        self._defaults = defaults
        self._players = players
        self._is_newest = is_newest
        self._consent = plan.consent
        self._tracking = plan.require_campaign().tracking_consent
        self.untracked = frozenset[str]()
        self._etag: str | None = None
        self._suppressions = SuppressionTable(s3, plan.state_bucket, plan.withhold.suppressions, players)
        make_list(players, ENTRIES)
        make_list(players, "another")
        for some in batched(same_address(rows, players), 1000):  # the first row of an address is mailed
            add_to_list(players, "another", some)

    def of(self, rows: Sequence[Row]) -> dict[str, str]:
        """Return the reason of each player who may not be mailed."""
        if not self._is_newest:
            return {row.player_id: OLDER_AS_OF for row in rows}
        self._load_do_not_contact()
        self._suppressions.refresh()
        schema = self._plan.data_schema
        wanted, ids = lookup_paths({}, self._consent, schema), [row.player_id for row in rows]
        if self._tracking:
            wanted = list(dict.fromkeys([*wanted, *lookup_paths({}, self._tracking, schema)]))
        records = self._records.get_items(self._plan.contacts_table, schema.contacts_key, ids, wanted)
        if consent := self._tracking:
            self.untracked = frozenset(each for each in ids if not has_consented(records.get(each, {}), consent))
        reasons = ((row.player_id, self._reason(row, records.get(row.player_id))) for row in rows)
        return {player_id: reason for player_id, reason in reasons if reason}

    def _reason(self, row: Row, record: Json | None) -> str | None:
        if not is_listed("launched", row.player_id, self._players):
            return "recently_mailed"
        suppressed, schema = self._suppressions.reason, self._plan.data_schema
        if reason := revocation_reason(row, record, self._consent, self._players, suppressed, schema):
            return reason
        if is_listed("another", row.player_id, self._players):
            return "same_address"
        return "missing_value" if first_missing_column(self._defaults, row.attributes) else None

    def _load_do_not_contact(self) -> None:
        """Copy the do-not-contact list into its table if it has changed."""
        bucket, key = self._plan.state_bucket, self._plan.do_not_contact_key
        if not key:
            return
        etag = self._s3.get_conn().head_object(Bucket=bucket, Key=key)["ETag"]
        if etag == self._etag:
            return
        load_do_not_contact(self._s3, bucket, key, self._players)
        self._etag = etag
