"""A history of results for `make up`: 30 days of snapshots and results of three cohorts, and two launches.

The scores of the sample players walk back from today's, so the history ends where the sample begins. The newest day
has no result: the first run of the DAG makes it from the graph. Names, snapshots and results are the package's own.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from local import sample, seed
from local.config import ROOT, Config
from local.servers import Servers

DAYS = 30
COHORTS = ("ea_atrisk", "ea_malice", "ea_mischief")
#: Days before the newest one on which the first cohort was mailed; the threshold of then gives more than a few players.
LAUNCHED, LAUNCH_THRESHOLD = (26, 12), 1
#: How many players of a hundred have another score than the day before.
CHANGES = 6

type Scores = dict[str, dict[str, int]]


def write(servers: Servers, config: Config, now: datetime | None = None) -> None:
    """Write the history into the state bucket, unless it has results already."""
    if str(ROOT / "plugins") not in sys.path:
        sys.path.insert(0, str(ROOT / "plugins"))
    s3 = seed.client("s3", servers, config)
    if s3.list_objects_v2(Bucket=config.state_bucket, Prefix="results/").get("KeyCount"):
        return
    newest = (now or datetime.now(UTC)).replace(hour=0, minute=0, second=0, microsecond=0)
    players = sample.players()
    records = {record["playerId"]: record for record in sample.contacts(players)}
    with tempfile.TemporaryDirectory() as folder:
        for back, scores in zip(range(1, DAYS + 1), _walk(players), strict=False):
            as_of = newest - timedelta(days=back)
            for cohort in COHORTS:
                _write_day(s3, config.state_bucket, Path(folder), cohort, as_of, scores[cohort], records)
            if back in LAUNCHED:
                _write_launch(s3, config.state_bucket, as_of, scores[COHORTS[0]], records)


def _walk(players: list[sample.Player]) -> Iterator[Scores]:
    """Yield the scores by cohort and player of one day before another."""
    rng = random.Random(sample.SEED)  # noqa: S311 - a sample, not a secret
    scores: Scores = {cohort: {str(each["playerId"]): int(each[cohort]) for each in players} for cohort in COHORTS}
    while True:
        for cohort in COHORTS:
            for player, score in scores[cohort].items():
                if rng.random() * 100 < CHANGES:
                    # a score of 0 stays there more often, so that a cohort was smaller the longer ago
                    scores[cohort][player] = max(0, score + rng.choice((-1, -1, 1) if score > 1 else (0, 0, 1, -1)))
        yield scores


def _write_day(
    s3: Any, bucket: str, folder: Path, cohort: str, as_of: datetime, scores: dict[str, int], records: dict[str, Any]
) -> None:
    from cohort_flywheel.config.registry import read_registry
    from cohort_flywheel.runs import names
    from cohort_flywheel.runs.result import Result
    from cohort_flywheel.segment.limits import evaluate_limits
    from cohort_flywheel.segment.members import Vertex
    from cohort_flywheel.segment.snapshot import Header, SnapshotFile

    one = read_registry(ROOT / "include" / "cohorts.yaml").cohort(cohort)
    threshold = one.thresholds()[-1]
    path = folder / "snapshot.jsonl"
    header = Header(
        cohort=cohort, as_of=as_of, property=one.property, direction=one.direction, floor=one.snapshot_floor(),
        read_at=as_of + timedelta(minutes=2),
    )  # fmt: skip
    file = SnapshotFile(path, header)
    file.add(Vertex(player, score) for player, score in sorted(scores.items()))
    file.close()
    key = names.snapshot_folder(cohort, as_of) + names.snapshot_file_name(hashlib.sha256(path.read_bytes()).hexdigest())
    s3.upload_file(str(path), bucket, key)
    run = {"dag_id": "cohort_to_segment", "run_id": f"scheduled__{as_of - timedelta(days=1):%Y-%m-%dT%H:%M:%S+00:00}"}
    _put(s3, bucket, names.snapshot_folder(cohort, as_of) + names.FINAL_FILE_NAME, {"key": key, **run})
    members, rows, rejects = _counts(scores, threshold, records)
    results = evaluate_limits(one.limits.model_dump(), members=members, rejects=rejects, previous=None)
    result = Result.model_validate({
        "as_of": as_of, "members": members, "rows": rows, "s3_url": "s3://not-kept/", "snapshot": key,
        "imported": {"segment_id": f"history-{as_of:%d}"}, "run": run, "rejects": rejects, "limits": results,
        "threshold_from": "registry",
    })  # fmt: skip
    _put(s3, bucket, names.result_key(cohort, threshold, as_of), result.model_dump(mode="json"))


def _counts(scores: dict[str, int], threshold: float, records: dict[str, Any]) -> tuple[int, int, dict[str, int]]:
    """Members, rows and rejects of a day, by the sample's contacts."""
    from cohort_flywheel.config.registry import read_registry
    from cohort_flywheel.segment.contacts import Reject, classify_member
    from cohort_flywheel.segment.members import Member

    consent = read_registry(ROOT / "include" / "cohorts.yaml").cohort(COHORTS[0]).consent
    members = [Member(player, score) for player, score in scores.items() if score > threshold]
    found = [
        classify_member(
            each, records.get(each.player_id), attributes={}, score_column=None,
            consent=None if consent == "none" else consent, do_not_contact=lambda entry: False,
        )
        for each in members
    ]  # fmt: skip
    rejects = Counter(each.reason for each in found if isinstance(each, Reject))
    return len(members), len(members) - rejects.total(), dict(rejects)


