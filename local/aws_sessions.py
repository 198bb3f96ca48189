"""What boto3 and the amazon provider load and inspect for each session, most of the time of a short task."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import botocore.hooks
import botocore.loaders
import botocore.regions
import botocore.session
from botocore.client import ClientCreator
from botocore.endpoint_provider import EndpointProvider
from botocore.errorfactory import ClientExceptionsFactory
from botocore.hooks import EventAliaser


def shared() -> list[tuple[Any, str, Any]]:
    """Return replacements, as (object, name, value), by which all sessions share what they load."""
    named = functools.cache(partial(EventAliaser._alias_event_name, EventAliaser(None)))
    methods = _once(ClientCreator._create_methods, _service)
    return [
        (botocore.session, "create_loader", functools.cache(botocore.loaders.create_loader)),
        # called 128 times per session, inspecting the handler
        (botocore.hooks, "accepts_kwargs", _accepts_kwargs),
        # 112 names per client, each compared with 65 old ones
        (EventAliaser, "_alias_event_name", lambda _, name: named(name)),
        # the shapes of a service are resolved once
        (ClientCreator, "_load_service_model", _once(ClientCreator._load_service_model, _service)),
        (ClientCreator, "_load_service_endpoints_ruleset",
         _once(ClientCreator._load_service_endpoints_ruleset, _service)),
        (ClientCreator, "_create_methods", lambda *arguments: dict(methods(*arguments))),  # handlers add to them
        (ClientExceptionsFactory, "create_client_exceptions",
         _once(ClientExceptionsFactory.create_client_exceptions, _service)),
        (botocore.regions, "EndpointProvider", _once(EndpointProvider, _ruleset)),
    ]  # fmt: skip


def _accepts_kwargs(handler: Callable[..., Any]) -> bool:
    """Return it from the code: a cache by the handler would keep each client."""
    code = getattr(handler, "__code__", None)
    return bool(code.co_flags & inspect.CO_VARKEYWORDS if code else inspect.getfullargspec(handler).varkw)


def _once(function: Callable[..., Any], key: Callable[..., object]) -> Callable[..., Any]:
    """The function, with its first result for each key."""
    results: dict[object, Any] = {}

    def cached(*arguments: Any, **options: Any) -> Any:
        found = key(*arguments, **options)
        if found not in results:
            results[found] = function(*arguments, **options)
        return results[found]

    return cached


def _service(_self: object, service: Any, *_arguments: object, **_options: object) -> str:
    """The name of a service, of an argument that is that or its model; the package asks for no version of an API."""
    return service if isinstance(service, str) else str(service.service_name)


def _ruleset(*, ruleset_data: dict[str, Any], **_options: object) -> int:
    """The id of a service's rules, which the loader keeps."""
    return id(ruleset_data)
