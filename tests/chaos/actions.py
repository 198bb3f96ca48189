"""The driver's actions: what users, players and the studio's other programs do to an installation."""

from __future__ import annotations

import csv
import io
import itertools
import re
import time
import urllib.error
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from gremlin_python.driver.client import Client
from pydantic import JsonValue

from local.config import CONTACT_LIST
from local.seed import DO_NOT_CONTACT
from local.servers import control
from tests.chaos import registry
from tests.chaos.airflow_api import AirflowApi, RefusedError
from tests.chaos.installation import DAG_ID, EVENT_BUCKET, Installation
from tests.chaos.plan import APPROVER, COHORTS, MINUTES, OTHER, QUIET_ANSWERS, TRIGGERS, Action

INTERVAL = timedelta(minutes=MINUTES)
PLAYERS_KEY = "erasure/players.txt"
type Facts = dict[str, JsonValue]


class Driver:
    """Do actions; each returns facts for the history: who said no, what was refused.

    :param note: adds facts to the history at once, that of an answer or of an erasure before it is sent: whether a
        request whose answer is lost took effect is not known.
    """

    def __init__(self, made: Installation, note: Callable[[Facts], None]) -> None:
        self.made, self.note = made, note
        self.apis = {user: AirflowApi(made.url, user) for user in (TRIGGERS, APPROVER, OTHER)}
        self.ours = self.apis[TRIGGERS]
        #: the questions to be answered after the time until which they wait
        self._late: dict[str, float] = {}
        self._addresses = 0
        self._ways: Iterator[str] = itertools.cycle(QUIET_ANSWERS)
        #: the players of the erasures that have not ended, by run
        self._erasures: dict[str, list[str]] = {}

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

    def rows(self, launch: str = "") -> list[str]:
        """The playerIds of the newest segment that has rows; with the name of a launch of its segment only."""
        s3, bucket = self.made.client("s3"), self.made.config.import_bucket
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"segments/{launch}")
        found = [(item["LastModified"], item["Key"]) for page in pages for item in page.get("Contents", ())]
        for _, key in sorted(found, reverse=True):
            text = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
            if players := [row["playerId"] for row in csv.DictReader(io.StringIO(text, newline=""))]:
                return players
        return []

    def batches(self) -> int:
        """How many batches of mails the launches have begun, by their intents."""
        pages = self.made.client("s3").get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self.made.config.state_bucket, Prefix="launches/")
        return sum(item["Key"].endswith(".intents.json") for page in found for item in page.get("Contents", ()))

    # --- runs

    def _run(self, cohort: str, threshold: int, option: str) -> Facts:
        conf: dict[str, Any] = {"cohort": cohort, "threshold": threshold}
        conf |= {"live": {"source": "live"}, "test": {"campaign": "test"}, "none": {}}.get(option, {option: True})
        return {"run": self.ours.trigger(DAG_ID, conf)}

    def _launch(self, cohort: str, threshold: int, campaign: str) -> Facts:
        conf = {"cohort": cohort, "threshold": threshold, "campaign": campaign}
        return {"run": self.ours.trigger(DAG_ID, conf)}

    def _what_if(self, cohort: str, threshold: int) -> Facts:
        today = f"{datetime.now(UTC):%Y-%m-%d}"  # the default is a month, which has too many as-ofs with this schedule
        conf = {"cohort": cohort, "threshold": threshold, "from": today, "to": today}
        return {"run": self.ours.trigger("cohort_what_if", conf)}

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

    def _clear_engagement(self) -> Facts:
        """Clear the failed runs of `engagement`, as all others wait for it."""
        failed = self.ours.runs("engagement", state="failed")
        for run in failed:
            self.ours.clear(run)
        return {"runs": [run["dag_run_id"] for run in failed]}

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
        return self.answer_as(question, how)

    def _approve_all(self, noes: int) -> Facts:
        """Answer all launches that wait, after some players of the largest of them have said no."""
        waiting = self.ours.questions()
        if not waiting:
            return {"refused": "no question"}
        if noes:
            self._contacts("no", self.rows(launch_of(max(waiting, key=players_asked)))[:noes])
        return {"answers": [self.answer_as(question, next(self._ways)) for question in waiting]}

    def answer_as(self, question: dict[str, Any], how: str) -> Facts:
        """Answer a question in one of the ways of ANSWERS, not `late`."""
        user = {"wrong person": OTHER, "own run": TRIGGERS}.get(how, APPROVER)
        option = "Reject" if how == "reject" else "Approve"
        facts = self.answer(question, user, option)
        facts = self.answer(question, user, option) if how == "twice" else facts
        return facts | {"how": how}

    def answer(self, question: dict[str, Any], user: str, option: str) -> Facts:
        """Answer a question.

        The history has the answer before it is given: one whose fate is not known counts as given.
        """
        task = question["task_instance"]
        run = self.ours.get(f"/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}")
        approval: Facts = {
            "launch": launch_of(question), "by": user, "option": option, "at": time.time(),
            "triggered_by": run.get("triggering_user_name"),
        }  # fmt: skip
        self.note({"name": "answered", "approval": approval, "run": task["dag_run_id"]})
        try:
            self.apis[user].answer(question, option)
        except RefusedError as error:
            return {"launch": launch_of(question), "refused": str(error)[-40:]}
        return {"launch": launch_of(question)}

    def late_answers(self) -> None:
        """Answer the questions whose time is over; one that cannot be answered now is answered later."""
        due = [each for each, at in self._late.items() if at < time.time()]
        if not due:
            return
        waiting = {each["task_instance"]["id"]: each for each in self.ours.questions()}
        for each in due:
            if question := waiting.get(each):
                self.answer(question, APPROVER, "Approve")
            del self._late[each]

    # --- the studio's data

    def _contacts(self, kind: str, players: list[str]) -> Facts:
        dynamodb, table, there = self.made.client("dynamodb"), self.made.config.contacts_table, self.records()
        for player in sorted(there.keys() & set(players)):
            key = {"playerId": {"S": player}}
            if kind == "deleted":
                dynamodb.delete_item(TableName=table, Key=key)
            elif kind == "no":
                _set(dynamodb, table, key, "emailConsent", "no")
            elif there[player].get("email", "").startswith("success+"):
                self._addresses += 1
                address = f"success+{player}+{self._addresses}@simulator.amazonses.com"
                self.note({"name": "address", "addresses": {address.lower(): player}})
                _set(dynamodb, table, key, "email", address)
            if kind != "address":
                self.note({"name": "no", "noes": [{"player": player, "at": time.time(), "kind": kind}]})
        return {}

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

    def _lose_answers(self, seconds: int) -> Facts:
        """Lose the next two answers to creating a job or sending a mail; the jobs from now on take some seconds."""
        operations = ["CreateImportJob", "SendEmail"]
        order = {"import_seconds": seconds, "lose_next_answers": 2, "lose_operations": operations}
        control(self.made.servers, "sesv2", order)
        return {}

    def _erase(self, players: list[str]) -> Facts:
        s3, bucket = self.made.client("s3"), self.made.config.state_bucket
        active = any(run["dag_id"] == "cohort_erasure" for run in self.ours.active())
        if active or s3.list_objects_v2(Bucket=bucket, Prefix=PLAYERS_KEY).get("KeyCount"):
            return {"refused": "an erasure has not ended"}
        self.note({"name": "erasing", "erasing": [*players]})
        s3.put_object(Bucket=bucket, Key=PLAYERS_KEY, Body="".join(f"{player}\n" for player in players).encode())
        try:
            run = self.ours.trigger("cohort_erasure", {"dry_run": False})
        except RefusedError:
            s3.delete_object(Bucket=bucket, Key=PLAYERS_KEY)  # else no later erasure begins
            raise
        self._erasures[run] = players
        return {"run": run}

    def note_erased(self) -> None:
        """Note the players of each erasure that has succeeded since the last time."""
        if not self._erasures:
            return
        states = {run["dag_run_id"]: run["state"] for run in self.ours.runs("cohort_erasure")}
        for run, players in list(self._erasures.items()):
            if states.get(run) == "success":
                del self._erasures[run]
                self.note({"name": "erased", "run": run, "erased": [*players]})

    # --- what the checker asks

    def addresses(self) -> Facts:
        """The playerIds by the addresses that the contacts table has now."""
        return {record["email"].lower(): player for player, record in self.records().items() if record.get("email")}


def launch_of(question: dict[str, Any]) -> str:
    """The run name in a question, `May <name> be launched, to 3 players?`"""
    found = re.match(r"May (\S+) be launched", question["subject"])
    return found[1] if found else ""


def players_asked(question: dict[str, Any]) -> int:
    """The number of players in a question."""
    found = re.search(r"to ([\d,]+) players?\?", question["subject"])
    return int(found[1].replace(",", "")) if found else 0


def _set(dynamodb: Any, table: str, key: dict[str, Any], name: str, value: str) -> None:
    dynamodb.update_item(
        TableName=table, Key=key, UpdateExpression="SET #name = :value",
        ExpressionAttributeNames={"#name": name}, ExpressionAttributeValues={":value": {"S": value}},
    )  # fmt: skip
