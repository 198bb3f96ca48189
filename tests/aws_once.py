"""What boto3 and the amazon provider do anew for each session, done once: it is most of what a test takes."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import botocore.endpoint
import botocore.hooks
import botocore.loaders
import botocore.session
import pytest
from botocore.hooks import EventAliaser


@contextmanager
def read_once() -> Iterator[None]:
    """While the block runs, all sessions share a reader of the models, and what is known of handlers and events."""
    named = functools.cache(partial(EventAliaser._alias_event_name, EventAliaser(None)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.loaders.create_loader))
        # asked 128 times for each session, by inspecting the handler
        patch.setattr(botocore.hooks, "accepts_kwargs", functools.cache(botocore.hooks.accepts_kwargs))
        # 112 names for each client, each held against 65 old ones
        patch.setattr(EventAliaser, "_alias_event_name", lambda _, name: named(name))
        yield


def wait_briefly(patch: pytest.MonkeyPatch) -> None:
    """The SDK tries again as often as ever, after a tenth of its waits; `wait_fully` is for a service that counts."""
    patch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 10)))


def wait_fully(patch: pytest.MonkeyPatch) -> None:
    """The SDK's own waits, for who meets a service that counts seconds: a tenth of them can be over too soon."""
    patch.setattr(botocore.endpoint, "time", time)


def no_look_for_the_caller(patch: pytest.MonkeyPatch) -> None:
    """The provider's hooks read the source of the whole stack for each client, for a word of the user agent."""
    patch.setattr("airflow.providers.amazon.aws.hooks.base_aws.AwsGenericHook._get_caller", lambda *_, **__: "Test")
