"""The DAG `suppression_removal`: addresses and players that are taken off the suppression list, and off SES's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohort_flywheel.engagement.event_objects import REMOVAL_KEY
from cohort_flywheel.runs.names import SUPPRESSIONS_KEY
from local import seed
from local.config import Config
from local.seed import Seeded
from local.servers import Servers, control
from tests.faults.aws import Endpoint
from tests.faults.leftovers import Leftovers, Place
from tests.faults.simulate import Run
from tests.faults.sites import Case

if TYPE_CHECKING:
    from tests.faults.harness import World

DESTINATION = "ses"
CONF: dict[str, Any] = {"reason": "they wrote to us", "dry_run": False}
HOLDOUT_PERCENT = 0
REGISTRY: dict[str, str] = {}
#: Who is suppressed, by the harness's list and at SES.
PLAYER, ADDRESS, OTHER = "wayne96", "wayne96@example.com", "other@example.com"
PERSONAL = (PLAYER, ADDRESS, OTHER)
DANGEROUS = (
    "remove: s3 PutObject #2 × killed after",  # the list
    "remove: sesv2 DeleteSuppressedDestination #1 × answer lost, time-out",
    "remove: s3 DeleteObject #1 × killed after",
)


def world(
    servers: Servers, config: Config, folder: Path, endpoint: Endpoint, kept: Path
) -> AbstractContextManager[World]:
    from tests.faults.engagement_world import EventsWorld  # which needs this package

    return nullcontext(EventsWorld(servers, config, folder, "suppression_removal", endpoint, kept))


def make(servers: Servers, config: Config) -> Seeded:
    ses = seed.client("sesv2", servers, config)
    seed.make_contact_list(servers, config)
    for address in (ADDRESS, OTHER):
        ses.put_suppressed_destination(EmailAddress=address, Reason="COMPLAINT")
    body = f"{PLAYER}\n{ADDRESS}\n".encode()
    seed.client("s3", servers, config).put_object(Bucket=config.state_bucket, Key=REMOVAL_KEY, Body=body)
    return Seeded("none", "none", "none", "none")


def check(run: Run, left: Leftovers) -> None:
    """The undisturbed run removed the player, and the address at SES."""
    removed = run.outputs["remove"]
    assert (removed["lines"], removed["suppressed"], removed["at_destination"]) == (2, {"complained": 1}, 1), removed


def settle(servers: Servers, case: Case | None) -> None:
    """Nothing takes time here."""


def there(servers: Servers) -> dict[str, Any]:
    return {"accounts": control(servers, "sesv2")["accounts"]}


def comparable(objects: dict[Place, bytes], left: Leftovers) -> dict[Place, bytes]:
    """All of them: the time of a removal is the clock's."""
    return objects


def differences(undisturbed: Leftovers, left: Leftovers, case: Case | None) -> Iterator[str]:
    (body,) = (body for (_, key), body in left.objects.items() if key == SUPPRESSIONS_KEY)
    if b",suppressed," in body:
        yield "an entry on the list of removals is still suppressed"
    if _at_ses(left) != _at_ses(undisturbed):
        yield "SES's own list has other addresses"
    if any(key == REMOVAL_KEY for _, key in left.objects):
        yield "the list of removals is still there"


def _at_ses(left: Leftovers) -> list[dict[str, str]]:
    """The account-level list, by account."""
    return [account["suppressed"] for account in left.there["accounts"]]
