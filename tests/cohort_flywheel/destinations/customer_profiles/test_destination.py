"""What Customer Profiles needs is refused with a sentence before anything is touched; and the real DAG keeps one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException
from botocore.exceptions import ClientError

from cohort_flywheel.campaign.email_template import EmailTemplate
from cohort_flywheel.campaign.settings import RunCampaign
from cohort_flywheel.config.variables import read_settings
from cohort_flywheel.destinations import get_destination
from cohort_flywheel.destinations.customer_profiles import layout
from cohort_flywheel.destinations.customer_profiles.destination import DESTINATION
from cohort_flywheel.destinations.customer_profiles.layout import player_key
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.runs.plan import Plan
from local import seed
from local.config import PROFILES_DOMAIN
from tests.cohort_flywheel.dag_simulator import TODAY, DagSimulator
from tests.cohort_flywheel.destinations.customer_profiles.profiles_domain import Domain
from tests.cohort_flywheel.plans import plan_output

PREFIX = "AIRFLOW_VAR_COHORT_FLYWHEEL_"


@pytest.fixture
def domain(airflow_env: Any, servers: Any, fresh_config: Any) -> Any:
    made = Domain(servers, fresh_config)
    yield made
    made.control(reset=True)


@pytest.fixture
def check(domain: Domain) -> Callable[..., None]:
    """Checks the seeded settings, or others."""

    def run(**settings: Any) -> None:
        right: dict[str, Any] = {"customer_profiles_domain": PROFILES_DOMAIN, "customer_profiles_data_expiry_days": 90}
        DESTINATION.check(right | settings, "aws_default")

    return run


def test_the_destination_is_registered() -> None:
    assert get_destination("customer_profiles") is DESTINATION
    assert DESTINATION.layout is layout.LAYOUT


def test_only_the_expiry_has_a_default(airflow_env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"{PREFIX}CUSTOMER_PROFILES_DOMAIN", raising=False)
    with pytest.raises(FlywheelError, match=r"not set: cohort_flywheel_customer_profiles_domain\. Set"):
        read_settings(DESTINATION.settings)
    monkeypatch.setenv(f"{PREFIX}CUSTOMER_PROFILES_DOMAIN", "players")
    found = read_settings(DESTINATION.settings)
    assert found == {"customer_profiles_domain": "players", "customer_profiles_data_expiry_days": 90}
    monkeypatch.setenv(f"{PREFIX}CUSTOMER_PROFILES_DATA_EXPIRY_DAYS", "7")
    assert read_settings(DESTINATION.settings)["customer_profiles_data_expiry_days"] == 7


@pytest.mark.parametrize("days", ["1", "90", "1098"])
def test_an_expiry_of_the_service(airflow_env: Any, monkeypatch: pytest.MonkeyPatch, days: str) -> None:
    monkeypatch.setenv(f"{PREFIX}CUSTOMER_PROFILES_DATA_EXPIRY_DAYS", days)
    assert read_settings(DESTINATION.settings)["customer_profiles_data_expiry_days"] == int(days)


@pytest.mark.parametrize("days", ["0", "1099", "-1", "14 days", "1.5", "٣", "1_0", " 7", "7\n", "+7"])
def test_an_invalid_expiry(airflow_env: Any, monkeypatch: pytest.MonkeyPatch, days: str) -> None:
    monkeypatch.setenv(f"{PREFIX}CUSTOMER_PROFILES_DATA_EXPIRY_DAYS", days)
    with pytest.raises(FlywheelError) as raised:
        read_settings(DESTINATION.settings)
    assert f"cohort_flywheel_customer_profiles_data_expiry_days is {days!r}: write the days" in str(raised.value)
    assert "as a whole number from 1 to 1,098" in str(raised.value)


def test_the_seeded_resources_pass_the_check(check: Any) -> None:
    check()


def test_a_domain_that_is_not_there(check: Any) -> None:
    with pytest.raises(FlywheelError, match="domain others does not exist in Customer Profiles: create it"):
        check(customer_profiles_domain="others")


@pytest.mark.parametrize("operation", ["GetDomain", "ListUploadJobs"])
def test_a_right_that_is_missing(check: Any, domain: Domain, operation: str) -> None:
    domain.control(refuse={"code": "AccessDeniedException", "status": 403, "operations": [operation]})
    with pytest.raises(
        FlywheelError, match=rf"is refused \(AccessDeniedException\): grant .* profile:{operation} on it"
    ):
        check()


def test_an_erasure_deletes_the_profile_and_stops_the_job_that_could_create_it_again(
    domain: Domain, context: Any
) -> None:
    settings = {"customer_profiles_domain": PROFILES_DOMAIN}
    domain.run(domain.segment("one", ["ann", "bob"]), context())
    domain.control(refuse={"code": "SlowDown", "status": 503, "operations": ["StartUploadJob"]})
    with pytest.raises(AirflowException, match="StartUploadJob with SlowDown"):
        domain.create(domain.segment("two", ["ann", "cyd"]), context(run_id="two"), name="two")
    domain.control(refuse=None)
    header = ["playerKey", "attribute"]
    request = {"DisplayName": "theirs", "Fields": layout.fields(header), "UniqueKey": "playerKey"}
    domain.client.create_upload_job(DomainName=PROFILES_DOMAIN, **request)
    ours, theirs = domain.jobs[-2:]
    assert (ours["Status"], theirs["Status"]) == ("CREATED", "CREATED")
    assert DESTINATION.running_import_jobs(settings, "aws_default") == [], "to be waited for"

    dry = DESTINATION.erase(settings, ["ann", "unknown"], set(), True, "aws_default")
    assert [(line.what, line.number) for line in dry] == [("profile", 1)]
    assert domain.statuses[-2:] == ["CREATED", "CREATED"]
    assert DESTINATION.erase(settings, ["ann", "unknown"], set(), False, "aws_default") == dry
    assert domain.attribute("ann", "bob") == {"ann": None, "bob": "in"}
    assert domain.statuses[-2:] == ["STOPPED", "CREATED"]
    with pytest.raises(ClientError, match="BadRequestException"):
        domain.client.start_upload_job(DomainName=PROFILES_DOMAIN, JobId=ours["JobId"])


def test_a_job_that_cannot_be_stopped_is_left(domain: Domain, context: Any) -> None:
    segment = domain.segment("one", ["ann"])
    domain.control(refuse={"code": "SlowDown", "status": 503, "operations": ["StartUploadJob"]})
    with pytest.raises(AirflowException, match="StartUploadJob with SlowDown"):
        domain.create(segment, context())
    domain.control(refuse={"code": "BadRequestException", "status": 400, "operations": ["StopUploadJob"]})
    settings = {"customer_profiles_domain": PROFILES_DOMAIN}
    assert DESTINATION.erase(settings, ["ann"], set(), False, "aws_default") == []
    assert domain.statuses == ["CREATED"]


def test_an_empty_segment_file_is_imported() -> None:
    assert DESTINATION.handle_empty_segment(Plan.model_validate(plan_output()), {})


def test_seeding_twice_is_seeding_once(domain: Domain, servers: Any, config: Any) -> None:
    seed.make_profiles_domain(servers, config)
    domains = domain.client.list_domains()["Items"]
    assert [each["DomainName"] for each in domains] == [PROFILES_DOMAIN]


# --- end to end ------------------------------------------------------------------------------------------


@pytest.fixture
def daily(
    domain: Domain, servers: Any, seeded: Any, config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> DagSimulator:
    """The real DAG with the destination Customer Profiles, on the sample's graph and contacts."""
    domain.control(job_seconds=1)
    ours = dataclasses.replace(domain.config, contacts_table=config.contacts_table)
    return DagSimulator("customer_profiles", servers, ours, seeded, tmp_path, monkeypatch)


