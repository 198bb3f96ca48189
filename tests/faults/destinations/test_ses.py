"""The dangerous faults of a launch by SES; and that the harness finds out who is mailed twice, or lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.sites import cases, dangerous

if TYPE_CHECKING:
    from tests.faults.harness import World

DESTINATION = "ses"


def test_a_launch_survives_the_dangerous_faults(world: World, survive: Any) -> None:
    chosen = dangerous(cases(world.sites), world.at.DANGEROUS)
    survive(chosen, "only the dangerous ones: make faults tries all")


def test_a_launch_without_intents_is_detected(survived: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cohort_flywheel.destinations.ses.campaign.sends_store import Batches

    monkeypatch.setattr(Batches, "put_intents", lambda *_: None)
    wrong = survived("launch_campaign: sesv2 SendEmail #50 × killed after")
    assert any("players were mailed more than once" in sentence for sentence in wrong), wrong


def test_a_launch_that_loses_players_in_doubt_is_detected(survived: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cohort_flywheel.destinations.ses.campaign.send_outcomes import Outcome
    from cohort_flywheel.destinations.ses.campaign.sends_store import Sends

    outcome = Sends.outcome
    monkeypatch.setattr(Sends, "outcome", lambda self, *batch: Outcome(sent=outcome(self, *batch).sent))
    wrong = survived("launch_campaign: sesv2 SendEmail #50 × time-out")
    assert any("of 126 rows 26 are sent, 0 in doubt and 0 neither" in sentence for sentence in wrong), wrong
