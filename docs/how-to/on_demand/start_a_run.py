"""An AWS Lambda function that starts a run of cohort_to_segment for each uploaded extract."""

import os

import boto3

mwaa = boto3.client("mwaa")


def handler(event, context):
    bucket, key = event["detail"]["bucket"]["name"], event["detail"]["object"]["key"]
    conf = {"cohort": key.split("/")[1], "extract_uri": f"s3://{bucket}/{key}"}
    try:
        mwaa.invoke_rest_api(
            Name=os.environ["MWAA_ENVIRONMENT"],
            Method="POST",
            Path="/dags/cohort_to_segment/dagRuns",
            Body={"dag_run_id": f"uploaded-{event['id']}", "logical_date": None, "conf": conf},
        )
    except mwaa.exceptions.RestApiClientException as error:
        if error.response.get("RestApiStatusCode") != 409:  # the event came twice, and its run is there
            raise
