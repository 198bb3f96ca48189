"""Caches what boto3 and the amazon provider load per session, which takes most of a test's time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import botocore.endpoint
import pytest

from local.aws_sessions import shared


@contextmanager
def read_once() -> Iterator[None]:
    """While the block runs, all sessions share the model loader and the caches of handlers and events."""
    with pytest.MonkeyPatch.context() as patch:
        for each in shared():
            patch.setattr(*each)
        yield


def wait_briefly(patch: pytest.MonkeyPatch) -> None:
    """Cut the SDK's retry waits to a tenth; `wait_fully` is for services that count seconds."""
    patch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 10)))


def wait_fully(patch: pytest.MonkeyPatch) -> None:
    """Restore the SDK's waits for services that count seconds, where a tenth can be too short."""
    patch.setattr(botocore.endpoint, "time", time)
