"""Caches what boto3 and the amazon provider load per session, which takes most of a test's time."""

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
    """While the block runs, all sessions share the model loader and the caches of handlers and events."""
    named = functools.cache(partial(EventAliaser._alias_event_name, EventAliaser(None)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.loaders.create_loader))
        # called 128 times per session, inspecting the handler
        patch.setattr(botocore.hooks, "accepts_kwargs", functools.cache(botocore.hooks.accepts_kwargs))
        # 112 names per client, each compared with 65 old ones
        patch.setattr(EventAliaser, "_alias_event_name", lambda _, name: named(name))
        yield


def wait_briefly(patch: pytest.MonkeyPatch) -> None:
    """Cut the SDK's retry waits to a tenth; `wait_fully` is for services that count seconds."""
    patch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 10)))


def wait_fully(patch: pytest.MonkeyPatch) -> None:
    """Restore the SDK's waits for services that count seconds, where a tenth can be too short."""
    patch.setattr(botocore.endpoint, "time", time)


def skip_caller_lookup(patch: pytest.MonkeyPatch) -> None:
    """Skip the provider's inspection of the call stack per client, which only names the caller in the user agent."""
    patch.setattr("airflow.providers.amazon.aws.hooks.base_aws.AwsGenericHook._get_caller", lambda *_, **__: "Test")
