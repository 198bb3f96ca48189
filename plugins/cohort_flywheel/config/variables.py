"""The settings of a deployment, read from Airflow Variables."""

from __future__ import annotations

from airflow.sdk import Variable
from pydantic import BaseModel, JsonValue, ValidationError

from cohort_flywheel.config.setting_types import BucketName, KmsKey, S3Encryption, SesName, TableName, missing, problems
from cohort_flywheel.errors import Code, FlywheelError

PREFIX = "cohort_flywheel_"


class StateSettings(BaseModel):
    """The settings of tasks that read or write state."""

    state_bucket: BucketName


class DeploymentSettings(StateSettings):
    """The settings of every deployment; a destination adds its own."""

    export_bucket: BucketName
    import_bucket: BucketName
    contacts_table: TableName


class EventSettings(BaseModel):
    """The bucket to which SES publishes the events of e-mails; of the DAG `engagement`."""

    event_bucket: BucketName


class EngagementSettings(StateSettings, EventSettings):
    """The settings of the DAG `engagement`. `ses_topic` is that of the destination; empty: each topic is ours."""

    ses_topic: SesName = ""


class EncryptionSettings(BaseModel):
    """The encryption headers of each write to S3; an empty one is not sent."""

    s3_encryption: S3Encryption = ""
    s3_kms_key_id: KmsKey = ""


def read_settings(*models: type[BaseModel]) -> dict[str, JsonValue]:
    """Return the settings of the models by field; the Variable of a field is its name with the prefix.

    Raises FlywheelError that names every missing or invalid Variable. Airflow looks in the secrets backend (SSM
    Parameter Store or Secrets Manager, if configured), then the environment, then its Variables.
    """
    found: dict[str, JsonValue] = {}
    unset: list[str] = []
    wrong: list[str] = []
    for model in models:
        values = {name: Variable.get(PREFIX + name, default=None) for name in model.model_fields}
        try:
            settings = model.model_validate({name: value for name, value in values.items() if value})
        except ValidationError as error:
            unset += missing(error)
            wrong += problems(error, model, lambda name: PREFIX + name)
        else:
            found |= settings.model_dump()
    sentences = ["; ".join(wrong)] if wrong else []
    if unset:
        sentences.append(_not_set(unset))
    if sentences:
        raise FlywheelError(". ".join(sentences), code=Code.VARIABLE)
    return found


def _not_set(names: list[str]) -> str:
    first = PREFIX + names[0]
    return (
        f"not set: {', '.join(PREFIX + name for name in names)}. Set each in one of: the secrets backend"
        f" (<variables_prefix>/{first}), the environment (AIRFLOW_VAR_{first.upper()}), or Airflow's Variables"
        f" (Admin, Variables: {first})"
    )
