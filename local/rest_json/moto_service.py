"""Registers a service that moto does not have."""

import re
import sys
from types import ModuleType
from typing import Any

from moto import backend_index
from moto.core.base_backend import BackendDict


def register_service(name: str, host: str, backends: BackendDict[Any]) -> None:
    """Have moto serve `backends` to requests that are signed for the service `host`.

    moto finds a service by its host and imports the module of its name. Idempotent.
    """
    if not any(known == name for known, _ in backend_index.backend_url_patterns):
        pattern = re.compile(rf"https?://{re.escape(host)}\.(.+)\.amazonaws\.com")
        backend_index.backend_url_patterns.append((name, pattern))
    module = ModuleType(f"moto.{name}")
    setattr(module, f"{name}_backends", backends)
    sys.modules[f"moto.{name}"] = module
