"""Airflow's REST API, as its users have it, while its API server may die at any time."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import httpx

#: Seconds in which a request is answered, also by an API server that is started again.
SECONDS = 60
ACTIVE = ("queued", "running")


class RefusedError(Exception):
    """Airflow refused a request, or did not answer in time; the text has the status and no body."""


class AirflowApi:
    """Requests of one user.

    :param url: the address of the API server.
    :param user: the name of the user, which is their password too.
    """

    def __init__(self, url: str, user: str) -> None:
        self.url, self.user = url, user
        self._client = httpx.Client(trust_env=False, timeout=30)
        self._token = ""

    def login(self) -> None:
        answer = self._send("POST", f"{self.url}/auth/token", {"username": self.user, "password": self.user}, {})
        self._token = answer.json()["access_token"]

    def request(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The answer; raises RefusedError for a status from 400, and after SECONDS without an answer."""
        if not self._token:
            self.login()
        found = self._send(method, f"{self.url}/api/v2{path}", body, query)
        return found.json() if found.content else None

    def _send(self, method: str, url: str, body: Any, query: dict[str, Any]) -> httpx.Response:
        end = time.monotonic() + SECONDS
        while True:
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            try:
                answer = self._client.request(method, url, json=body, params=query, headers=headers)
            except httpx.TransportError as error:
                if time.monotonic() > end:
                    raise RefusedError(f"{method} {url}: {type(error).__name__}") from None
            else:
                if answer.status_code < 400:
                    return answer
                # a database that has just been killed answers 500 for a second
                if answer.status_code < 500 or time.monotonic() > end:
                    raise RefusedError(f"{method} {url}: {answer.status_code}")
            time.sleep(1)

    def get(self, path: str, **query: Any) -> Any:
        return self.request("GET", path, **query)

    # --- runs

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run of the newest as-of; its id."""
        made = self.request("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
        return str(made["dag_run_id"])

    def runs(self, dag_id: str = "~", **query: Any) -> list[dict[str, Any]]:
        """The newest runs of all DAGs, or of one, the newest first."""
        path = f"/dags/{dag_id}/dagRuns"
        found: list[dict[str, Any]] = self.get(path, limit=100, order_by="-run_after", **query)["dag_runs"]
        return found

    def active(self) -> list[dict[str, Any]]:
        return self.runs(state=list(ACTIVE))

    def total_runs(self, **query: Any) -> int:
        return int(self.get("/dags/~/dagRuns", limit=1, **query)["total_entries"])

    def tasks(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        path = f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances"
        found: list[dict[str, Any]] = self.get(path, limit=100)["task_instances"]
        return found

    def clear(self, run: dict[str, Any], task_ids: list[str] | None = None, *, downstream: bool = True) -> None:
        """Clear tasks of a run; without names those that failed."""
        body: dict[str, Any] = {"dry_run": False, "dag_run_id": run["dag_run_id"], "reset_dag_runs": True}
        if task_ids is None:
            body |= {"only_failed": True, "include_downstream": False}
        else:
            body |= {"only_failed": False, "task_ids": task_ids, "include_downstream": downstream}
        self.request("POST", f"/dags/{run['dag_id']}/clearTaskInstances", body)

    def pause(self, dag_id: str, paused: bool) -> None:
        self.request("PATCH", f"/dags/{dag_id}", {"is_paused": paused})

    # --- questions

    def questions(self) -> list[dict[str, Any]]:
        """The questions that wait for an answer, the oldest first."""
        found = self.get("/dags/~/dagRuns/~/hitlDetails", response_received=False, limit=100)["hitl_details"]
        waiting = [each for each in found if each["task_instance"]["state"] in ("awaiting_input", "deferred")]
        return sorted(waiting, key=lambda each: str(each["task_instance"]["start_date"]))

    def answer(self, question: dict[str, Any], option: str) -> None:
        """As the UI does it: the hidden field of the question goes back with the answer."""
        task = question["task_instance"]
        fields = {name: field["value"] for name, field in question["params"].items()}
        path = f"/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}/-1/hitlDetails"
        self.request("PATCH", path, {"chosen_options": [option], "params_input": fields})


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
