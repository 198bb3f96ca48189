"""What makes the tasks of tests quick: sessions of boto3 load once, nothing frozen is counted, and waits are short."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import botocore.endpoint
import pytest

from local.aws_sessions import shared


@contextmanager
def quick_tasks() -> Iterator[None]:
    """While the block runs, all sessions share the model loader and the caches of handlers and events.

    `seldom_collecting` asks whether objects are frozen: to count those of a test process takes 40 ms in each task.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "get_freeze_count", lambda: 1)
        for each in shared():
            patch.setattr(*each)
        yield


def wait_briefly(patch: pytest.MonkeyPatch) -> None:
    """Cut the SDK's retry waits to a tenth; `wait_fully` is for services that count seconds."""
    patch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 10)))


def wait_fully(patch: pytest.MonkeyPatch) -> None:
    """Restore the SDK's waits for services that count seconds, where a tenth can be too short."""
    patch.setattr(botocore.endpoint, "time", time)
