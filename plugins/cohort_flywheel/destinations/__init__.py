"""The registry of destinations: each folder here is one, under its own name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from cohort_flywheel.errors import Code, FlywheelError

if TYPE_CHECKING:
    from cohort_flywheel.destinations.base import Destination


def destination_names() -> list[str]:
    """Return the names of all destinations: those of the folders beside this file."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def check_destination(name: str) -> None:
    """Raise FlywheelError for a name without a folder."""
    names = destination_names()
    if name not in names:
        raise FlywheelError(
            f"unknown destination {name!r}: write one of {', '.join(names)} in the registry", code=Code.INCLUDE_FILE
        )


def get_destination(name: str) -> Destination:
    """Return the destination of this name: `DESTINATION` of `<name>/destination.py`.

    Raises FlywheelError for a name without a folder.
    """
    check_destination(name)
    found: Destination = importlib.import_module(f"{__name__}.{name}.destination").DESTINATION
    return found
