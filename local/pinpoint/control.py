"""Settings of the service that a test may change while it runs, and the service's counters."""

from collections import Counter
from dataclasses import dataclass, field, fields
from threading import RLock
from typing import Any

from .errors import PinpointError

_CHOICES = {
    "segment_update": ("replace", "add"),
    "failed_job_segment": ("partial", "none"),
    "lose_by": ("drop", "error"),
}
_REFUSAL_KEYS = {"code", "status", "message", "operations", "times"}


@dataclass
class Settings:
    segment_update: str = "replace"
    failed_job_segment: str = "partial"
    import_seconds: float = 4.0
    max_active_jobs: int = 2
    max_bytes: int = 1_000_000_000
    fail_next_jobs: int = 0
    lose_next_answers: int = 0
    lose_by: str = "drop"
    refuse: dict[str, Any] | None = None


@dataclass
class Control:
    """One instance for the whole server. `lock` guards it and the service's state."""

    default_import_seconds: float = 4.0
    settings: Settings = field(default_factory=Settings)
    calls: Counter[str] = field(default_factory=Counter)
    lock: Any = field(default_factory=RLock)

    def reset(self) -> None:
        with self.lock:
            self.settings = Settings(import_seconds=self.default_import_seconds)
            self.calls = Counter()

    def change(self, changes: dict[str, Any]) -> list[str]:
        """Apply the changes if all are valid; otherwise return one error text per invalid change."""
        with self.lock:
            wrong = [sentence for name, value in changes.items() for sentence in _wrong(name, value)]
            if not wrong:
                for name, value in changes.items():
                    setattr(self.settings, name, value)
            return wrong

    def on_call(self, operation: str) -> None:
        """Count a call, and raise the refusal that a test set for it, if any."""
        with self.lock:
            self.calls[operation] += 1
            refusal = self.settings.refuse
            if refusal is None or operation not in refusal.get("operations", [operation]):
                return
            if "times" in refusal:
                refusal["times"] -= 1
                if refusal["times"] <= 0:
                    self.settings.refuse = None
            message = refusal.get("message", "Refused by the control plane.")
            raise PinpointError(refusal["code"], refusal["status"], message)

    def take(self, counter: str) -> bool:
        """Use up one of a number of faults."""
        with self.lock:
            left = getattr(self.settings, counter)
            if left:
                setattr(self.settings, counter, left - 1)
            return bool(left)


def _wrong(name: str, value: Any) -> list[str]:
    if name not in {f.name for f in fields(Settings)}:
        return [f"Unknown setting: {name}."]
    if name == "refuse":
        return _wrong_refusal(value)
    if name in _CHOICES:
        return [] if value in _CHOICES[name] else [f"{name} must be one of {', '.join(_CHOICES[name])}."]
    number = isinstance(value, int | float if name == "import_seconds" else int) and not isinstance(value, bool)
    return [] if number and value >= 0 else [f"{name} must be a number from 0."]


def _wrong_refusal(value: Any) -> list[str]:
    if value is None:
        return []
    well_formed = (
        isinstance(value, dict)
        and set(value) <= _REFUSAL_KEYS
        and isinstance(value.get("code"), str)
        and isinstance(value.get("status"), int)
        and 400 <= value["status"] <= 599
        and isinstance(value.get("operations", []), list)
        and isinstance(value.get("message", ""), str)
        and isinstance(value.get("times", 1), int)
        and value.get("times", 1) > 0
    )
    return (
        []
        if well_formed
        else ["refuse must be null, or an object with code, status (400-599), message, operations, times."]
    )


control = Control()
