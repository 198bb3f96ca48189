"""The operators in a DAG of ten lines, without our registry."""

from datetime import timedelta

from airflow.sdk import DAG

from cohort_flywheel.destinations.pinpoint.operators import (
    PinpointCreateImportJobOperator,
    PinpointVerifySegmentOperator,
)
from cohort_flywheel.destinations.pinpoint.sensors import PinpointImportJobSensor
from cohort_flywheel.segment.enrich_operator import DynamoDBEnrichOperator
from cohort_flywheel.segment.gremlin_to_s3_operator import GremlinToS3Operator

APP, ROLE = "{{ var.value.cohort_flywheel_pinpoint_application_id }}", "{{ params.role }}"

RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=5)}
PARAMS = {"role": "arn:aws:iam::123456789012:role/PinpointSegmentImport"}

with DAG("ten_lines", schedule=None, default_args=RETRIES, params=PARAMS):
    extract = GremlinToS3Operator(
        task_id="extract", property="ea_mischief", direction="below", threshold=-3,
        s3_bucket="cohort-modeler-export", s3_key="any/{{ ds }}/kind.json",
    )  # fmt: skip
    enrich = DynamoDBEnrichOperator(
        task_id="enrich", extract_bucket="cohort-modeler-export", extract_key="any/{{ ds }}/kind.json",
        property="ea_mischief", score_column="Mischief", table_name="userdata", name="kind_{{ ds }}",
        segment_bucket="pinpoint-segment-import",
        rejects_bucket="cohort-flywheel-state", rejects_key="any/{{ ds }}.csv",
    )  # fmt: skip
    file = "{{ ti.xcom_pull(task_ids='enrich', key='%s') }}"
    create = PinpointCreateImportJobOperator(
        task_id="create", application_id=APP, role_arn=ROLE, s3_url=file % "s3_url", segment_name="kind {{ ds }}"
    )
    job = "{{ ti.xcom_pull(task_ids='create', key='job_id') }}"
    wait = PinpointImportJobSensor(task_id="wait", application_id=APP, job_id=job, poke_interval=1)
    verify = PinpointVerifySegmentOperator(
        task_id="verify", application_id=APP, job_id=job, expected_size=file % "rows"
    )
    extract >> enrich >> create >> wait >> verify
