"""Start a run of cohort_to_segment, wait for its end, and say where its extract and its segment are."""

import json
import os
import sys
import time
from urllib.parse import quote

import requests

AIRFLOW = os.environ["AIRFLOW_URL"]
RUNS = f"{AIRFLOW}/api/v2/dags/cohort_to_segment/dagRuns"
session = requests.Session()


def ask(method, url, body=None):
    answer = session.request(method, url, json=body, timeout=60)
    if answer.status_code == 404:
        return None
    if not answer.ok:  # the answer names a param that Airflow refuses
        sys.exit(f"{method} {url}: {answer.status_code} {answer.text}")
    return answer.json()


def main(params):
    user = {"username": os.environ["AIRFLOW_USER"], "password": os.environ["AIRFLOW_PASSWORD"]}
    token = ask("POST", f"{AIRFLOW}/auth/token", user)["access_token"]
    session.headers["Authorization"] = f"Bearer {token}"
    run = RUNS + "/" + quote(ask("POST", RUNS, {"logical_date": None, "conf": params})["dag_run_id"], safe="")
    for _ in range(720):  # an hour
        if (state := ask("GET", run)["state"]) in ("success", "failed"):
            break
        time.sleep(5)

    def xcom(task, key):
        found = ask("GET", f"{run}/taskInstances/{task}/xcomEntries/{key}")
        return found and found["value"]

    where = {"state": state, "outcome": xcom("report", "outcome"), "report": xcom("report", "report_url")}
    if xcom("extract", "s3_key"):
        where["extract"] = f"s3://{xcom('extract', 's3_bucket')}/{xcom('extract', 's3_key')}"
        where["segment_file"] = xcom("check_limits", "s3_url")
        where["segment"] = xcom("record_result", "segment_id")
    print(json.dumps(where, indent=2))
    sys.exit(state != "success")


main(json.loads(sys.argv[1]))
