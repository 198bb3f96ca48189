"""Amazon SES: contacts once on the list, and a launch that mails each at most once and accounts for the others."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from cohort_flywheel.destinations.ses.campaign.sends_store import BATCH
from cohort_flywheel.destinations.ses.layout import IMPORT_FOLDER
from local import seed
from local.config import CONTACT_LIST, Config
from local.seed import Seeded
from local.servers import Servers, control
from tests.faults.leftovers import Leftovers, Place, read_json
from tests.faults.simulate import MOST_RETRIES
from tests.faults.sites import CALL, CLEARED, Case

DESTINATION = "ses"
CONF: dict[str, Any] = {"campaign": "launch"}
#: One of the rows, who is on the list already and has unsubscribed there.
UNSUBSCRIBED = "success+reyesyuki@simulator.amazonses.com"
#: So that a launch has two batches, a whole one and the rest.
HOLDOUT_PERCENT = 60
DANGEROUS = (
    "create_import_job: sesv2 CreateImportJob #1 × killed after",
    "launch_campaign: s3 PutObject #4 × killed after",  # the players held out
    "launch_campaign: s3 PutObject #7 × killed after",  # the send ledger
    "launch_campaign: s3 PutObject #8 × killed after",  # the first batch's intents
    "launch_campaign: sesv2 SendEmail #1 × killed after",
    "launch_campaign: sesv2 SendEmail #100 × answer lost, time-out",
    "launch_campaign: s3 PutObject #9 × answer lost, time-out",  # its outcome
)

#: How long an import job takes: it ends before the first look, or only after it, for a trigger to wait for.
IMPORT_SECONDS, LONG_IMPORT_SECONDS = 0.1, 3.0
_WITH_THE_JOB = ("create_import_job", "wait_for_import_job")
OF_THE_BATCHES = re.compile(r"launches/.*/(\d+_\d+\.(intents|outcome)\.json|in_doubt\.txt)")
#: The send ledgers: a try that continues puts one more, and one that was killed has not closed its own.
LEDGERS = re.compile(r"sends/.*\.jsonl")
TELLS_OF_THE_RUN = re.compile(r"(reports|results)/.*\.json")
#: What is known of a mail, but for its number and its instant.
_OF_A_MAIL = ("sender", "template", "contact_list", "topic", "subject", "delivered", "failure")


def make(servers: Servers, config: Config) -> Seeded:
    seed.make_contact_list(servers, config)
    seed.client("sesv2", servers, config).create_contact(
        ContactListName=CONTACT_LIST, EmailAddress=UNSUBSCRIBED, UnsubscribeAll=True
    )
    seed.make_sender(servers, config)
    return Seeded("none", "none", "none", "none")


def settle(servers: Servers, case: Case | None) -> None:
    """Choose how long a job takes, for this case."""
    long = case is None or (case.site.task.startswith(_WITH_THE_JOB) and case.site.service == "sesv2")
    seconds = {"import_seconds": LONG_IMPORT_SECONDS if long else IMPORT_SECONDS}
    control(servers, "sesv2", seconds | {"template_seconds": 0, "max_send_rate": 100_000})


def there(servers: Servers) -> dict[str, Any]:
    (account,) = (each for each in control(servers, "sesv2")["accounts"] if each["lists"])
    return dict(account)


def comparable(objects: dict[Place, bytes], left: Leftovers) -> dict[Place, bytes]:
    """All but the records of the batches and the send ledgers, which `differences` reads."""
    found = {}
    for place, body in objects.items():
        _, key = place
        if key.startswith(IMPORT_FOLDER) and _failed(left):
            continue  # who was imported after all is in no second file
        if not OF_THE_BATCHES.match(key) and not LEDGERS.match(key):
            found[place] = _without_what_may_differ(place, body) if TELLS_OF_THE_RUN.match(key) else body
    return found


def _without_what_may_differ(place: Place, body: bytes) -> bytes:
    """Which jobs were found running is chance; what the launch says of itself is held against its records."""
    document = read_json(place, body)
    (document["imported"] or {}).pop("job_ids", None)
    (document.get("campaign") or {}).pop("launched", None)
    return json.dumps(document).encode()


def _failed(left: Leftovers) -> bool:
    return any(job["JobStatus"] == "FAILED" for job in left.there["jobs"])


def differences(undisturbed: Leftovers, left: Leftovers, case: Case | None) -> Iterator[str]:
    jobs = Counter(job["ImportDataSource"]["S3Url"] for job in left.there["jobs"] if job["JobStatus"] != "FAILED")
    yield from (f"{number} import jobs of {url}" for url, number in jobs.items() if number != 1)
    if not _failed(left) and jobs.keys() != {job["ImportDataSource"]["S3Url"] for job in undisturbed.there["jobs"]}:
        yield f"import jobs of {sorted(jobs)}"
    contacts = _contacts(left)
    if contacts != _contacts(undisturbed):
        yield "the contact list has other contacts"
    if {address for address, contact in contacts.items() if contact["UnsubscribeAll"]} != {UNSUBSCRIBED}:
        yield "who has unsubscribed is another one"
    if UNSUBSCRIBED not in left.rows.values() or contacts.keys() != set(left.rows.values()):
        yield f"{len(contacts)} contacts, and the segment file has {len(left.rows)} rows"
    if UNSUBSCRIBED in {address for mail in left.there["mails"] for address in mail["delivered"]}:
        yield "who has unsubscribed got a mail"
    if left.there["templates"].keys() != undisturbed.there["templates"].keys():
        yield f"templates {sorted(left.there['templates'])}"
    yield from _mails(undisturbed, left)
    yield from _accounts(undisturbed, left, case)


def _contacts(left: Leftovers) -> dict[str, dict[str, Any]]:
    """By address, without the service's clock."""
    (found,) = left.there["lists"]
    return {
        contact["EmailAddress"]: {name: value for name, value in contact.items() if "Timestamp" not in name}
        for contact in found["Contacts"]
    }


