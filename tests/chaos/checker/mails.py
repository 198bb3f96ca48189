"""Invariants of e-mails: what the emulated SES accepted, against what the driver has said and done."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.chaos.checker.world import STATE, Approval, No, Violation, World

#: Seconds between a no and the intents of a batch after which the batch has read the no: they are written at once
#: after what it reads, but for a server that is cut off meanwhile.
READ_SECONDS = 60
#: Seconds after a no by which no mail begins, where the time of the intents is not known: a batch under way, with the
#: retries of each mail.
BATCH_SECONDS = 600
#: Seconds by which the clocks of S3 (whole seconds) and of the driver may differ.
_CLOCKS = 1.0


def launch_tag(name: str) -> str:
    """The tag of the mails of a launch, as the documentation of events describes it."""
    return hashlib.sha256(f"cohort-flywheel\0launch\0{name}".encode()).hexdigest()[:32]


def mailed_once(world: World) -> Iterator[Violation]:
    """No player gets a template twice: the whole run is shorter than `not_again_days`."""
    names = names_of_launches(world)
    times: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for mail, player in _to_players(world):
        times[_template(mail), player].append(mail)
    for (template, player), mails in sorted(times.items()):
        if len(mails) > 1:
            launches = sorted({_launch(names, mail) for mail in mails})
            said = f"a player was mailed {template} {len(mails)} times, by {', '.join(launches)}"
            yield Violation("mailed once", said, (player, *launches))


def approved(world: World) -> Iterator[Violation]:
    """Each mail is of a launch that an approver other than the triggering user has approved before."""
    names = names_of_launches(world)
    for mail, player in _to_players(world):
        launch = _launch(names, mail)
        if not _approvals(world, launch, mail["at"]):
            said = f"a mail of {launch} was sent without an approval by an approver"
            yield Violation("approved", said, (launch, player))
            return  # one of a launch is enough


def no_after_no(world: World) -> Iterator[Violation]:
    """No mail reaches a player who said no before the launch was approved, or before the batch of the mail began."""
    names = names_of_launches(world)
    noes: dict[str, list[No]] = defaultdict(list)
    for no in world.noes:
        noes[no.player].append(no)
    for mail, player, address in _recipients(world, "delivered"):
        launch = _launch(names, mail)
        given = [each.at for each in _approvals(world, launch, mail["at"])]
        begun, allowed = _begun(world, launch, mail)
        for no in noes[player]:
            if no.address and no.address.lower() != address:
                continue  # the player has another address since
            before_launch = bool(given) and no.at < min(given)
            if before_launch or no.at + allowed < begun:
                said = f"a mail of {launch} went to a player {mail['at'] - no.at:.0f} s after a no ({no.kind})"
                yield Violation("no after a no", said, (player, launch))
                break


def _begun(world: World, launch: str, mail: dict[str, Any]) -> tuple[float, float]:
    """When the batch of a mail had read who may be mailed, and how many seconds a no may be earlier."""
    number, attempt, _ = (_tag(mail, "row") or "--").split("-")
    intents = world.buckets[STATE].get(f"launches/{launch}/{number:0>6}_{attempt}.intents.json")
    if intents and (written := intents.modified.timestamp()) <= mail["at"] + _CLOCKS:
        return written, READ_SECONDS
    return mail["at"], BATCH_SECONDS  # an erasure has rewritten the intents


def in_a_ledger(world: World) -> Iterator[Violation]:
    """The player of each mail is in a send ledger of its launch that was begun before the mail."""
    names = names_of_launches(world)
    ledgers: dict[str, list[tuple[float, set[str]]]] = defaultdict(list)
    for key in world.below(STATE, "sends/", ".jsonl"):
        if "_holdout." in key:
            continue
        header, *players = world.buckets[STATE][key].body.decode().split("\n")
        about = json.loads(header)
        ledgers[launch_tag(about["name"])].append((_seconds(about["launched_at"]), set(players)))
    for mail, player in _to_players(world):
        if player in world.gone:
            continue
        begun = [players for at, players in ledgers[_tag(mail)] if at <= mail["at"] + _CLOCKS]
        if not any(player in players for players in begun):
            launch = _launch(names, mail)
            yield Violation(
                "in a ledger", f"a mail of {launch} is to a player of none of its ledgers", (launch, player)
            )


def launches_account(world: World) -> Iterator[Violation]:
    """SES has accepted as many mails of a launch as its records say were sent, and at most those in doubt more."""
    accepted: dict[str, int] = defaultdict(int)
    for mail, _ in _to_players(world):
        accepted[_tag(mail)] += 1
    least: dict[str, int] = defaultdict(int)
    most: dict[str, int] = defaultdict(int)
    for key in world.below(STATE, "launches/", ".intents.json"):
        name, outcome = key.split("/")[1], key.replace(".intents.", ".outcome.")
        if outcome not in world.buckets[STATE]:
            most[name] += len(world.json(STATE, key)["player_ids"])
            continue
        found = world.json(STATE, outcome)
        least[name] += found["sent"]
        # an erasure takes a player out of the list of those in doubt, and leaves an empty text in the intents
        most[name] += found["sent"] + len(found["in_doubt"]) + world.json(STATE, key)["player_ids"].count("")
    for name in sorted({*least, *most}):
        if not least[name] <= accepted[launch_tag(name)] <= most[name]:
            said = (
                f"{name}: SES accepted {accepted[launch_tag(name)]} mails, recorded are {least[name]} to {most[name]}"
            )
            yield Violation("launches account", said, (name,))


def _to_players(world: World) -> Iterator[tuple[dict[str, Any], str]]:
    """Each mail, with the player whose address it was sent to; samples for test addresses are left out."""
    return ((mail, player) for mail, player, _ in _recipients(world, "to"))


def _recipients(world: World, part: str) -> Iterator[tuple[dict[str, Any], str, str]]:
    """The same with the address, of all recipients or of those that SES has delivered to."""
    for mail in world.mails:
        for address in map(str.lower, mail[part]):
            if player := world.players.get(address):
                yield mail, player, address


def _tag(mail: dict[str, Any], name: str = "launch") -> str:
    return next((str(tag["Value"]) for tag in mail["tags"] if tag["Name"] == name), "")


def _template(mail: dict[str, Any]) -> str:
    """The folder of the template: SES's name has a digest of the content behind it."""
    return str(mail["template"]).rpartition("_")[0]


def names_of_launches(world: World) -> dict[str, str]:
    """The run names of the launches that have a folder or were approved, by their tags."""
    names = {key.split("/")[1] for key in world.below(STATE, "launches/")} | {each.launch for each in world.approvals}
    return {launch_tag(name): name for name in names}


def _launch(names: dict[str, str], mail: dict[str, Any]) -> str:
    """The run name of a mail's launch; else the tag itself."""
    return names.get(_tag(mail), _tag(mail) or "no launch")


def _approvals(world: World, launch: str, until: float) -> list[Approval]:
    return [
        each
        for each in world.approvals
        if (each.launch, each.option) == (launch, "Approve") and each.at <= until
        if each.by in world.approvers and each.by != each.triggered_by
    ]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


CHECKS = (mailed_once, approved, no_after_no, in_a_ledger, launches_account)
