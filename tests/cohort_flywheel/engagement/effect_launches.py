"""Launches with a holdout, and snapshots, as a deployment has them in its state bucket."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cohort_flywheel.campaign.holdout import facts_key, holdout_key, mailed_key
from cohort_flywheel.campaign.send_ledger import Header, ledger_key, write_lines
from cohort_flywheel.engagement.effect_operator import MeasureEffectOperator
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.names import run_name
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.snapshot import Header as SnapshotHeader
from tests.cohort_flywheel.engagement.event_days import NEWEST, Events
from tests.cohort_flywheel.segment.snapshots import keep_snapshot

LAUNCHED = NEWEST - timedelta(days=7)


class Launches:
    """Launches of ea_atrisk beyond 2, of the template at_risk, measured seven days later."""

    def __init__(self, events: Events, folder: Path) -> None:
        self.events, self._folder = events, folder
        self.state = State(S3Hook(), events.state)

    def launch(
        self, mailed: Sequence[str], held_out: Sequence[str], never: Sequence[str] = (), /,
        as_of: datetime = LAUNCHED, begun: bool = True, **facts: Any,
    ) -> str:  # fmt: skip
        """Put the lists and facts of a launch, and its send ledger if it has begun; return its name."""
        name = run_name("ea_atrisk", 2, as_of)
        header = Header(name, "at_risk", "ab" * 32, "ses", as_of, 0, as_of + timedelta(hours=24))
        lists = {
            holdout_key("at_risk", name, "launch_holdout"): held_out,
            holdout_key("at_risk", name, "global_holdout"): never,
            ledger_key("at_risk", name): mailed if begun else (),
        }
        for key, players in lists.items():
            if players:
                write_lines(self._folder / "list", header._replace(players=len(players)), players)
                self.put(key, (self._folder / "list").read_bytes())
        self.put(mailed_key(name), "".join(f"{player}\n" for player in mailed).encode())
        about = {
            "launch": name, "cohort": "ea_atrisk", "template": "at_risk", "as_of": as_of.isoformat(), "timezone": "UTC",
            "property": "ea_atrisk", "direction": "above", "threshold": 2, "vertex_label": "player",
            "player_id": "playerId", "destination": "ses", "effect_days": 7, "holdout_percent": 10 * bool(held_out),
            "global_holdout_percent": 5 * bool(never), "launched_at": as_of.isoformat(), "mailed": len(mailed),
            "launch_holdout": len(held_out), "global_holdout": len(never),
        }  # fmt: skip
        self.put(facts_key(name), json.dumps(about | facts).encode())
        return name

    def snapshot(self, as_of: datetime, scores: Mapping[str, float], final: bool = True, **header: Any) -> str:
        about: dict[str, Any] = {
            "cohort": "ea_atrisk", "as_of": as_of, "property": "ea_atrisk", "direction": "above", "floor": 0,
            "read_at": datetime(2026, 11, 30, tzinfo=UTC),
        }  # fmt: skip
        return keep_snapshot(self.state, SnapshotHeader.model_validate(about | header), scores, final=final)

    def measure(self, as_of: datetime = NEWEST) -> dict[str, Any]:
        """Run the task; return the effects that the report of the as-of takes over."""
        plan = self.events.plan(as_of)
        MeasureEffectOperator(task_id="measure_effect", plan=plan).execute(self.events.context({}))
        return dict(json.loads(self.get(f"engagement/effect_reports/{as_of:%Y-%m-%d_%H-%M-%S}.json")))

    def put(self, key: str, body: bytes) -> None:
        self.events.s3.put_object(Bucket=self.events.state, Key=key, Body=body)

    def get(self, key: str) -> bytes:
        return bytes(self.events.s3.get_object(Bucket=self.events.state, Key=key)["Body"].read())
