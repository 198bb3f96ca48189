"""The segment has exactly the rows' players after any fault: against the emulated Customer Profiles."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from cohort_flywheel.destinations.customer_profiles import hook as hook_module
from cohort_flywheel.destinations.customer_profiles import layout
from cohort_flywheel.destinations.customer_profiles.segment_membership_store import SegmentMembershipStore
from cohort_flywheel.destinations.import_result import import_content
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.lock_store import acquire
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.outputs import Segment
from cohort_flywheel.segment.source import EXTRACT
from local.config import PROFILES_DOMAIN
from tests.cohort_flywheel.destinations.customer_profiles.profiles_domain import (
    HEADER,
    NEWEST,
    Domain,
    address,
    addresses,
)
from tests.cohort_flywheel.memory_limits import MemoryLimits, tuned

LOCK = f"claims/customer_profiles_{PROFILES_DOMAIN}_ea_atrisk_2.json"
DAY_ONE: dict[str, Any] = {"name": "day_one"}
DAY_TWO: dict[str, Any] = {"name": "day_two"}


@pytest.fixture
def domain(airflow_env: Any, servers: Any, fresh_config: Any) -> Any:
    made = Domain(servers, fresh_config)
    yield made
    made.control(reset=True)


@pytest.fixture
def one(domain: Domain, context: Any) -> dict[str, Any]:
    """Day one has ended: ann and bob are in."""
    segment = domain.segment("one", ["ann", "bob"])
    domain.run(segment, context(run_id="one"), **DAY_ONE)
    assert domain.members() == addresses("ann", "bob")
    return segment


# --- who is in the segment -------------------------------------------------------------------------------


def test_day_one_sets_its_rows_in(domain: Domain, context: Any) -> None:
    run, segment = context(), domain.segment("one", ["ann", "bob"], ["cat"])
    made = domain.create(segment, run)
    assert made == {"job_ids": made["job_ids"], "set_in": 3, "set_out": 0}
    (job,) = domain.jobs
    assert job["DisplayName"].startswith("ea_atrisk_2.2026-11-22_00-00-00.1.in_0000_")
    assert (job["DataExpiry"], job["UniqueKey"]) == (30, "playerKey")
    domain.wait(made["job_ids"])
    verified = domain.verify(segment, run, made["job_ids"])
    arn = f"arn:aws:profile:us-east-1:123456789012:domains/{PROFILES_DOMAIN}/segment-definitions/ea_atrisk_2"
    assert verified == {
        "job_ids": made["job_ids"],
        "domain": PROFILES_DOMAIN,
        "segment_name": "ea_atrisk_2",
        "segment_id": arn,
        "segment_size": 3,
        "set_in": 3,
        "set_out": 0,
        "created": 3,
        "updated": 0,
    }
    assert domain.members() == addresses("ann", "bob", "cat")
    profile = next(p for p in domain.state["profiles"] if p["EmailAddress"] == address("ann"))
    assert (profile["FirstName"], profile["LastName"]) == ("Jo, Jr.", 'O"Neil')
    assert profile["Attributes"] == {"ea_atrisk_2": "in"}
    assert "ann" not in json.dumps(profile), "no profile has the playerId"


def test_the_players_are_in_the_memory_of_the_tuning(
    domain: Domain, context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment, limits = domain.segment("one", ["ann", "bob"]), MemoryLimits(tmp_path / "limits", monkeypatch)
    with tuned():
        assert domain.create(segment, context())["set_in"] == 2
    assert limits.are_tuned()


def test_day_two_takes_joiners_in_and_leavers_out(domain: Domain, context: Any, one: Any) -> None:
    made = domain.create(domain.segment("two", ["bob"], ["cat"]), context(), **DAY_TWO)
    assert (made["set_in"], made["set_out"], len(made["job_ids"])) == (2, 1, 2)
    domain.wait(made["job_ids"])
    domain.verify(domain.segment("two", ["bob"], ["cat"]), context(), made["job_ids"], **DAY_TWO)
    assert domain.members() == addresses("bob", "cat")
    assert domain.attribute("ann", "bob", "cat") == {"ann": "out", "bob": "in", "cat": "in"}
    ann = next(p for p in domain.state["profiles"] if p["AccountNumber"] == layout.player_key("ann"))
    assert (ann["EmailAddress"], ann["FirstName"]) == (address("ann"), "Jo, Jr."), "who goes out keeps the rest"


def test_a_returning_player_is_set_in_again(domain: Domain, context: Any, one: Any) -> None:
    domain.run(domain.segment("two", ["bob"]), context(run_id="two"), **DAY_TWO)
    made = domain.run(domain.segment("one", ["ann", "bob"]), context(run_id="three"), name="day_three")
    assert (made["segment_size"], domain.members()) == (2, addresses("ann", "bob"))


def test_an_empty_cohort_empties_the_segment(domain: Domain, context: Any, one: Any) -> None:
    made = domain.run(domain.segment("none", []), context(), **DAY_TWO)
    assert (made["segment_size"], len(made["job_ids"]), domain.members()) == (0, 1, set())
    assert domain.attribute("ann", "bob") == {"ann": "out", "bob": "out"}
    assert domain.record()[1] == []


def test_a_cohort_that_was_always_empty_uploads_nothing(domain: Domain, context: Any) -> None:
    made = domain.run(domain.segment("none", []), context())
    assert (made["job_ids"], made["segment_size"], domain.jobs, domain.members()) == ([], 0, [], set())


def test_each_threshold_is_a_segment_of_its_own(domain: Domain, context: Any, one: Any) -> None:
    domain.run(domain.segment("milder", ["bob", "cat"]), context(), name="milder", threshold=1)
    assert domain.members() == addresses("ann", "bob")
    assert domain.members("ea_atrisk_1") == addresses("bob", "cat")
    domain.run(domain.segment("two", ["ann"]), context(), **DAY_TWO)
    assert domain.members() == addresses("ann")
    assert domain.members("ea_atrisk_1") == addresses("bob", "cat"), "who goes out of one stays in the other"


def test_a_threshold_below_zero_has_a_name_too(domain: Domain, context: Any) -> None:
    domain.run(domain.segment("toxic", ["ann"]), context(), threshold=-75)
    assert domain.members("ea_atrisk_-75") == addresses("ann")


def test_the_attributes_of_the_cohort_are_columns(domain: Domain, context: Any) -> None:
    domain.run(domain.segment("one", ["ann"], header=[*HEADER, "Level"]), context())
    (profile,) = domain.state["profiles"]
    assert profile["Attributes"] == {"Level": "x", "ea_atrisk_2": "in"}


def test_more_than_a_job_takes_is_several_jobs(
    domain: Domain, context: Any, one: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert domain.control()["settings"]["max_bytes"] - 1 == layout.MAX_UPLOAD_BYTES
    monkeypatch.setattr(layout, "MAX_UPLOAD_BYTES", 300)
    domain.control(max_bytes=301)  # one more, and the emulated job fails
    everybody = [f"player{number}" for number in range(9)]
    made = domain.run(domain.segment("many", everybody[:4], everybody[4:]), context(), **DAY_TWO)
    assert domain.members() == addresses(*everybody)
    assert len(set(made["job_ids"])) == len(made["job_ids"]) > 3
    assert all(job["Uploaded"] <= 300 for job in domain.jobs)
    domain.run(domain.segment("none", []), context(), name="day_three")
    assert domain.members() == set()


# --- what is recorded ------------------------------------------------------------------------------------


def test_possible_members_are_recorded_before_the_job_and_reduced_to_the_rows_after_verification(
    domain: Domain, context: Any, one: Any
) -> None:
    head, players = domain.record()
    assert (head["upload"], sorted(players)) == (1, ["ann", "bob"])
    segment, run = domain.segment("two", ["bob", "cat"]), context(run_id="two")
    domain.control(refuse={"code": "ThrottlingException", "status": 429, "operations": ["CreateUploadJob"], "times": 1})
    with pytest.raises(AirflowException, match="upload 2 of ea_atrisk_2 was recorded. Clear") as raised:
        domain.create(segment, run, **DAY_TWO)
    assert not isinstance(raised.value, AirflowFailException)
    assert domain.record()[1] == ["ann", "bob", "cat"]
    assert (len(domain.jobs), domain.calls["CreateUploadJob"]) == (1, 2), "no retry of the SDK's"
    domain.run(segment, run, **DAY_TWO)
    head, players = domain.record()
    assert (head["upload"], players) == (2, ["bob", "cat"])
    assert domain.members() == addresses("bob", "cat")


def test_players_of_a_failed_upload_are_removed_by_the_next(domain: Domain, context: Any, one: Any) -> None:
    """The emulated job that FAILED has taken in half of its rows, which no later segment file names."""
    domain.control(fail_next_jobs=1)
    made = domain.create(domain.segment("two", ["dan", "eve"]), context(run_id="two"), **DAY_TWO)
    with pytest.raises(AirflowFailException, match="has ended as FAILED"):
        domain.wait(made["job_ids"])
    domain.wait(made["job_ids"][1:])
    assert "in" in domain.attribute("dan", "eve").values()
    domain.run(domain.segment("three", ["ann"]), context(run_id="three"), name="day_three")
    assert domain.members() == addresses("ann")
    assert "in" not in domain.attribute("bob", "dan", "eve").values()


def test_player_ids_of_any_characters_are_read_back_from_the_record(domain: Domain, context: Any) -> None:
    odd = [" lead", 'q"uote', "com,ma", "ß🎮", "'; DROP", "{}"]
    domain.run(domain.segment("odd", odd), context(run_id="one"), **DAY_ONE)
    assert domain.members() == addresses(*odd)
    domain.run(domain.segment("none", []), context(run_id="two"), **DAY_TWO)
    assert domain.attribute(*odd) == dict.fromkeys(odd, "out")


# --- one job a file, whatever happens --------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["CreateUploadJob", "PutUpload", "StartUploadJob"])
@pytest.mark.parametrize(("lose_by", "names"), [("drop", "another"), ("error", "refused")])
def test_a_lost_answer_makes_no_second_job(
    domain: Domain, context: Any, one: Any, lost: str, lose_by: str, names: str
) -> None:
    segment, run = domain.segment("two", ["bob", "cat"]), context(run_id="two")
    domain.control(lose_next_answers=1, lose_operations=[lost], lose_by=lose_by, same_display_name=names)
    with pytest.raises(AirflowException) as raised:
        domain.create(segment, run, **DAY_TWO)
    assert not isinstance(raised.value, AirflowFailException), "a later try can mend it"
    domain.run(segment, run, **DAY_TWO)
    assert domain.members() == addresses("bob", "cat")
    assert domain.statuses == ["SUCCEEDED"] * 3, "one of day one, and one of each file"


@pytest.mark.parametrize("seconds", [0, 3])
def test_running_and_successful_jobs_are_adopted(domain: Domain, context: Any, one: Any, seconds: float) -> None:
    segment, run = domain.segment("two", ["bob", "cat"]), context(run_id="two")
    domain.control(job_seconds=seconds)
    first = domain.create(segment, run, **DAY_TWO)
    if not seconds:
        domain.wait(first["job_ids"])
    assert domain.create(segment, run, **DAY_TWO) == first
    domain.wait(first["job_ids"])
    domain.verify(segment, run, first["job_ids"], **DAY_TWO)
    assert domain.create(segment, run, **DAY_TWO) == first, "after it was verified too"
    assert domain.run(segment, run, **DAY_TWO)["segment_size"] == 2
    assert len(domain.jobs) == 3


def test_the_job_is_found_on_any_page(domain: Domain, context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_module, "JOBS_PER_PAGE", 2)
    segment, run = domain.segment("one", ["ann"]), context()
    first = domain.create(segment, run)
    for number in range(5):
        _job(domain, f"hay {number}")
    assert domain.create(segment, run) == first
    assert len(domain.jobs) == 6, "and no other job was touched"


def test_content_that_changes_back_is_uploaded_again(domain: Domain, context: Any, one: Any) -> None:
    """Of the same names: the first job's content is not what the profiles say any more."""
    run = context(run_id="again")
    two = domain.segment("two", ["ann"])
    for segment, players in ((two, ["ann"]), (one, ["ann", "bob"]), (two, ["ann"]), (one, ["ann", "bob"])):
        domain.run(segment, run, **DAY_ONE)
        assert domain.members() == addresses(*players)
    assert len({job["DisplayName"] for job in domain.jobs}) == len(domain.jobs)


