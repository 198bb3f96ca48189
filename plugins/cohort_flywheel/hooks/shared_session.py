"""Hooks of AWS that make their clients of one session."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

#: The sessions by connection, region and environment. A session is not thread-safe, so each thread has its own.
_of_thread = threading.local()


class SharedSessionHook(AwsBaseHook):
    """A hook that shares one session with the other hooks of its connection.

    botocore reads its models and its rules of endpoints once for each session, which takes some 70 ms of CPU.
    """

    def get_session(self, region_name: str | None = None, deferrable: bool = False) -> Any:
        """Return the session of the connection, region and environment; an asynchronous one is always new."""
        if deferrable:
            return super().get_session(region_name, deferrable)
        conn = self.conn_config
        made_of = (  # as they are now: a long-lived process is older than a change of them
            *(conn.conn_id, conn.login, conn.password, json.dumps(conn.extra_config, sort_keys=True)),
            region_name or conn.region_name,
            frozenset(each for each in os.environ.items() if each[0].startswith("AWS_")),
        )
        sessions: dict[Any, Any] = _of_thread.__dict__
        if made_of not in sessions:
            sessions[made_of] = super().get_session(region_name)
        return sessions[made_of]

    def _get_caller(self, target_function_name: str = "execute") -> str:
        """Return the name of the hook, for the user agent: the provider searches the call stack, in 100 ms of CPU."""
        return type(self).__name__
