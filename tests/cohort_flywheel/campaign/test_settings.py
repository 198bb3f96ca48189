"""What a run's campaign is: by its param, else by the registry, and never for what is not the newest day's own run."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cohort_flywheel.campaign.email_template import EmailTemplate
from cohort_flywheel.campaign.settings import (
    NONE,
    NoCampaign,
    RunCampaign,
    campaign_skip_reason,
    check_same_mail,
    choose_campaign,
    with_mail,
)
from cohort_flywheel.config.cohorts import Campaign, Cohort
from cohort_flywheel.config.params import RunParams
from cohort_flywheel.config.registry import read_registry
from cohort_flywheel.config.registry_head import Approval, Engagement
from cohort_flywheel.errors import FlywheelError
from local.config import ROOT

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)
SHIPPED = read_registry(ROOT / "include" / "cohorts.yaml").cohort("ea_atrisk")
MAIL = EmailTemplate("at_risk", "Hello", "<p>{{FirstName|you}} {{LastName}}</p>", "{{LastName}}")
PARAMS = {"cohort": "ea_atrisk", "dry_run": False, "source": "auto"}


def cohort(**changes: Any) -> Cohort:
    campaign = {"template": "at_risk", "from": "Studio <play@studio.example>", "not_again_days": 30} | changes
    return SHIPPED.model_copy(update={"campaign": Campaign.model_validate(campaign)})


def chosen(asked: str | None, of: Cohort | None = None, **about: Any) -> RunCampaign | NoCampaign:
    defaults: dict[str, Any] = {"approval": Approval(approvers=["ann", "bo"]), "user": "ana", "skip_reason": None}
    return choose_campaign(of or cohort(), RunParams.model_validate(PARAMS | {"campaign": asked}), **(defaults | about))


def launched(asked: str, of: Cohort | None = None, **about: Any) -> RunCampaign:
    """As `chosen`, where there is a campaign."""
    found = chosen(asked, of, **about)
    assert isinstance(found, RunCampaign)
    return found


@pytest.mark.parametrize("word", ["none", "draft", "launch"])
def test_an_empty_param_means_the_mode_of_the_registry(word: str) -> None:
    assert chosen(None, cohort(mode=word)).mode == word


@pytest.mark.parametrize("asked", ["none", "draft", "launch"])
def test_the_param_overrides_the_registry(asked: str) -> None:
    assert chosen(asked, cohort(mode="launch")).mode == asked


def test_the_shipped_registry_mails_no_players() -> None:
    registry = read_registry(ROOT / "include" / "cohorts.yaml")
    assert chosen(None, SHIPPED) == NONE
    assert registry.approval.approvers == []
    with pytest.raises(FlywheelError, match=r"no user may approve this run: write names into approval\.approvers"):
        chosen("launch", SHIPPED, approval=registry.approval)


def test_a_campaign_has_all_that_a_launch_needs() -> None:
    assert chosen("launch").model_dump(mode="json") == {
        "mode": "launch", "template": "at_risk", "from": "Studio <play@studio.example>", "not_again_days": 30,
        "test_addresses": [], "approvers": ["ann", "bo"], "placeholders": {}, "template_digest": "",
        "reply_to": None, "tracking": "all", "tracking_consent": None, "holdout_percent": 0, "effect_days": None,
    }  # fmt: skip


def test_a_reply_to_address_is_written_as_the_sender_is() -> None:
    assert launched("launch", cohort(reply_to=" Help  desk <help@studio.example>")).reply_to == (
        "Help desk <help@studio.example>"
    )
    with pytest.raises(ValueError, match="'Studio' is not a reply-to address: write an address"):
        cohort(reply_to="Studio")
    with pytest.raises(ValueError, match="the reply-to address's name is encoded"):
        cohort(reply_to="=?utf-8?q?x?= <help@studio.example>")


RUNS: list[tuple[dict[str, Any], str, timedelta, str | None]] = [
    ({}, "manual", timedelta(), None),
    ({}, "scheduled", timedelta(), None),
    ({"source": "snapshot"}, "manual", timedelta(), None),
    ({}, "backfill", timedelta(), "a backfill"),
    ({}, "manual", timedelta(days=1), "a run of an older day than 2026-11-22T00:00:00+00:00"),
    ({"dry_run": True}, "manual", timedelta(), "a dry run"),
    ({"source": "live"}, "manual", timedelta(), "a run with source=live"),
    ({"extract_only": True}, "manual", timedelta(), "a run that ends at its extract"),
    ({"extract_uri": "s3://e/dropped/x.json"}, "manual", timedelta(), "a run of an uploaded extract"),
]


@pytest.mark.parametrize(("params", "run_type", "age", "why"), RUNS)
def test_only_the_newest_days_own_run_has_a_campaign(
    params: dict[str, Any], run_type: str, age: timedelta, why: str | None
) -> None:
    found = campaign_skip_reason(RunParams.model_validate(PARAMS | params), run_type, NEWEST - age, NEWEST)
    assert found == why
    daily = cohort(mode="launch")
    assert chosen(None, daily, skip_reason=found).mode == ("none" if why else "launch")
    assert chosen("none", daily, skip_reason=found) == NONE
    for asked in ("draft", "launch") if why else ():
        with pytest.raises(
            FlywheelError,
            match=f"campaign={asked} is for the canonical run of the newest as-of, and this is {re.escape(why or '')}",
        ):
            chosen(asked, daily, skip_reason=found)


def test_a_cohort_without_a_campaign_in_the_registry() -> None:
    bare = SHIPPED.model_copy(update={"campaign": None})
    assert chosen(None, bare) == chosen("none", bare) == NONE
    with pytest.raises(FlywheelError, match="cohort ea_atrisk has no `campaign` in the registry: add it"):
        chosen("draft", bare)


def test_a_test_needs_test_addresses_and_a_launch_needs_not_again_days() -> None:
    with pytest.raises(FlywheelError, match="has no test_addresses in the registry"):
        chosen("test")
    assert launched("test", cohort(test_addresses=["qa@studio.example"])).test_addresses == ["qa@studio.example"]
    with pytest.raises(FlywheelError, match="campaign=launch needs not_again_days in the campaign of cohort ea_atrisk"):
        chosen("launch", cohort(not_again_days=None))
    assert chosen("draft", cohort(not_again_days=None)).mode == "draft"


def test_the_user_who_triggered_a_run_may_not_approve_it() -> None:
    assert launched("launch", user="ann").approvers == ["bo"]
    assert launched("launch", user=None).approvers == ["ann", "bo"]
    alone = Approval(approvers=["ann"])
    with pytest.raises(FlywheelError, match="no user may approve this run, except ann, who triggered it"):
        chosen("launch", user="ann", approval=alone)
    ours = Approval(approvers=["ann"], own_runs=True)
    assert launched("launch", user="ann", approval=ours).approvers == ["ann"]


def test_a_campaign_has_the_placeholders_of_its_mail() -> None:
    draft = launched("draft")
    made = with_mail(draft, MAIL, SHIPPED.columns(), Engagement(tracking="clicks"))
    assert (made.tracking, made.tracking_consent, made.tracks_some, draft.tracks_some) == ("clicks", None, True, False)
    assert (made.mode, made.placeholders) == ("draft", {"FirstName": "you", "LastName": None})
    check_same_mail(made, MAIL)
    with pytest.raises(FlywheelError, match="template at_risk has changed since the run was planned"):
        check_same_mail(made, MAIL._replace(subject="Hello!"))
    with pytest.raises(FlywheelError, match="names LastName, which is not a column of the segment"):
        with_mail(draft, MAIL, ["FirstName"], Engagement())