@pytest.mark.parametrize(
    ("fault", "names"), [("fail_next_jobs", "another"), ("partly_fail_next_jobs", "refused"), ("stop", "refused")]
)
def test_after_a_failed_job_all_files_are_uploaded_again(
    domain: Domain, context: Any, one: Any, fault: str, names: str
) -> None:
    segment, run = domain.segment("two", ["bob", "cat"]), context(run_id="two")
    domain.control(same_display_name=names, **({"job_seconds": 60} if fault == "stop" else {fault: 1}))
    bad = domain.create(segment, run, **DAY_TWO)["job_ids"]
    if fault == "stop":
        for job_id in bad:
            domain.client.stop_upload_job(DomainName=PROFILES_DOMAIN, JobId=job_id)
        domain.control(job_seconds=0)
    with pytest.raises(AirflowFailException, match="upload job .* has ended as (FAILED|PARTIALLY|STOPPED)"):
        domain.wait(bad)
    if fault != "stop":
        domain.wait(bad[1:])
    made = domain.run(segment, run, **DAY_TWO)
    assert set(made["job_ids"]).isdisjoint(bad)
    assert domain.members() == addresses("bob", "cat")
    assert domain.record()[0]["upload"] == 3


def test_a_job_that_never_succeeded_is_not_verified(domain: Domain, context: Any) -> None:
    segment, run = domain.segment("one", ["ann"]), context()
    domain.control(partly_fail_next_jobs=1)
    (job_id,) = domain.create(segment, run)["job_ids"]
    with pytest.raises(AirflowFailException):
        domain.wait([job_id])
    with pytest.raises(AirflowFailException, match=f"upload job {job_id} is FAILED: clear wait_for_import_job"):
        domain.verify(segment, run, [job_id])
    assert domain.record()[0]["job_ids"] is None