def _mails(undisturbed: Leftovers, left: Leftovers) -> Iterator[str]:
    """No player was mailed twice, and each mail equals that of the undisturbed run."""
    times = Counter(mail["to"][0] for mail in left.there["mails"])
    if again := sum(number > 1 for number in times.values()):
        yield f"{again} players were mailed more than once"
    wanted, got = (
        {mail["to"][0]: [mail[name] for name in _OF_A_MAIL] for mail in each.there["mails"]}
        for each in (undisturbed, left)
    )
    if other := sum(wanted.get(address) != mail for address, mail in got.items()):
        yield f"{other} players got another mail"


def _accounts(undisturbed: Leftovers, left: Leftovers, case: Case | None) -> Iterator[str]:
    """Every row has a recorded outcome, and the outcome is true."""
    rows, mailed = left.rows, {mail["to"][0] for mail in left.there["mails"]}
    sent, in_doubt, apart = _became(left)
    if Counter([*sent, *in_doubt, *apart]) != Counter(list(rows)):
        yield f"of {len(rows)} rows {len(sent)} are sent, {len(in_doubt)} in doubt and {len(apart)} neither"
    if lost := sum(rows.get(player) not in mailed for player in sent):
        yield f"{lost} players are recorded as sent and were not mailed"
    if hidden := sum(address in mailed for player, address in rows.items() if player not in {*sent, *in_doubt}):
        yield f"{hidden} players were mailed and are neither sent nor in doubt"
    if apart:
        yield f"{len(apart)} players were refused or withdrawn"
    if not mailed <= {rows.get(player) for player in left.ledger}:
        yield "the send ledger lacks a player who was mailed"
    if left.held_out != undisturbed.held_out or not left.held_out:
        yield f"{len(left.held_out)} players are held out, and not {len(undisturbed.held_out)}"
    if extra := len(left.ledger - set(rows)):
        yield f"the send ledger has {extra} players who are no rows"
    if len(in_doubt) > _may_be_in_doubt(case):
        yield f"{len(in_doubt)} players are in doubt"
    listed = [body for (_, key), body in left.objects.items() if key.endswith("/in_doubt.txt")]
    if [sorted(body.decode().split()) for body in listed] != ([sorted(in_doubt)] if in_doubt else []):
        yield "the list of those in doubt has others"
    launched = (left.report.get("campaign") or {}).get("launched") or {}
    said = [launched.get(name) for name in ("rows", "sent", "in_doubt")]
    if said != [len(rows), len(sent), len(in_doubt)]:
        yield f"the report says of rows, sent and in doubt {said}"


def _may_be_in_doubt(case: Case | None) -> int:
    """How many: one batch of each try that the fault breaks off, or that it leaves without an answer."""
    if case is None or case.site.task != "launch_campaign":
        return 0
    if case.fault.lasts == CLEARED:
        return BATCH * (MOST_RETRIES + 1)
    return BATCH if case.fault.lasts != CALL else 0


def _became(left: Leftovers) -> tuple[list[str], list[str], list[str]]:
    """By the records of the batches: who was sent a mail, who is in doubt, and who is refused or withdrawn.

    Of the mailed players only the number is recorded: they are those of the intents without another outcome.
    """
    found = {key.rpartition("/")[2]: body for (_, key), body in left.objects.items() if key.startswith("launches/")}
    sent, in_doubt, apart = [], [], []
    for name, body in found.items():
        batch, _, kind = name.partition(".")
        if kind != "outcome.json":
            continue
        outcome, intents = json.loads(body), json.loads(found.get(f"{batch}.intents.json", b'{"player_ids": []}'))
        refused = [player for players in outcome["refused"].values() for player in players]
        not_sent = {*outcome["in_doubt"], *outcome["left"], *refused}
        those = [player for player in intents["player_ids"] if player not in not_sent]
        sent += those if len(those) == outcome["sent"] else []
        in_doubt += outcome["in_doubt"]
        apart += refused + [player for players in outcome["withdrawn"].values() for player in players]
    return sent, in_doubt, apart
