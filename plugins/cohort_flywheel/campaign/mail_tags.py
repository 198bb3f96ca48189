"""The tags of an e-mail, by which its events name the launch and the row: without our records they name no player."""

from __future__ import annotations

import hashlib

#: In the folder of a launch: how many of its e-mails are not tracked.
TRACKING_FILE = "tracking.json"


def launch_tag(name: str) -> str:
    """Return the tag of a launch, by its run name: a digest that only names a launch to a reader of its folder."""
    return hashlib.sha256(f"cohort-flywheel\0launch\0{name}".encode()).hexdigest()[:32]


def row_tag(number: int, attempt: int, index: int) -> str:
    """Return the tag of a mail: batch, attempt, and the index of the player in the intents of that attempt."""
    return f"{number}-{attempt}-{index}"
