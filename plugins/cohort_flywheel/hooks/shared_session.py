"""Hooks of AWS that make their clients of one session."""

from __future__ import annotations

import gzip
import json
import os
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from airflow.providers import amazon
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.loaders import JSONFileLoader, Loader

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
            session = super().get_session(region_name)
            below = session._session  # boto3 has no other access to it
            paths = dict.fromkeys(below.get_component("data_loader").search_paths)
            below.register_component("data_loader", _loader(tuple(paths)))
            sessions[made_of] = session
        return sessions[made_of]

    def _get_caller(self, target_function_name: str = "execute") -> str:
        """Return the name of the hook, for the user agent: the provider searches the call stack, in 100 ms of CPU."""
        return type(self).__name__

    @classmethod
    def _get_provider_version(cls) -> str:
        """Return the version for the user agent: the provider reads the metadata of all providers for it."""
        return amazon.__version__


class _Files(JSONFileLoader):
    """Read botocore's models with orjson: that of S3 has 1.4 MB."""

    def load_file(self, file_path: str) -> Any:
        """Return the content of a file, of which the path has no ending; None if it does not exist."""
        for ending, opened in ((".json", open), (".json.gz", gzip.open)):
            with (
                suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError),
                opened(file_path + ending, "rb") as file,
            ):
                return orjson.loads(file.read())
        return None


class _Loader(Loader):
    def list_available_services(self, type_name: str) -> list[str]:
        """Return the names in the folders of models: botocore looks into some 430 of them for this type."""
        found: set[str] = set()
        for folder in self.search_paths:
            with suppress(OSError):  # it is not there, or may not be read
                found |= {each.name for each in Path(folder).iterdir()}
        return sorted(found)

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        """Return a model; raise UnknownServiceError for a service without one of this type, as botocore does."""
        try:
            return super().load_service_model(service_name, type_name, api_version)
        except UnknownServiceError:
            raise
        except DataNotFoundError as error:
            raise UnknownServiceError(service_name=service_name, known_service_names=type_name) from error


@cache
def _loader(search_paths: tuple[str, ...]) -> Loader:
    """The models of a process, which do not change."""
    return _Loader(list(search_paths), _Files(), include_default_search_paths=False)
