"""The driver's actions: what users, players and the studio's other programs do to an installation."""

from __future__ import annotations

import re
import time
import urllib.error
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from gremlin_python.driver.client import Client
from pydantic import JsonValue

from local.config import CONTACT_LIST
from local.seed import DO_NOT_CONTACT
from tests.chaos import registry
from tests.chaos.airflow_api import AirflowApi, RefusedError
from tests.chaos.installation import DAG_ID, EVENT_BUCKET, Installation, control
from tests.chaos.plan import APPROVER, COHORTS, MINUTES, OTHER, TRIGGERS, Action

INTERVAL = timedelta(minutes=MINUTES)
PLAYERS_KEY = "erasure/players.txt"
type Facts = dict[str, JsonValue]


class Driver:
    """Do actions; each returns facts for the history: who said no, who was asked to approve what, what was refused."""

    def __init__(self, made: Installation) -> None:
        self.made = made
        self.apis = {user: AirflowApi(made.url, user) for user in (TRIGGERS, APPROVER, OTHER)}
        self.ours = self.apis[TRIGGERS]
        #: the questions to be answered after the time until which they wait
        self._late: dict[str, float] = {}
        self._addresses = 0

    def do(self, action: Action) -> Facts:
        """Do it; a refusal of Airflow or of a server is a fact too."""
        method: Callable[..., Facts] = getattr(self, f"_{action.name}")
        try:
            return method(**action.about)
        except (RefusedError, ClientError, BotoCoreError, OSError, urllib.error.URLError, RuntimeError) as error:
            return {"refused": f"{type(error).__name__}: {str(error)[:200]}"}

    def players(self) -> list[str]:
        return sorted(self.records())

    def records(self) -> dict[str, dict[str, str]]:
        """The contacts table."""
        table = self.made.config.contacts_table
        pages = self.made.client("dynamodb").get_paginator("scan").paginate(TableName=table)
        items = [{k: str(v["S"]) for k, v in item.items() if "S" in v} for page in pages for item in page["Items"]]
        return {item["playerId"]: item for item in items}

    # --- runs

    def _run(self, cohort: str, threshold: int, option: str) -> Facts:
        conf: dict[str, Any] = {"cohort": cohort, "threshold": threshold}
        conf |= {"live": {"source": "live"}, "test": {"campaign": "test"}, "none": {}}.get(option, {option: True})
        return {"run": self.ours.trigger(DAG_ID, conf)}

    def _launch(self, cohort: str, threshold: int, campaign: str) -> Facts:
        conf = {"cohort": cohort, "threshold": threshold, "campaign": campaign}
        return {"run": self.ours.trigger(DAG_ID, conf)}

    def _what_if(self, cohort: str, threshold: int) -> Facts:
        return {"run": self.ours.trigger("cohort_what_if", {"cohort": cohort, "threshold": threshold})}

    def _engagement(self) -> Facts:
        return {"run": self.ours.trigger("engagement", {})}

    def _graph_load(self) -> Facts:
        return {"run": self.ours.trigger("graph_load", {"load": "cohort_modeler", "dry_run": False})}

    def _backfill(self, back: int, number: int, behavior: str) -> Facts:
        seconds = INTERVAL.total_seconds()
        newest = datetime.fromtimestamp(time.time() // seconds * seconds, UTC)
        first = newest - (back + number) * INTERVAL  # a backfill's dates are logical dates
        body = {"dag_id": DAG_ID, "max_active_runs": 2, "dag_run_conf": {}, "reprocess_behavior": behavior}
        for name, day in (("from_date", first), ("to_date", first + (number - 1) * INTERVAL)):
            body[name] = f"{day:%Y-%m-%dT%H:%M:%SZ}"
        return {"backfill": self.ours.request("POST", "/backfills", body)["id"]}

    def _clear(self, index: int, task: str, downstream: bool) -> Facts:
        runs = [run for run in self.ours.runs() if run["dag_id"] in (DAG_ID, "engagement")]
        if not runs:
            return {"refused": "no run"}
        run = runs[index % len(runs)]
        tasks = {each["task_id"] for each in self.ours.tasks(run)}
        if task not in tasks:  # engagement has tasks of its own
            task = sorted(tasks)[index % len(tasks)]
        self.ours.clear(run, [task], downstream=downstream)
        return {"run": run["dag_run_id"], "task": task}

    # --- questions

    def _answer(self, how: str, index: int) -> Facts:
        waiting = [each for each in self.ours.questions() if each["task_instance"]["id"] not in self._late]
        if not waiting:
            return {"refused": "no question"}
        question = waiting[index % len(waiting)]
        if how == "late":
            self._late[question["task_instance"]["id"]] = (
                time.time() // (seconds := INTERVAL.total_seconds()) + 1
            ) * seconds + 2
            return {"late": launch_of(question)}
        user = {"wrong person": OTHER, "own run": TRIGGERS}.get(how, APPROVER)
        option = "Reject" if how == "reject" else "Approve"
        facts = self.answer(question, user, option)
        return self.answer(question, user, option) if how == "twice" else facts

    def answer(self, question: dict[str, Any], user: str, option: str) -> Facts:
        """Answer a question; an answer whose fate is not known counts as given."""
        task = question["task_instance"]
        run = self.ours.get(f"/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}")
        facts: Facts = {
            "approval": {"launch": launch_of(question), "by": user, "option": option, "at": time.time(),
                         "triggered_by": run.get("triggering_user_name")},
            "run": task["dag_run_id"],
        }  # fmt: skip
        try:
            self.apis[user].answer(question, option)
        except RefusedError as error:
            facts["refused"] = str(error)[-40:]
        return facts

    def late_answers(self) -> list[Facts]:
        """Answer the questions whose time is over."""
        due = {each for each, at in self._late.items() if at < time.time()}
        if not due:
            return []
        waiting = [each for each in self.ours.questions() if each["task_instance"]["id"] in due]
        for each in due:
            del self._late[each]
        return [self.answer(question, APPROVER, "Approve") for question in waiting]

    # --- the studio's data

    def _contacts(self, kind: str, players: list[str]) -> Facts:
        dynamodb, table, there = self.made.client("dynamodb"), self.made.config.contacts_table, self.records()
        noes, addresses = list[JsonValue](), dict[str, JsonValue]()
        for player in sorted(there.keys() & set(players)):
            key = {"playerId": {"S": player}}
            if kind == "deleted":
                dynamodb.delete_item(TableName=table, Key=key)
            elif kind == "no":
                _set(dynamodb, table, key, "emailConsent", "no")
            elif there[player].get("email", "").startswith("success+"):
                self._addresses += 1
                address = f"success+{player}+{self._addresses}@simulator.amazonses.com"
                _set(dynamodb, table, key, "email", address)
                addresses[address.lower()] = player
            if kind != "address":
                noes.append({"player": player, "at": time.time(), "kind": kind})
        return {"noes": noes, "addresses": addresses}

    def _do_not_contact(self, players: list[str]) -> Facts:
        s3, bucket = self.made.client("s3"), self.made.config.state_bucket
        before = s3.get_object(Bucket=bucket, Key=DO_NOT_CONTACT)["Body"].read().decode()
        body = before + "".join(f"{player}\n" for player in players)
        s3.put_object(Bucket=bucket, Key=DO_NOT_CONTACT, Body=body.encode())
        return {"noes": [{"player": player, "at": time.time(), "kind": "do not contact"} for player in players]}

    def _unsubscribe(self, players: list[str]) -> Facts:
        """By the link of a mail, which only a contact of the list has."""
        there, noes = self.records(), list[JsonValue]()
        for player in players:
            address = there.get(player, {}).get("email", "")
            try:
                order = {"EmailAddress": address, "ContactListName": CONTACT_LIST}
                control(self.made.servers, "sesv2", {"unsubscribe": [order]})
            except urllib.error.HTTPError:
                continue
            noes.append({"player": player, "at": time.time(), "kind": "unsubscribed", "address": address})
        return {"noes": noes}

    def _scores(self, cohort: str, players: list[str], change: int) -> Facts:
        client = Client(self.made.servers.gremlin_url, "g")
        score = COHORTS[cohort][0] + change
        text = "g.V().has('player', 'playerId', within(players)).property(single, name, score).count()"
        try:
            changed = client.submit(text, {"players": players, "name": cohort, "score": score}).all().result(timeout=60)
        finally:
            client.close()
        return {"changed": int(changed[0])}

    def _registry(self, cohort: str, edit: str) -> Facts:
        return registry.edit(self.made.folder, cohort, edit)

    def _write_events(self) -> Facts:
        order = {"bucket": EVENT_BUCKET, "arrived": datetime.now(UTC).isoformat(), "faults": True}
        control(self.made.servers, "sesv2", {"write_events": order})
        return {}

    def _erase(self, players: list[str]) -> Facts:
        s3, bucket = self.made.client("s3"), self.made.config.state_bucket
        if s3.list_objects_v2(Bucket=bucket, Prefix=PLAYERS_KEY).get("KeyCount"):
            return {"refused": "an erasure has not ended"}
        s3.put_object(Bucket=bucket, Key=PLAYERS_KEY, Body="".join(f"{player}\n" for player in players).encode())
        return {"run": self.ours.trigger("cohort_erasure", {"dry_run": False}), "erasing": [*players]}

    # --- what the checker asks

    def addresses(self) -> Facts:
        """The playerIds by the addresses that the contacts table has now."""
        return {record["email"].lower(): player for player, record in self.records().items() if record.get("email")}


def launch_of(question: dict[str, Any]) -> str:
    """The run name in a question, `May <name> be launched, to 3 players?`"""
    found = re.match(r"May (\S+) be launched", question["subject"])
    return found[1] if found else ""


def _set(dynamodb: Any, table: str, key: dict[str, Any], name: str, value: str) -> None:
    dynamodb.update_item(
        TableName=table, Key=key, UpdateExpression="SET #name = :value",
        ExpressionAttributeNames={"#name": name}, ExpressionAttributeValues={":value": {"S": value}},
    )  # fmt: skip
