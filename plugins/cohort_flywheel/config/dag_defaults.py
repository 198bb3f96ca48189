"""The default arguments that all DAGs share."""

from __future__ import annotations

from datetime import timedelta

DEFAULT_ARGS: dict[str, int | bool | timedelta] = {
    "retries": 2,
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": True,
    "execution_timeout": timedelta(hours=6),
}
