"""Event publishing of SES: how the events of a mail name its launch and its row, and what a configuration set needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from cohort_flywheel.campaign.mail_tags import launch_tag
from cohort_flywheel.campaign.settings import RunCampaign
from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.errors import Code, FlywheelError

#: Every event type that SES publishes [botocore: EventType].
EVENT_TYPES = (
    "SEND", "REJECT", "BOUNCE", "COMPLAINT", "DELIVERY", "OPEN", "CLICK", "RENDERING_FAILURE", "DELIVERY_DELAY",
    "SUBSCRIPTION",
)  # fmt: skip

#: The Variables of the configuration sets.
TRACKED_SETTING = "cohort_flywheel_ses_configuration_set"
UNTRACKED_SETTING = "cohort_flywheel_ses_untracked_configuration_set"
#: Where the configuration sets come from.
_TEMPLATE = "include/cloudformation/engagement.yaml"


class ConfigurationSets(NamedTuple):
    """The set of the e-mails that are tracked, and that of the others; empty where no e-mail names one."""

    tracked: str
    untracked: str


def choose_sets(
    campaign: RunCampaign, settings: Mapping[str, JsonValue], default: str | None = None
) -> ConfigurationSets:
    """Return the configuration sets of a campaign.

    Raises FlywheelError for one that is not set, unless no e-mail would be tracked.

    :param default: the default set of the sender's identity, which SES uses for an e-mail without one.
    """
    tracked = str(settings.get("ses_configuration_set") or "")
    untracked = str(settings.get("ses_untracked_configuration_set") or "")
    if not campaign.tracks_some:
        return ConfigurationSets(tracked, "")
    needed = {TRACKED_SETTING: tracked} if campaign.tracking != "none" else {}
    if campaign.tracking == "none" or campaign.tracking_consent:
        needed[UNTRACKED_SETTING] = untracked
    missing = [name for name, value in needed.items() if not value]
    if missing and (tracked or untracked or default):
        also = f"; SES would use {default}, the default set of the sender's identity" if default else ""
        raise FlywheelError(
            f"not set: {', '.join(missing)}. engagement.tracking of the registry needs it, as players who have not"
            f" agreed would be tracked{also}: create the set ({_TEMPLATE}) and the Variable",
            code=Code.VARIABLE,
        )
    return ConfigurationSets(needed.get(TRACKED_SETTING, ""), needed.get(UNTRACKED_SETTING, ""))


def types_without(campaign: RunCampaign, *, tracked: bool) -> frozenset[str]:
    """Return the event types by which SES would track more of an e-mail than its players have agreed to."""
    if not tracked:
        return frozenset({"OPEN", "CLICK"})
    return frozenset({"OPEN"} if campaign.tracking == "clicks" else ())


def followed_by(configuration_set: str | None, name: str, row: str) -> AwsStructure:
    """Return the arguments of SendEmail that publish the events of a mail; none without a configuration set.

    The tags hold nothing of the player, not even a hash: without the records of the launch they name no player.
    """
    if not configuration_set:
        return {}
    tags = [{"Name": "launch", "Value": launch_tag(name)}, {"Name": "row", "Value": row}]
    return {"ConfigurationSetName": configuration_set, "EmailTags": tags}


def check_configuration_set(
    name: str,
    found: tuple[AwsStructure, Sequence[AwsStructure]] | None,
    setting: str = TRACKED_SETTING,
    without: Collection[str] = (),
) -> None:
    """Raise FlywheelError unless a configuration set sends, and publishes every event to Data Firehose.

    :param found: the set and its event destinations; None if it does not exist.
    :param setting: the Variable that names it.
    :param without: the event types that it must not publish: SES tracks what a set publishes.
    """
    if found is None:
        raise FlywheelError(
            f"configuration set {name} does not exist in SES: create it ({_TEMPLATE}), or correct {setting}",
            code=Code.NOT_THERE,
        )
    configuration_set, destinations = found
    if not configuration_set.get("SendingOptions", {}).get("SendingEnabled", True):
        raise FlywheelError(
            f"the sending of configuration set {name} is paused: resume it with `aws sesv2"
            f" put-configuration-set-sending-options --configuration-set-name {name} --sending-enabled`",
            code=Code.SES_ACCOUNT,
        )
    published = [
        frozenset(each["MatchingEventTypes"])
        for each in destinations
        if each.get("Enabled") and "KinesisFirehoseDestination" in each
    ]
    if not published:
        raise FlywheelError(
            f"configuration set {name} has no enabled event destination of Data Firehose: enable it, or add it as"
            f" {_TEMPLATE} does",
            code=Code.NOT_THERE,
        )
    of_any = {kind for each in destinations if each.get("Enabled") for kind in each["MatchingEventTypes"]}
    if more := sorted(of_any.intersection(without)):
        raise FlywheelError(
            f"configuration set {name} publishes {', '.join(more)}, so that SES tracks them for players who have not"
            f" agreed: remove these event types from all its event destinations (aws sesv2"
            f" update-configuration-set-event-destination), or correct {setting}",
            code=Code.NOT_THERE,
        )
    wanted = [each for each in EVENT_TYPES if each not in without]
    lacking = min(([each for each in wanted if each not in types] for types in published), key=len)
    if lacking:
        raise FlywheelError(
            f"the event destination of configuration set {name} does not publish {', '.join(lacking)}: add these event"
            " types (aws sesv2 update-configuration-set-event-destination)",
            code=Code.NOT_THERE,
        )
