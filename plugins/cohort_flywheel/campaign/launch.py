"""The outputs of the tasks of a campaign: what was prepared, the answer, and the outcomes of the e-mails."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, StrictInt, ValidationError

from cohort_flywheel.common.records import Json, Record
from cohort_flywheel.errors import Code, FlywheelError


class SampleMail(Record):
    """The e-mail for a made-up player, and the S3 address of its HTML."""

    model_config = ConfigDict(extra="allow")

    subject: str
    text: str
    html_url: str = ""


class PreparedCampaign(Record):
    """The output of `prepare_campaign`, which an approver is asked about.

    A destination adds keys of its own. They are kept, as the digest of an approval is over all of them.
    """

    model_config = ConfigDict(extra="allow")

    mode: Literal["draft", "test", "launch"]
    template: str
    template_digest: str
    sender: Annotated[str, Field(alias="from")]
    reply_to: str | None = None
    rows: StrictInt
    segment_id: str
    segment_sha256: str
    message: SampleMail

    @classmethod
    def of_output(cls, output: Json) -> Self:
        """Read the XCom; raise FlywheelError for one that the task has not returned."""
        try:
            return cls.model_validate(output)
        except ValidationError:
            raise FlywheelError(
                "the output of prepare_campaign is not what the task returned: trigger a new run, which asks about its"
                " own segment and mail",
                code=Code.NOT_APPROVED,
            ) from None


class ApprovalAnswer(Record):
    """The answer to a question; `digest` is that of what was shown, `at` a time in ISO 8601."""

    approved: bool
    by: str | None
    at: str
    timed_out: bool
    digest: str | None


class SentMails(Record):
    """The counts of a launch that sends one e-mail per row.

    `rows = sent + withdrawn + in_doubt + refused`, and `left` in a launch that stopped. `in_doubt_list` is the S3
    address of the players in doubt. `untracked` of the sent e-mails are those of players who have not agreed to
    tracking.
    """

    model_config = ConfigDict(extra="allow")

    rows: int
    sent: int
    withdrawn: dict[str, int]
    in_doubt: int
    refused: dict[str, int]
    batches: int
    in_doubt_list: str | None
    left: int = 0
    untracked: int = 0

    @property
    def accounted(self) -> int:
        """The number of rows with a known outcome."""
        return self.sent + self.in_doubt + sum(self.withdrawn.values()) + sum(self.refused.values()) + self.left


class StartedCampaign(Record):
    """A campaign of the destination that was started for all players of the segment."""

    model_config = ConfigDict(extra="allow")

    campaign_id: str
    campaign_state: str
    template: str
    players: int

    @property
    def accounted(self) -> int:
        """The number of rows with a known outcome."""
        return self.players


class FollowedCampaign(Record):
    """The output of `follow_campaign`."""

    model_config = ConfigDict(extra="allow")

    campaign_id: str
    campaign_state: str


class CampaignOutputs(NamedTuple):
    """What the tasks of a campaign returned, or None for a task that has no output."""

    prepared: PreparedCampaign | None = None
    answer: ApprovalAnswer | None = None
    launched: SentMails | StartedCampaign | None = None
    followed: FollowedCampaign | None = None