def test_a_refused_file_is_uploaded_again_and_no_secret_is_logged(
    domain: Domain, context: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    segment, run = domain.segment("one", ["ann"]), context()
    domain.control(refuse={"code": "SlowDown", "status": 503, "operations": ["PutUpload"], "times": 1})
    with pytest.raises(AirflowException, match=r"upload job \w+ was not accepted \(503 SlowDown\)") as raised:
        domain.create(segment, run)
    assert not isinstance(raised.value, AirflowFailException)
    domain.run(segment, run)
    texts = str(raised.value) + capsys.readouterr().out
    assert domain.members() == addresses("ann")
    for secret in ("Signature", "http", "@"):
        assert secret not in texts


def test_an_expired_presigned_url_is_requested_again(domain: Domain, context: Any) -> None:
    segment, run = domain.segment("one", ["ann"]), context()
    domain.control(url_seconds=0)
    with pytest.raises(AirflowException, match="403 AccessDenied") as raised:
        domain.create(segment, run)
    assert not isinstance(raised.value, AirflowFailException)
    domain.control(url_seconds=900)
    domain.run(segment, run)
    assert domain.statuses == ["SUCCEEDED"]


def test_a_file_that_s3_refuses_is_not_pushed_thirty_times(domain: Domain, context: Any) -> None:
    domain.control(refuse={"code": "AccessDenied", "status": 403, "operations": ["PutUpload"]})
    with pytest.raises(AirflowFailException, match="Amazon S3 refuses the file of upload job .* allow the workers"):
        domain.create(domain.segment("one", ["ann"]), context())
    assert domain.statuses == ["CREATED"]


def test_a_key_that_was_not_signed_is_refused(domain: Domain, context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSE-C: without its three headers S3 takes nothing, and so the job never starts."""
    monkeypatch.setattr(hook_module, "_sse_c_headers", lambda key: {})
    with pytest.raises(AirflowFailException, match="403 SignatureDoesNotMatch"):
        domain.create(domain.segment("one", ["ann"]), context())
    assert domain.statuses == ["CREATED"]


# --- other runs ------------------------------------------------------------------------------------------


def test_a_job_of_another_file_that_runs_is_waited_for(domain: Domain, context: Any) -> None:
    domain.control(job_seconds=60)
    (other,) = domain.create(domain.segment("one", ["ann"]), context(run_id="one"), **DAY_ONE)["job_ids"]
    later = context(run_id="two")  # for which the run of day one is deleted, and its lock released
    with pytest.raises(AirflowException, match=f"upload job {other} is running with another file") as raised:
        domain.create(domain.segment("two", ["bob"]), later, **DAY_TWO)
    assert not isinstance(raised.value, AirflowFailException)
    assert domain.record()[1] == ["ann"], "nothing was recorded"
    assert len(domain.jobs) == 1


@pytest.mark.parametrize("refused", [False, True])
def test_an_unstarted_job_of_another_run_is_stopped(domain: Domain, context: Any, one: Any, refused: bool) -> None:
    domain.control(refuse={"code": "SlowDown", "status": 503, "operations": ["PutUpload"], "times": 1})
    with pytest.raises(AirflowException, match="was not accepted"):
        domain.create(domain.segment("two", ["dan"]), context(run_id="two"), **DAY_TWO)
    if refused:
        domain.control(refuse={"code": "BadRequestException", "status": 400, "operations": ["StopUploadJob"]})
    domain.run(domain.segment("three", ["bob", "cat"]), context(run_id="three"), name="day_three")
    assert domain.members() == addresses("bob", "cat")
    assert domain.statuses[1] == ("CREATED" if refused else "STOPPED"), "so that it never begins"


def test_a_job_that_begins_as_it_is_to_be_stopped_is_waited_for(
    domain: Domain, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain.control(refuse={"code": "SlowDown", "status": 503, "operations": ["StartUploadJob"]})
    with pytest.raises(AirflowException, match="StartUploadJob with SlowDown"):
        domain.create(domain.segment("one", ["ann"]), context(run_id="one"), **DAY_ONE)
    domain.control(refuse=None, job_seconds=60)
    (job,) = domain.jobs
    stop = hook_module.CustomerProfilesHook.stop_upload_job

    def begun(hook: Any, name: str, job_id: str) -> None:
        domain.client.start_upload_job(DomainName=name, JobId=job_id)
        domain.control(refuse={"code": "BadRequestException", "status": 400, "operations": ["StopUploadJob"]})
        stop(hook, name, job_id)

    monkeypatch.setattr(hook_module.CustomerProfilesHook, "stop_upload_job", begun)
    with pytest.raises(AirflowException, match=f"upload job {job['JobId']} is running with another file"):
        domain.create(domain.segment("two", ["bob"]), context(run_id="two"), **DAY_TWO)


@pytest.mark.parametrize("state", ["queued", "running"])
def test_one_run_at_a_time_changes_a_membership_until_it_is_verified(domain: Domain, context: Any, state: str) -> None:
    first, second = context(run_id="one"), context(run_id="two")
    segment = domain.segment("one", ["ann"])
    job_ids = domain.create(segment, first, **DAY_ONE)["job_ids"]
    domain.wait(job_ids)
    second["ti"].runs["cohort_to_segment", "one"] = state
    other = domain.segment("two", ["bob"])
    with pytest.raises(AirflowException, match="another run is changing the members of segment ea_atrisk_2") as raised:
        domain.create(other, second, **DAY_TWO)
    assert not isinstance(raised.value, AirflowFailException)
    domain.verify(segment, first, job_ids, **DAY_ONE)
    assert _state(domain).lock_holder(LOCK) is None
    domain.run(other, second, **DAY_TWO)
    assert domain.members() == addresses("bob")


def test_a_segment_changed_by_another_run_is_not_verified(domain: Domain, context: Any) -> None:
    """Or the record would lose the players of that upload."""
    first, segment = context(run_id="one"), domain.segment("one", ["ann"])
    job_ids = domain.create(segment, first, **DAY_ONE)["job_ids"]
    domain.wait(job_ids)
    domain.create(domain.segment("two", ["bob"]), context(run_id="two"), **DAY_TWO)
    with pytest.raises(AirflowFailException, match="the last upload of ea_atrisk_2 is not this run's"):
        domain.verify(segment, first, job_ids, **DAY_ONE)
    assert domain.record()[1] == ["ann", "bob"]


@pytest.mark.parametrize("source", ["live", EXTRACT])
def test_a_run_that_is_not_canonical_imports_nothing(domain: Domain, context: Any, source: str) -> None:
    with pytest.raises(AirflowSkipException, match="Skipping import for cohort: its source is not"):
        domain.create(domain.segment("one", ["ann"]), context(), source=source)
    assert (domain.jobs, domain.state["profiles"]) == ([], [])


def test_a_run_of_an_older_as_of_imports_nothing(
    domain: Domain, context: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run, plan = context(), domain.plan(as_of=NEWEST - timedelta(days=1))
    acquire(_state(domain), plan["claim_key"], plan["name"], run)
    with pytest.raises(AirflowSkipException, match="Skipping import for cohort: the newest as-of is 2026-11-22"):
        domain.create(domain.segment("one", ["ann"]), run, as_of=NEWEST - timedelta(days=1))
    assert (domain.jobs, domain.state["profiles"]) == ([], [])
    assert "Skipping import for cohort" in capsys.readouterr().out
    assert _state(domain).lock_holder(plan["claim_key"]) is None
    assert _state(domain).lock_holder(LOCK) is None


WEEKLY: dict[str, Any] = {"name": "sunday", "schedule": "0 0 * * 0"}
WEDNESDAY: dict[str, Any] = {"name": "wednesday", "as_of": NEWEST + timedelta(days=3), "hours": 3 * 24 + 9}


@pytest.mark.parametrize("verified", [True, False])
def test_a_player_removed_by_a_newer_as_of_is_not_added_again(domain: Domain, context: Any, verified: bool) -> None:
    """Weekly becomes daily; Wednesday sets bob out; Sunday's run is cleared, and its plan says weekly."""
    sunday, wednesday = context(run_id="sunday"), context(run_id="wednesday")
    segment, newer = domain.segment("sunday", ["ann", "bob"]), domain.segment("wednesday", ["ann"])
    domain.run(segment, sunday, **WEEKLY)
    job_ids = domain.create(newer, wednesday, **WEDNESDAY)["job_ids"]
    domain.wait(job_ids)
    if verified:
        domain.verify(newer, wednesday, job_ids, name="wednesday", as_of=WEDNESDAY["as_of"])
    jobs = domain.jobs
    for _ in range(2):
        with pytest.raises(AirflowSkipException, match="Skipping import for sunday: the newest as-of is 2026-11-25"):
            domain.create(segment, sunday, hours=4 * 24, **WEEKLY)
    assert domain.jobs == jobs
    assert domain.attribute("ann", "bob") == {"ann": "in", "bob": "out"}
    assert _state(domain).lock_holder("claims/sunday.json") is None
    held = _state(domain).lock_holder(LOCK)
    assert held is None if verified else held is not None and held[0].run_id == "wednesday"


def test_a_newer_as_of_that_is_recorded_while_the_membership_is_waited_for_counts(
    domain: Domain, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs at once: Wednesday's ends between the look of Sunday's run and its hold."""
    sunday, wednesday = context(run_id="sunday"), context(run_id="wednesday")
    segment = domain.segment("sunday", ["ann", "bob"])
    domain.run(segment, sunday, **WEEKLY)
    acquire_lock = SegmentMembershipStore.acquire_lock

    def after_wednesday(self: Any, *args: Any) -> None:
        monkeypatch.setattr(SegmentMembershipStore, "acquire_lock", acquire_lock)
        newer = domain.segment("wednesday", ["ann"])
        job_ids = domain.create(newer, wednesday, **WEDNESDAY)["job_ids"]
        domain.wait(job_ids)
        domain.verify(newer, wednesday, job_ids, name="wednesday", as_of=WEDNESDAY["as_of"])
        acquire_lock(self, *args)

    monkeypatch.setattr(SegmentMembershipStore, "acquire_lock", after_wednesday)
    with pytest.raises(AirflowSkipException, match="the newest as-of is 2026-11-25"):
        domain.create(segment, sunday, hours=4 * 24, **WEEKLY)
    assert domain.attribute("ann", "bob") == {"ann": "in", "bob": "out"}
    assert _state(domain).lock_holder(LOCK) is None


def test_the_membership_of_another_threshold_does_not_count(domain: Domain, context: Any) -> None:
    domain.run(
        domain.segment("other", ["ann"]),
        context(run_id="other"),
        threshold=3,
        hours=80,
        **{key: WEDNESDAY[key] for key in ("name", "as_of")},
    )
    assert domain.create(domain.segment("sunday", ["ann"]), context(), **WEEKLY)["set_in"] == 1


# --- what is verified ------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [1, 1_000])
def test_an_estimate_other_than_the_rows_fails_and_is_retried(domain: Domain, context: Any, more: int) -> None:
    segment, run = domain.segment("one", ["ann", "bob"]), context()
    job_ids = domain.create(segment, run)["job_ids"]
    domain.wait(job_ids)
    domain.control(add_to_next_estimate=more)
    with pytest.raises(
        AirflowException, match=f"segment ea_atrisk_2 has {2 + more:,} profiles, but the file has 2 rows: do not send"
    ) as raised:
        domain.verify(segment, run, job_ids)
    assert not isinstance(raised.value, AirflowFailException)
    assert domain.record()[0]["job_ids"] is None, "who may be in stays recorded"
    assert domain.verify(segment, run, job_ids)["segment_size"] == 2


def test_a_missing_profile_is_detected(domain: Domain, context: Any) -> None:
    segment, run = domain.segment("one", ["ann", "bob"]), context()
    job_ids = domain.create(segment, run)["job_ids"]
    domain.wait(job_ids)
    profile = domain.state["profiles"][0]["ProfileId"]
    domain.client.delete_profile(DomainName=PROFILES_DOMAIN, ProfileId=profile)
    with pytest.raises(AirflowException, match="has 1 profiles, but the file has 2 rows"):
        domain.verify(segment, run, job_ids)


def test_a_failed_estimate_is_retried(domain: Domain, context: Any) -> None:
    segment, run = domain.segment("one", ["ann"]), context()
    job_ids = domain.create(segment, run)["job_ids"]
    domain.wait(job_ids)
    domain.control(fail_next_estimates=1, estimate_seconds=0.1)
    with pytest.raises(AirflowException, match="the estimate of the segment is FAILED") as raised:
        domain.verify(segment, run, job_ids)
    assert not isinstance(raised.value, AirflowFailException)
    assert domain.verify(segment, run, job_ids)["segment_size"] == 1


def test_the_definition_is_made_once(domain: Domain, context: Any, one: Any) -> None:
    domain.run(domain.segment("two", ["bob"]), context(), **DAY_TWO)
    assert domain.calls["CreateSegmentDefinition"] == 1


def test_an_equal_definition_is_adopted(domain: Domain, context: Any) -> None:
    """Without the words that are the defaults."""
    condition = {"DimensionType": "INCLUSIVE", "Values": ["in"]}
    _define(domain, {"Groups": [{"Dimensions": [{"ProfileAttributes": {"Attributes": {"ea_atrisk_2": condition}}}]}]})
    assert domain.run(domain.segment("one", ["ann"]), context())["segment_size"] == 1


@pytest.mark.parametrize(
    "condition",
    [
        {"DimensionType": "EXCLUSIVE", "Values": ["in"]},
        {"DimensionType": "INCLUSIVE", "Values": ["in", "out"]},
    ],
)
def test_another_definition_of_the_name_is_refused(domain: Domain, context: Any, condition: dict[str, Any]) -> None:
    _define(domain, {"Groups": [{"Dimensions": [{"ProfileAttributes": {"Attributes": {"ea_atrisk_2": condition}}}]}]})
    with pytest.raises(
        AirflowFailException, match=f"segment ea_atrisk_2 of domain {PROFILES_DOMAIN} is defined otherwise than by"
    ):
        domain.run(domain.segment("one", ["ann"]), context())


def test_a_definition_whose_answer_was_lost_is_found(domain: Domain, context: Any) -> None:
    segment, run = domain.segment("one", ["ann"]), context()
    job_ids = domain.create(segment, run)["job_ids"]
    domain.wait(job_ids)
    domain.control(lose_next_answers=1, lose_operations=["CreateSegmentDefinition"])
    with pytest.raises(AirflowException, match="the definition of segment ea_atrisk_2 may have been created"):
        domain.verify(segment, run, job_ids)
    assert domain.verify(segment, run, job_ids)["segment_size"] == 1
    assert domain.calls["CreateSegmentDefinition"] == 1


def test_a_changed_segment_file_is_detected(domain: Domain, context: Any) -> None:
    segment, run = domain.segment("one", ["ann", "bob"]), context()
    job_ids = domain.create(segment, run)["job_ids"]
    domain.wait(job_ids)
    domain.segment("one", ["ann"])
    with pytest.raises(AirflowFailException, match="has 1 rows, but 2 were released: it has changed since"):
        domain.verify(segment, run, job_ids)


def test_an_attribute_of_the_segments_name_is_refused(domain: Domain, context: Any) -> None:
    segment = domain.segment("one", ["ann"], header=[*HEADER, "ea_atrisk_2"])
    with pytest.raises(
        AirflowFailException, match="the attribute ea_atrisk_2 marks the members of the segment.*Changes made: no"
    ):
        domain.create(segment, context())
    assert domain.jobs == []


def test_results_and_logs_hold_no_personal_data(
    domain: Domain, context: Any, one: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    segment, run = domain.segment("two", ["player-bob", "player-cat"]), context()
    made = domain.create(segment, run, **DAY_TWO)
    domain.wait(made["job_ids"])
    texts = json.dumps([made, domain.verify(segment, run, made["job_ids"], **DAY_TWO)])
    texts += capsys.readouterr().out
    assert "segment ea_atrisk_2: 2 players are set in and 2 out by upload jobs" in texts
    assert "segment ea_atrisk_2 has the 2 profiles of the file" in texts
    for secret in ("@", "player-", layout.player_key("player-bob"), layout.player_key("ann")):
        assert secret not in texts
    content = import_content(domain.plan(**DAY_TWO)["name"], Segment.model_validate(segment))
    assert content == domain.record()[0]["content"]


def _state(domain: Domain) -> State:
    return State(S3Hook(), domain.config.state_bucket)


def _define(domain: Domain, groups: dict[str, Any]) -> None:
    domain.client.create_segment_definition(
        DomainName=PROFILES_DOMAIN, SegmentDefinitionName="ea_atrisk_2", DisplayName="by hand", SegmentGroups=groups
    )


def _job(domain: Domain, name: str) -> None:
    """An upload job of another caller."""
    fields = {"Key": {"Source": "_source.Key", "Target": "_profile.AccountNumber"}}
    domain.client.create_upload_job(DomainName=PROFILES_DOMAIN, DisplayName=name, Fields=fields, UniqueKey="Key")
