"""Event publishing of SES: how the events of a mail name its launch and its row, and what a configuration set needs."""

from __future__ import annotations

from collections.abc import Sequence

from cohort_flywheel.campaign.mail_tags import launch_tag
from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.errors import Code, FlywheelError

#: Every event type that SES publishes [botocore: EventType].
EVENT_TYPES = (
    "SEND", "REJECT", "BOUNCE", "COMPLAINT", "DELIVERY", "OPEN", "CLICK", "RENDERING_FAILURE", "DELIVERY_DELAY",
    "SUBSCRIPTION",
)  # fmt: skip

#: Where the configuration set comes from.
_TEMPLATE = "include/cloudformation/engagement.yaml"


def followed_by(configuration_set: str | None, name: str, row: str) -> AwsStructure:
    """Return the arguments of SendEmail that publish the events of a mail; none without a configuration set.

    The tags hold nothing of the player, not even a hash: without the records of the launch they name no player.
    """
    if not configuration_set:
        return {}
    tags = [{"Name": "launch", "Value": launch_tag(name)}, {"Name": "row", "Value": row}]
    return {"ConfigurationSetName": configuration_set, "EmailTags": tags}


def check_configuration_set(name: str, found: tuple[AwsStructure, Sequence[AwsStructure]] | None) -> None:
    """Raise FlywheelError unless a configuration set sends, and publishes every event to Data Firehose.

    :param found: the set and its event destinations; None if it does not exist.
    """
    if found is None:
        raise FlywheelError(
            f"configuration set {name} does not exist in SES: create it ({_TEMPLATE}), or correct"
            " cohort_flywheel_ses_configuration_set",
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
    lacking = min(([each for each in EVENT_TYPES if each not in types] for types in published), key=len)
    if lacking:
        raise FlywheelError(
            f"the event destination of configuration set {name} does not publish {', '.join(lacking)}: add these event"
            " types (aws sesv2 update-configuration-set-event-destination)",
            code=Code.NOT_THERE,
        )
