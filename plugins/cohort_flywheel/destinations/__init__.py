"""Where segments go: a module a destination, with its layout, settings, checks and tasks. The registry names one."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from cohort_flywheel.errors import FlywheelError


def check_destination(name: str) -> None:
    """Raise FlywheelError for a destination that is not there."""
    known = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
    if name not in known:
        raise FlywheelError(f"there is no destination {name!r}: write one of {', '.join(known)} in the registry")


def destination(name: str) -> ModuleType:
    """Return the module of a destination; raise FlywheelError for one that is not there."""
    check_destination(name)
    return importlib.import_module(f"{__name__}.{name}.destination")


def has_campaigns(name: str) -> bool:
    """Whether a destination mails its segments: with `mail_segment`, `check_campaign` and `CAMPAIGN_SETTINGS`."""
    return hasattr(destination(name), "mail_segment")