def test_the_real_dag_sets_the_cohort_in_and_an_empty_one_out(daily: DagSimulator, domain: Domain) -> None:
    players = ["msmith", "wayne96", "xortiz"]
    report = daily.simulate(TODAY)
    assert (report["outcome"], report["faults"]) == ("imported", [])
    assert report["segment"]["rows"] == report["imported"]["segment_size"] == len(domain.members()) == 3
    assert report["imported"]["segment_id"].endswith("/segment-definitions/ea_atrisk_2")
    assert domain.attribute(*players) == dict.fromkeys(players, "in")
    (job,) = domain.jobs
    assert job["DataExpiry"] == 90
    addresses = domain.members()

    body = "".join(f"{player}\n" for player in players).encode()
    domain.s3.put_object(Bucket=domain.config.state_bucket, Key=seed.DO_NOT_CONTACT, Body=body)
    domain.control(job_seconds=0)
    empty = daily.simulate(TODAY)
    assert (empty["outcome"], empty["faults"]) == ("imported", [])
    assert empty["segment"]["rejects"] == {"do_not_contact": 3}
    assert (empty["imported"]["segment_size"], empty["imported"]["updated"], domain.members()) == (0, 3, set())
    assert domain.attribute(*players) == dict.fromkeys(players, "out")
    for secret in (*addresses, *map(player_key, players)):
        assert secret not in daily.log
    claims = domain.s3.list_objects_v2(Bucket=domain.config.state_bucket, Prefix="claims/")
    assert claims["KeyCount"] == 0


CONSENT = {"attribute": "tracking", "opted_in": ["yes"], "opted_out": ["no"], "silence": "opted_out"}


@pytest.mark.parametrize("changes", [{"tracking": "none"}, {"tracking": "clicks"}, {"tracking_consent": CONSENT}])
def test_what_connect_tracks_is_not_chosen_here(changes: dict[str, Any]) -> None:
    made: dict[str, Any] = {
        "mode": "draft", "template": "at_risk", "from": "Studio <play@studio.example>", "not_again_days": None,
        "test_addresses": [], "approvers": [],
    }  # fmt: skip
    campaign = RunCampaign.model_validate(made | changes)
    with pytest.raises(FlywheelError, match="CF-CAMPAIGN-01: engagement.tracking of the registry is for e-mails sent"):
        DESTINATION.check_campaign(campaign, EmailTemplate("at_risk", "s", "h", "t"), [], {}, None)
