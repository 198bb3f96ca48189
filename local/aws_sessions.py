"""What boto3 and the amazon provider load and inspect for each session, most of the time of a short task."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

import botocore.hooks
import botocore.loaders
import botocore.session
from botocore.hooks import EventAliaser


def shared() -> list[tuple[Any, str, Any]]:
    """Return replacements, as (object, name, value), by which all sessions share what they load."""
    named = functools.cache(partial(EventAliaser._alias_event_name, EventAliaser(None)))
    return [
        (botocore.session, "create_loader", functools.cache(botocore.loaders.create_loader)),
        # called 128 times per session, inspecting the handler
        (botocore.hooks, "accepts_kwargs", functools.cache(botocore.hooks.accepts_kwargs)),
        # 112 names per client, each compared with 65 old ones
        (EventAliaser, "_alias_event_name", lambda _, name: named(name)),
    ]