def _write_launch(s3: Any, bucket: str, as_of: datetime, scores: dict[str, int], records: dict[str, Any]) -> None:
    from cohort_flywheel.runs import names

    cohort, template = COHORTS[0], "at_risk"
    name = names.run_name(cohort, LAUNCH_THRESHOLD, as_of)
    _, rows, _ = _counts(scores, LAUNCH_THRESHOLD, records)
    at = as_of + timedelta(hours=9)
    run = {"dag_id": "cohort_to_segment", "run_id": f"manual__{at:%Y-%m-%dT%H:%M:%S+00:00}"}
    launched = {
        "rows": rows, "sent": rows - 2, "withdrawn": {"opted_out": 1}, "in_doubt": 0, "refused": {"MessageRejected": 1},
        "batches": 1, "in_doubt_list": None, "left": 0,
    }  # fmt: skip
    report = {
        "version": 5, "outcome": "launched", "faults": [], "tasks": {}, "extract": None, "segment": None,
        "limits": None, "imported": None,
        "run": run | {"run_type": "manual", "started": at.isoformat(), "triggered_by": "ana",
                      "reported": (at + timedelta(hours=1)).isoformat()},
        "plan": {"cohort": cohort, "property": cohort, "direction": "above", "threshold": LAUNCH_THRESHOLD,
                 "threshold_from": "param", "as_of": as_of.isoformat(), "dry_run": False, "source": "auto",
                 "extract_only": False, "extract_uri": None, "require": {}, "limits": {}, "holdout_percent": 0,
                 "campaign": "launch"},
        "campaign": {"mode": "launch", "template": template, "template_digest": "0" * 64, "rows": rows,
                     "from": "Studio <play@studio.example>", "segment_sha256": "0" * 64, "launched": launched,
                     "answer": {"approved": True, "by": "ann", "at": (at + timedelta(minutes=20)).isoformat(),
                                "timed_out": False, "digest": "0" * 64}},
    }  # fmt: skip
    _put(s3, bucket, names.report_folder(name) + names.report_file_name(run["dag_id"], run["run_id"]), report)
    # without players: a run that is made here may mail all of the sample
    ledger = {"name": name, "template": template, "segment_sha256": "0" * 64, "destination": "ses", "players": 0,
              "launched_at": at.isoformat(), "mails_until": (at + timedelta(hours=1)).isoformat()}  # fmt: skip
    s3.put_object(Bucket=bucket, Key=f"sends/{template}/{name}.jsonl", Body=json.dumps(ledger).encode() + b"\n")


def _put(s3: Any, bucket: str, key: str, value: object) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(value, indent=2, sort_keys=True).encode())
