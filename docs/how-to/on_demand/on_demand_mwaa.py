"""Start a run of cohort_to_segment on Amazon MWAA, wait for its end, and say where its extract and its segment are."""

import json
import os
import sys
import time

import boto3

RUNS = "/dags/cohort_to_segment/dagRuns"
mwaa, s3 = boto3.client("mwaa"), boto3.client("s3")


def ask(method, path, **body):
    answer = mwaa.invoke_rest_api(Name=os.environ["MWAA_ENVIRONMENT"], Method=method, Path=path, **body)
    return answer["RestApiResponse"]


def read_report(run):
    bucket = os.environ["STATE_BUCKET"]
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="reports/"):
        for item in page.get("Contents", ()):
            if item["Key"].endswith(f"/cohort_to_segment__{run}.json"):
                return json.load(s3.get_object(Bucket=bucket, Key=item["Key"])["Body"])
    sys.exit(f"{run} left no report in {bucket}: read the log of its task report")


def main(run, params):
    ask("POST", RUNS, Body={"dag_run_id": run, "logical_date": None, "conf": params})
    for _ in range(720):  # an hour
        if (state := ask("GET", f"{RUNS}/{run}")["state"]) in ("success", "failed"):
            break
        time.sleep(5)
    report = read_report(run)
    extract, segment, imported = report["extract"] or {}, report["segment"] or {}, report["imported"] or {}
    where = {"state": state, "outcome": report["outcome"], "extract": extract.get("url")}
    where |= {"segment_file": segment.get("url"), "segment": imported.get("segment_id")}
    print(json.dumps(where, indent=2))
    sys.exit(state != "success")


main(sys.argv[1], json.loads(sys.argv[2]))
