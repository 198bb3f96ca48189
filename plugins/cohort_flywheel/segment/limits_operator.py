"""The door: limits are judged, the day's snapshot becomes final, and the segment file goes where it can be imported."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.utils.skipmixin import SkipMixin
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.destinations import get_destination
from cohort_flywheel.hooks.s3 import S3Hook, copy_unless_equal
from cohort_flywheel.runs.lock_store import release, this_run
from cohort_flywheel.runs.names import segment_part_key
from cohort_flywheel.runs.schedule import schedule_in_force
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.do_not_contact_store import count_matched
from cohort_flywheel.segment.enrich_operator import DynamoDBEnrichOperator, enrich_arguments
from cohort_flywheel.segment.extract_operator import CohortExtractOperator
from cohort_flywheel.segment.limits import check_consent_attribute, judge_limits, refusal
from cohort_flywheel.segment.members import Members, is_beyond
from cohort_flywheel.segment.segment_file import combine

if TYPE_CHECKING:
    from airflow.sdk import Context


class StoppedByLimitError(AirflowFailException):
    """A run is outside its cohort's limits, and nobody has let it through."""


class CohortLimitsOperator(TemporaryFolderMixin, BaseOperator, SkipMixin):
    """Stop a run that is outside its limits; else make its snapshot final, and release its segment file.

    A read of the graph that found nobody at all stays pending: a later run of the day reads again.
    The parts of the segment file are put together first. Where another run of the day was faster with a snapshot of
    its own, the extract and the segment file are made again, here, from that one. A dry run ends here, and an empty
    cohort unless the destination takes it: what follows directly is skipped. Returns (each also an XCom of its own)
    `limits` (verdicts), `previous`, `override`, `snapshot` (the key, or None), `extract` and `segment` as they now
    stand, and of the segment file `s3_url` and `rows`.

    :param plan: the output of CohortPlanOperator. (templated)
    :param extract: the facts of CohortExtractOperator. (templated)
    :param shards: its output. (templated)
    :param parts: the outputs of DynamoDBEnrichOperator, one a shard. (templated)
    :param handle_empty_segment: the destination's method, called with the plan if the segment file has no rows.
        If it returns True, the empty segment file is imported.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    template_fields = ("plan", "extract", "shards", "parts")
    ui_color = "#f7d9a8"
    #: Has the scheduler skip a cleared task again, by this task's XCom [NotPreviouslySkippedDep].
    inherits_from_skipmixin = True

    def __init__(
        self,
        *,
        plan: Any,
        extract: Any,
        shards: Any,
        parts: Any,
        handle_empty_segment: Callable[[Mapping[str, Any]], bool],
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan, self.extract, self.shards, self.parts = plan, extract, shards, parts
        self.handle_empty_segment, self.aws_conn_id = handle_empty_segment, aws_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        retry_note = "Clearing this task is safe: it judges again, and puts the same file at the same place."
        ti: Any = context["ti"]
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            s3 = S3Hook(aws_conn_id=self.aws_conn_id)
            state = State(s3, self.plan["state_bucket"])
            self.segment = self._combine(s3, folder, self.parts)
            judged = self._judge(state, folder, ti)
            snapshot = self._make_final(state, context, judged, side_effects)
            if snapshot and snapshot != self.extract["snapshot_key"]:
                self._make_again(s3, folder, side_effects, snapshot, schedule_in_force(context, self.plan))
                judged = self._judge(state, folder, ti)
            imports = not self.plan["dry_run"]
            if imports and not self.segment["rows"]:
                imports = self.handle_empty_segment(self.plan)
            if imports:
                self._release(s3, side_effects)
            else:
                release(state, self.plan, context)
            judged |= {"segment": self.segment}
            ti.xcom_push(key="judged", value=judged)  # with the segment file's place as it now is
            output = judged | {
                "snapshot": snapshot,
                "s3_url": self.segment["s3_url"],
                "rows": self.segment["rows"],
            }
        if not imports:
            ti.xcom_push(key="return_value", value=output)  # to skip what follows is to raise
            what_follows = [t for t in context["task"].get_direct_relatives(upstream=False) if not t.is_teardown]
            self.skip(ti=ti, tasks=what_follows)
        return output

    def _judge(self, state: State, folder: Path, ti: Any) -> dict[str, Any]:
        """Judge the run as it stands; raises StoppedByLimitError. The verdicts are an XCom either way."""
        plan = self.plan
        previous = self._previous(state, folder)
        verdicts = judge_limits(
            plan["limits"], members=self.segment["members"], rejects=self.segment["rejects"], previous=previous
        )
        for verdict in verdicts:
            allowed, found = f"{verdict['allowed']:,}", verdict["found"]
            said = "holds" if verdict["holds"] else "DOES NOT HOLD"
            self.log.info(
                "%s %s %s: %s (%s)", verdict["limit"], allowed, said, "not asked" if found is None else found,
                verdict["sentence"],
            )  # fmt: skip
        override = plan["override"]
        if override:
            override = override | {"limits": [v["limit"] for v in verdicts if not v["holds"]]}
        judged = {"limits": verdicts, "previous": previous, "override": override}
        judged |= {"extract": self.extract, "segment": self.segment}
        ti.xcom_push(key="judged", value=judged)  # a run that is stopped has no other output
        check_consent_attribute(plan["consent"], self.segment)
        if why := self._stops(judged):
            raise StoppedByLimitError(why)
        return judged

    def _previous(self, state: State, folder: Path) -> dict[str, Any] | None:
        """The members before: of the last verified segment, else in the last final snapshot at this threshold."""
        plan, as_of = self.plan, datetime.fromisoformat(self.plan["as_of"])
        if result := state.previous_result(plan["cohort"], plan["threshold"], as_of):
            return {"members": result["members"], "what": f"the segment of {result['as_of']}"}
        for day in reversed([day for day in state.snapshot_days(plan["cohort"]) if day < as_of]):
            snapshot = state.final_snapshot(plan["cohort"], day)
            if snapshot and not snapshot.header.serves(
                property=plan["property"],
                direction=plan["direction"],
                threshold=plan["threshold"],
                required=plan["require"],
            ):
                with Members(
                    folder, direction=plan["direction"], threshold=plan["threshold"], required=plan["require"]
                ) as members:
                    members.add(state.vertices(snapshot.key))
                    return {"members": members.counts()["members"], "what": f"the snapshot of {day.isoformat()}"}
        return None

    def _stops(self, judged: Mapping[str, Any]) -> str | None:
        why = refusal(judged["limits"])
        if why is None:
            return None
        if judged["override"]:
            by, reason = judged["override"]["by"], judged["override"]["reason"]
            self.log.warning("%s lets this run through (%s): %s", by, reason, why)
            return None
        plan, as_of = self.plan, datetime.fromisoformat(self.plan["as_of"])
        milder = is_beyond(plan["floor"], plan["direction"], plan["threshold"])
        from_it = self.extract["snapshot_key"] and not milder
        same = " source=snapshot (these figures, unless the graph was read again since)," if from_it else ""
        return (
            f"{plan['name']} is outside the limits of its cohort: {why}; nothing is imported, and a snapshot of its own"
            " stays pending. Look at the graph and at the contacts; if the figures are right, trigger a new run with"
            f" cohort={plan['cohort']}, threshold={plan['threshold']},{same} override_limits and override_reason, and,"
            " once a later day is complete, with the logical date"
            f" {as_of + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ} and no data interval (clearing this one keeps its"
            " params)"
        )

    def _make_final(
        self, state: State, context: Context, judged: Mapping[str, Any], side_effects: list[str]
    ) -> str | None:
        plan, key = self.plan, self.extract["snapshot_key"]
        if key is None or plan["dry_run"]:
            return key
        as_of = datetime.fromisoformat(plan["as_of"])
        nothing = not self.extract["vertices_read"] and not judged["override"]
        if nothing and not state.final_snapshot(plan["cohort"], as_of):
            # good news, or a graph that was not loaded yet, which must not be that day for ever
            self.log.warning("the graph had nobody beyond the floor: its read stays pending, as %s", key)
            return str(key)
        by = this_run(context) | {"override": judged["override"]}
        final = state.make_final(plan["cohort"], as_of, key, by)
        side_effects.append(f"the day's snapshot is {final}, for good")
        return final

    def _make_again(self, s3: S3Hook, folder: Path, side_effects: list[str], snapshot: str, schedule: str) -> None:
        """Another run's read of the graph is the day's: this run's result comes from that one."""
        self.log.info("another run has made %s the day's snapshot: making extract and segment file from it", snapshot)
        again = CohortExtractOperator(task_id="again", plan=self.plan, aws_conn_id=self.aws_conn_id)
        self.extract, self.shards = again.make(folder, side_effects, schedule)
        arguments, parts = enrich_arguments(self.plan, self.extract), []
        for shard in self.shards:
            enrich = DynamoDBEnrichOperator(task_id="again", aws_conn_id=self.aws_conn_id, shard=shard, **arguments)
            with TemporaryDirectory(dir=folder) as own:
                parts.append(enrich.make(Path(own), side_effects))
        self.segment = self._combine(s3, folder, parts)

    def _combine(self, s3: S3Hook, folder: Path, parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        layout = get_destination(self.plan["layout"]).layout
        bucket, key = self.plan["state_bucket"], f"{self.plan['staged_folder']}{self.plan['name']}/"
        segment = combine(list(parts), self.shards, layout.max_bytes)
        with closing(sqlite3.connect(folder / "matched.sqlite")) as listed:
            matched = count_matched(s3, bucket, segment.pop("matched_keys"), listed)
        return segment | {
            "do_not_contact_matched": matched,
            "s3_bucket": bucket, "s3_key": key, "s3_url": f"s3://{bucket}/{key}",
            "rejects_key": self.plan["rejects_key"].removesuffix(".csv") + "/",
        }  # fmt: skip

    def _release(self, s3: S3Hook, side_effects: list[str]) -> None:
        """From the state bucket to where the destination reads: only here can it be imported."""
        plan, sha256 = self.plan, self.segment["sha256"]
        bucket, parts = plan["segment_bucket"], []
        side_effects.append(f"parts of the segment file may lie in {bucket}")
        for index, part in enumerate(self.segment["parts"]):
            key = segment_part_key(plan["segment_folder"], plan["name"], sha256, index)
            copy_unless_equal(s3, (plan["state_bucket"], part["s3_key"]), (bucket, key), part["sha256"])
            parts.append(part | {"s3_key": key})
        key = parts[0]["s3_key"].rpartition("/")[0] + "/"
        url = f"s3://{bucket}/{key}"
        side_effects[-1] = f"the segment file was put at {url}"
        self.segment = self.segment | {"s3_bucket": bucket, "s3_key": key, "s3_url": url, "parts": parts}
