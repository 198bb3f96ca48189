"""Erase players from every version of every file and from the destination, and exclude them from later runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from cohort_flywheel.common.failures import RetryableError, describe_failure
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.attribute_paths import value_at
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.config.params import refuse_unknown_params
from cohort_flywheel.config.variables import DeploymentSettings, read_settings
from cohort_flywheel.destinations import get_destination
from cohort_flywheel.destinations.base import Destination
from cohort_flywheel.engagement.events_store import written_names
from cohort_flywheel.engagement.graph_erasure_store import GraphErasure
from cohort_flywheel.engagement.graph_operator import WRITER_AWS_CONN_ID, WRITER_CONN_ID
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.governance.cleanup import InventoryRow, table
from cohort_flywheel.governance.cleanup_operator import refuse_active_runs
from cohort_flywheel.governance.erasure import (
    GRAPH_LOAD_FILE,
    PLAYERS_KEY,
    Addresses,
    ErasureOutput,
    Found,
    done_key,
    kind_of,
    look,
    read_players,
)
from cohort_flywheel.governance.tombstones_store import put_tombstones
from cohort_flywheel.hooks.dynamodb import MAX_BATCH_KEYS, DynamoDBBatchGetHook
from cohort_flywheel.hooks.s3 import (
    S3Hook,
    Version,
    delete_every_version,
    delete_version,
    fetch,
    get_json,
    lines,
    put_instead,
    put_json,
    versions,
)
from cohort_flywheel.runs.names import DO_NOT_CONTACT_KEY
from cohort_flywheel.segment.contacts import (
    address_forms,
    entry_forms,
    plain_address,
    player_id_forms,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from cohort_flywheel.engagement.graph_values import GraphPlan

#: The folders that are searched. An object of an unknown kind in one of them stops an erasure.
FOLDERS = (
    ("export_bucket", "export/"), ("export_bucket", "dropped/"), ("state_bucket", "snapshots/"),
    ("state_bucket", "snapshots_pending/"), ("state_bucket", "staged/"), ("state_bucket", "rejects/"),
    ("state_bucket", "dry_run/"),
    ("state_bucket", "memberships/"), ("state_bucket", "sends/"), ("state_bucket", "launches/"),
    ("import_bucket", "segments/"),
    ("import_bucket", "contacts/"),  # last: it has only addresses, which the other files give
)  # fmt: skip
#: The folders without players, in the state bucket. An object of an unknown kind in one of them may be a copy.
OTHER_FOLDERS = tuple(("state_bucket", folder) for folder in ("reports/", "results/", "what_if/", "engagement/"))


class CohortErasureOperator(TemporaryFolderMixin, BaseOperator):
    """Erase the players of a list in the state bucket, or in a dry run only list where they are.

    The list is `erasure/players.txt`, one playerId per line, so that no param, XCom or log has a player; it is deleted
    at the end, and a later attempt of the same run returns the counts again. First one tombstone per player is written,
    by which later runs exclude them. Nothing is removed while a run is active or an import job of the destination has
    not ended. Then the destination's `erase` is called, the players' vertices lose what this package has written to
    them, and the players' lines are removed from snapshots, segment files, rejects, memberships and records of sends.
    Earlier versions, and extracts, are deleted. Then everything is searched again. Returns (each also as a separate
    XCom) the fields of ErasureOutput.

    :param destination: the name of a destination.
    :param data_schema: the names in the contacts table.
    :param reads_engagement: whether the deployment reads events of e-mails, and so may have written to the graph.
    :param graph: what is written to the graph; None for nothing.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    :param neptune_conn_id: the Airflow connection of the graph, under the role that may write.
    :param neptune_aws_conn_id: the Airflow connection of that role.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    ui_color = "#e3d9c6"

    def __init__(
        self,
        *,
        destination: str,
        data_schema: DataSchema | None = None,
        reads_engagement: bool = False,
        graph: GraphPlan | None = None,
        memory_mb: int | None = None,
        neptune_conn_id: str = WRITER_CONN_ID,
        neptune_aws_conn_id: str | None = WRITER_AWS_CONN_ID,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.destination = destination
        self.data_schema = data_schema or DataSchema()
        self.reads_engagement = reads_engagement
        self.graph = graph
        self.memory_mb = memory_mb
        self.neptune_conn_id = neptune_conn_id
        self.neptune_aws_conn_id = neptune_aws_conn_id
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it continues with the remaining players of the list."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            refuse_unknown_params(context)
            dry_run, destination = bool(context["params"]["dry_run"]), get_destination(self.destination)
            self.settings = read_settings(DeploymentSettings, destination.settings)
            self.deployment = DeploymentSettings.model_validate(self.settings)
            self.s3, state = S3Hook(aws_conn_id=self.aws_conn_id), self.deployment.state_bucket
            done = done_key(context["dag_run"].run_id)
            try:
                players = read_players(lines(self.s3, state, PLAYERS_KEY))
            except FlywheelError as error:
                is_gone = error.code == Code.FILE_CHANGED
                # an earlier attempt of this run has deleted the list
                if is_gone and not dry_run and (found := get_json(self.s3, state, done)):
                    return ErasureOutput.model_validate(found[0]).model_dump(mode="json")
                raise
            names = written_names(self.s3, state) if self.reads_engagement else ()
            graph = GraphErasure(names, self.graph, self.neptune_conn_id, self.neptune_aws_conn_id)
            graph.check()
            if not dry_run:
                put_tombstones(self.s3, state, players)
                side_effects.append(f"{len(players):,} tombstones were put")
                self._refuse_at_work(destination, context)
            addresses = self._addresses(players)
            # find all addresses, and remove what only addresses identify, before the rows that contain them
            inventory = self._go_through(folder, players, addresses, side_effects, remove=False)
            at_destination = self._at_destination(destination, players, addresses, dry_run)
            in_graph = graph.erase(players, dry_run=dry_run)
            remaining = [*self._running_import_jobs(destination), *self._on_the_list(players, addresses)]
            self.log.info(
                "%s players\n%s", f"{len(players):,}", table([*inventory, *at_destination, *in_graph, *remaining])
            )
            if not dry_run:
                self._go_through(folder, players, addresses, side_effects, remove=True)
                self._refuse_at_work(destination, context)  # a run that began meanwhile may have read the players
                again = self._at_destination(destination, players, addresses, True)
                left = self._go_through(folder, players, addresses, side_effects, remove=False)
                again += graph.erase(players, dry_run=True)
                if left or any(not line.why for line in again):
                    raise RetryableError(
                        "a file that names them was put meanwhile, or the engagement was written to their vertices: a"
                        " later try takes them out",
                        code=Code.BUSY,
                    )
            output = ErasureOutput(
                players=len(players),
                objects=sum(line.number for line in inventory),
                at_destination=sum(line.number for line in at_destination if not line.why),
                stays=sum(line.number for line in [*at_destination, *in_graph, *remaining] if line.why),
                in_graph=sum(line.number for line in in_graph if not line.why),
            ).model_dump(mode="json")
            if not dry_run:
                put_json(self.s3, state, done, output)
                delete_every_version(self.s3, state, PLAYERS_KEY)
                side_effects.append("the list was removed")
        return output

    def _refuse_at_work(self, destination: Destination, context: Context) -> None:
        """Raise FlywheelError while a run is active or an import job runs, which continues after a failed run."""
        refuse_active_runs(self.s3, self.deployment.state_bucket, context)
        for job in self._running_import_jobs(destination):
            raise FlywheelError(
                f"{job.what} {job.place} has not ended, and may import the erased players again: wait for its end, then"
                " clear this task",
                code=Code.STILL_RUNNING,
            )

    def _running_import_jobs(self, destination: Destination) -> list[InventoryRow]:
        found = destination.running_import_jobs(self.settings, self.aws_conn_id)
        return [each._replace(why="it has not ended: nothing is erased before") for each in found]

    def _addresses(self, players: list[str]) -> set[tuple[str, str]]:
        """The players' addresses in the contacts table; the files may have others."""
        hook = DynamoDBBatchGetHook(aws_conn_id=self.aws_conn_id)
        table, size = self.deployment.contacts_table, MAX_BATCH_KEYS
        batches = [players[first : first + size] for first in range(0, len(players), size)]
        key, address = self.data_schema.contacts_key, self.data_schema.address
        answers = hook.get_many(table, key, batches, [address], key=lambda player: player)
        records = [record for _, found in answers for record in found.values()]
        recorded = ((str(record[key]), value_at(record, address)) for record in records)
        texts = {(player, text) for player, text in recorded if isinstance(text, str) and text}
        # the form that a destination has
        return texts | {(player, plain) for player, text in texts if (plain := plain_address(text))}

    def _go_through(
        self,
        folder: Path,
        players: Collection[str],
        addresses: set[tuple[str, str]],
        side_effects: list[str],
        *,
        remove: bool,
    ) -> list[InventoryRow]:
        """Search every version of every file; return one row for each object that contains a player."""
        bytes_, number = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        progress, path, rest = Progress(self.log, "versions of files read"), folder / "version", folder / "rest"
        for setting, prefix in reversed(FOLDERS) if remove else FOLDERS + OTHER_FOLDERS:
            for version in versions(self.s3, str(self.settings[setting]), prefix):
                kind = None if version.is_marker else kind_of(version.bucket, version.key)
                if not kind:
                    continue
                place, metadata = f"s3://{version.bucket}/{version.key}", dict[str, str]()
                if kind == GRAPH_LOAD_FILE:
                    found = Found(1)
                else:
                    metadata = fetch(self.s3, version, path)
                    found = look(kind, path, players, addresses, rest, place, self.memory_mb)
                progress.add(1)
                addresses |= found.addresses
                if not found.lines:
                    continue
                line = (kind, place)
                bytes_[line] += version.bytes
                number[line] += 1
                if remove:
                    self._take_out(kind, version, rest, metadata)
                    side_effects[1:] = [f"they were taken out of {sum(number.values()):,} versions of files"]
        return [InventoryRow(kind, place, number[kind, place], bytes_[kind, place]) for kind, place in number]

    def _take_out(self, kind: str, version: Version, rest: Path, metadata: Mapping[str, str]) -> None:
        """Remove the lines from the latest version; delete an earlier version, an extract or a graph load file.

        These two can be made again by clearing their task; writing to the export bucket could start a Lambda.
        """
        if version.is_latest and kind not in ("extract", GRAPH_LOAD_FILE):
            put_instead(self.s3, version, rest, metadata)
        else:
            delete_version(self.s3, version)

    def _at_destination(
        self, destination: Destination, players: Collection[str], addresses: Addresses, dry_run: bool
    ) -> list[InventoryRow]:
        return destination.erase(self.settings, players, addresses, dry_run, self.aws_conn_id)

    def _on_the_list(self, players: Collection[str], addresses: Addresses) -> list[InventoryRow]:
        """Count the entries of the players in the do-not-contact list, which only the studio edits."""
        bucket = self.deployment.state_bucket
        forms = {form for player in players for form in player_id_forms(player)}
        forms |= {form for _, address in addresses for form in address_forms(address, plain_address(address))}
        entries = enumerate(lines(self.s3, bucket, DO_NOT_CONTACT_KEY), start=1)
        number = sum(1 for line, text in entries if not forms.isdisjoint(entry_forms(text, line)))
        place = f"s3://{bucket}/{DO_NOT_CONTACT_KEY}"
        return (
            [InventoryRow("entry", place, number, why="remove it yourself: the tombstone is enough")] if number else []
        )
