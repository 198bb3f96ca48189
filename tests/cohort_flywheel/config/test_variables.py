"""Every Variable has a form; all that are wrong are named at once, with what to write."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from cohort_flywheel.config.setting_types import Uuid
from cohort_flywheel.config.variables import (
    PREFIX,
    DeploymentSettings,
    EventSettings,
    StateSettings,
    read_settings,
)
from cohort_flywheel.destinations import destination_names, get_destination
from cohort_flywheel.errors import FlywheelError

DESTINATIONS = [get_destination(name) for name in destination_names()]
MODELS: list[type[BaseModel]] = [
    DeploymentSettings,
    EventSettings,
    *(destination.settings for destination in DESTINATIONS),
    *(destination.campaign_settings for destination in DESTINATIONS if destination.campaign_settings),
]
ID = "12345678-90ab-cdef-1234-567890abcdef"
RIGHT: dict[str, list[str]] = {
    "export_bucket": ["cohort-modeler-export", "abc", "a.b.c", "1-bucket", "x" * 63],
    "import_bucket": ["imports"],
    "state_bucket": ["state"],
    "contacts_table": ["userdata", "User_Data-1.prod", "x" * 255],
    "pinpoint_application_id": ["0123456789abcdef" * 2],
    "pinpoint_import_role_arn": [
        "arn:aws:iam::123456789012:role/PinpointSegmentImport", "arn:aws-cn:iam::123456789012:role/a/b/X",
        "arn:aws-us-gov:iam::123456789012:role/X+=,.@-_",
    ],
    "ses_contact_list": ["players", "Players_2-x"],
    "ses_topic": ["Cohorts"],
    "ses_configuration_set": ["cohort-flywheel"],
    "ses_untracked_configuration_set": ["cohort-flywheel-untracked"],
    "event_bucket": ["events"],
    "customer_profiles_domain": ["players", "x" * 64],
    "customer_profiles_data_expiry_days": ["1", "90", "1098"],
    "connect_instance_id": [ID],
    "qconnect_knowledge_base_id": [ID],
    "unsubscribe_url": [
        "https://studio.example/unsubscribe", "https://studio.example", "https://a.studio.example:8443/x?y=%20&z=1#here",
    ],
}  # fmt: skip
BUCKETS = [
    "s3://cohorts", "cohorts/", "cohorts/export", "arn:aws:s3:::cohorts", "Cohorts", "my_bucket", "ab", "x" * 64,
    "a..b", "-ab", "ab-", ".ab", "192.168.0.1", "xn--abc", "sthree-abc", "abc-s3alias", "abc--ol-s3", "abc--x-s3",
    "abc.mrap",
    "https://cohorts.s3.amazonaws.com", "my bucket", "{{ bucket }}", "<bucket>", "cohorts:80", "böcket",
]  # fmt: skip
NAMES = [
    "arn:aws:ses:eu-west-1:123456789012:contact-list/players",
    "my players",
    "players/",
    "x" * 65,
    "spieler-ü",
    "a.b",
]
IDS = [f"arn:aws:connect:eu-west-1:123456789012:instance/{ID}", ID.upper(), "none", f"{ID}/", ID.replace("-", ""), "5"]
WRONG: dict[str, list[str]] = {
    "export_bucket": BUCKETS,
    "import_bucket": BUCKETS,
    "state_bucket": BUCKETS,
    "contacts_table": [
        "arn:aws:dynamodb:eu-west-1:123456789012:table/userdata", "ab", "x" * 256, "user data", "userdata/", "tablé",
    ],
    "pinpoint_application_id": [
        "CohortModelerPinpoint", "arn:aws:mobiletargeting:us-east-1:123456789012:apps/" + "0" * 32, "0" * 31, "0" * 33,
        "ABCDEF01" * 4,
    ],
    "pinpoint_import_role_arn": [
        "PinpointSegmentImport", "arn:aws:iam::12345:role/X", "arn:aws:iam:eu-west-1:123456789012:role/X",
        "arn:aws:iam::123456789012:user/X", "arn:aws:iam::123456789012:role/", "arn:aws:iam::123456789012:role/X/",
        "arn:aws:sts::123456789012:assumed-role/X/session", "arn:aws:iam::123456789012:role/" + "x" * 65,
        "arn:aws:iam::123456789012:role/Ä",
    ],
    "ses_contact_list": NAMES,
    "ses_topic": NAMES,
    "event_bucket": BUCKETS,
    "ses_configuration_set": ["arn:aws:ses:eu-west-1:123456789012:configuration-set/events", *NAMES[1:]],
    "ses_untracked_configuration_set": NAMES,
    "customer_profiles_domain": [*NAMES, "arn:aws:profile:us-east-1:123456789012:domains/players"],
    "customer_profiles_data_expiry_days": ["0", "-1", "1099", "14 days", "1.5", "٣", "1_0", "1e2", "+7", "nan", "True"],
    "connect_instance_id": IDS,
    "qconnect_knowledge_base_id": [*IDS, f"arn:aws:wisdom:eu-west-1:123456789012:knowledge-base/{ID}"],
    "unsubscribe_url": [
        "http://studio.example/unsubscribe", "studio.example/unsubscribe", "https://", "https:///unsubscribe", "ftp://x.example",
        "https://studio.example/a b", "https://u:p@studio.example/", "https://studio.example/{{amazonSESUnsubscribeUrl}}",
        "https://stüdio.example/", "https://studio.example/<id>", "mailto:a@studio.example", "https://studio.example:0/",
        "https://studio.example:65536/",
    ],
}  # fmt: skip


def variable(name: str) -> str:
    return f"AIRFLOW_VAR_{PREFIX.upper()}{name.upper()}"


@pytest.fixture(autouse=True)
def _right_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, values in RIGHT.items():
        monkeypatch.setenv(variable(name), values[0])


def model_of(name: str) -> type[BaseModel]:
    (model,) = [model for model in MODELS if name in model.model_fields]
    return model


def test_each_variable_has_a_form_that_is_tested_here() -> None:
    names = [name for model in MODELS for name in model.model_fields]
    assert sorted(names) == sorted(RIGHT) == sorted(WRONG)


@pytest.mark.parametrize("name", RIGHT)
def test_right_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in RIGHT[name]:
        monkeypatch.setenv(variable(name), value)
        assert str(read_settings(model_of(name))[name]) == value


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = RIGHT[name][0]
    around = [
        f" {right}",
        f"{right} ",
        f"{right}\n",
        f"\t{right}",
        f'"{right}"',
        f"'{right}'",
        f"{right}\u200b",
        " ",
        "\n",
    ]
    around += [f"{right},{right}", f"[{right}]", f"\ufeff{right}"]
    for value in [*WRONG[name], *around]:
        monkeypatch.setenv(variable(name), value)
        with pytest.raises(FlywheelError) as raised:
            read_settings(model_of(name))
        text = str(raised.value)
        assert text.startswith(f"CF-SET-01: {PREFIX}{name} is "), value
        assert ": write " in text, value
        assert "@" in value or repr(value)[:80] in text


def test_all_that_are_wrong_or_missing_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RIGHT:
        monkeypatch.setenv(variable(name), "s3://x y")
    monkeypatch.delenv(variable("ses_topic"))
    monkeypatch.setenv(variable("contacts_table"), "")
    with pytest.raises(FlywheelError) as raised:
        read_settings(*MODELS)
    text = str(raised.value)
    missing = {"ses_topic", "contacts_table"}
    assert all(f"{PREFIX}{name} is 's3://x y': write " in text for name in RIGHT if name not in missing)
    assert f"not set: {PREFIX}contacts_table, {PREFIX}ses_topic. Set each in one of: the secrets backend" in text


def test_a_task_that_needs_only_the_state_bucket_reads_no_other_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable("export_bucket"), "s3://cohorts")
    assert read_settings(StateSettings) == {"state_bucket": "state"}


def test_a_long_value_is_cut() -> None:
    class Settings(BaseModel):
        long: Uuid

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(variable("long"), "x" * 5_000)
        with pytest.raises(FlywheelError) as raised:
            read_settings(Settings)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("which", ["what_if", "clean_up", "erase"])
def test_the_other_dags_refuse_them_before_anything_is_called(
    which: str, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from cohort_flywheel.governance.cleanup_operator import CohortCleanupOperator
    from cohort_flywheel.governance.erasure_operator import CohortErasureOperator
    from cohort_flywheel.what_if.operators import CohortWhatIfOperator
    from local.config import ROOT

    def called(*_: Any, **__: Any) -> Any:
        raise AssertionError("AWS was called")

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", called)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://?region_name=us-east-1")
    monkeypatch.setenv(variable("state_bucket"), "s3://state")
    task, its = {
        "what_if": (
            CohortWhatIfOperator(
                task_id="count_days", registry=ROOT / "include" / "cohorts.yaml", schedule="0 0 * * *"
            ),
            context({"from": None, "to": None}),
        ),
        "clean_up": (CohortCleanupOperator(task_id="clean_up", destination="pinpoint"), context({})),
        "erase": (CohortErasureOperator(task_id="erase", destination="ses"), context({})),
    }[which]
    its["dag"].params = its["params"] = its["params"] | {"keep_days": 90}
    with pytest.raises(AirflowFailException, match="^CF-SET-01: cohort_flywheel_state_bucket is 's3://state': write"):
        task.execute(its)
