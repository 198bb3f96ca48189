"""Settings of the service that a test may change while it runs, and the service's counters."""

from collections import Counter
from dataclasses import dataclass, field, fields
from threading import RLock
from typing import Any

from local.pinpoint.control import control as server_control

from .errors import SesError

_CHOICES = {
    "failed_job_contacts": ("partial", "none"),
    "processed_counts": ("all", "succeeded"),
    "address_case": ("fold", "keep"),
    "unsubscribed_answer": ("bounce", "reject"),
    "lose_by": ("drop", "error"),
}
_FLAGS = ("production_access", "sending_enabled")
_SECONDS = ("import_seconds", "template_seconds", "seconds_between_calls", "max_send_rate", "mailed_at")
_REFUSAL_KEYS = {"code", "status", "message", "operations", "times", "after"}


@dataclass
class Settings:
    import_seconds: float | None = None  # null: as long as this server's other imports
    max_contacts: int = 1_000_000  # [SES docs: list management] "up to 1 million contacts [...] per ImportJob"
    max_active_jobs: int = 20  # [SES docs: quotas] concurrent import jobs
    failed_job_contacts: str = "partial"
    processed_counts: str = "all"
    address_case: str = "fold"
    unsubscribed_answer: str = "bounce"
    # An account starts in the sandbox [shape GetAccountResponse.ProductionAccessEnabled]; the local one is out of it.
    production_access: bool = True
    sending_enabled: bool = True
    max_24_hour_send: int = 50_000  # outside the sandbox the two "vary based on your specific use case"
    max_send_rate: float = 14
    # [shape CreateEmailTemplate, UpdateEmailTemplate, ListEmailTemplates, DeleteEmailTemplate] "no more than once per
    # second", each.
    template_seconds: float = 1.0
    # [SES docs: quotas] "All actions (except for SendEmail, SendRawEmail, and SendTemplatedEmail) are throttled at one
    # request per second": names of API v1. Whether this includes v2 is not documented, so it is off by default.
    seconds_between_calls: float = 0.0
    reader_seed: int = 0  # decides what the readers of mails do
    mailed_at: float | None = None  # seconds since 1970, the time of mails and of their events; None for now
    fail_next_jobs: int = 0
    lose_next_answers: int = 0
    lose_after: int = 0
    lose_operations: list[str] = field(default_factory=lambda: ["CreateImportJob", "SendEmail"])
    lose_by: str = "drop"
    refuse: dict[str, Any] | None = None


@dataclass
class Control:
    """One instance for the whole server. `lock` guards it and the service's state."""

    settings: Settings = field(default_factory=Settings)
    calls: Counter[str] = field(default_factory=Counter)
    last_calls: dict[str, float] = field(default_factory=dict)  # by operation, and by "" for any but the sends
    lock: Any = field(default_factory=RLock)

    def reset(self) -> None:
        with self.lock:
            self.settings = Settings()
            self.calls = Counter()
            self.last_calls = {}

    @property
    def import_seconds(self) -> float:
        chosen = self.settings.import_seconds
        return server_control.default_import_seconds if chosen is None else chosen

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
            if refusal.get("after", 0) > 0:
                refusal["after"] -= 1
                return
            if "times" in refusal:
                refusal["times"] -= 1
                if refusal["times"] <= 0:
                    self.settings.refuse = None
            message = refusal.get("message", "Refused by the control plane.")
            raise SesError(refusal["code"], refusal["status"], message)

    def loses(self, operation: str) -> bool:
        """Whether to lose the response of this call, which took effect."""
        with self.lock:
            settings = self.settings
            if operation not in settings.lose_operations or not settings.lose_next_answers:
                return False
            if settings.lose_after:
                settings.lose_after -= 1
                return False
            settings.lose_next_answers -= 1
            return True

    def takes_a_failure(self) -> bool:
        with self.lock:
            doomed = self.settings.fail_next_jobs > 0
            self.settings.fail_next_jobs -= doomed
            return doomed


def _wrong(name: str, value: Any) -> list[str]:
    if name not in {f.name for f in fields(Settings)}:
        return [f"Unknown setting: {name}."]
    if name == "refuse":
        return _wrong_refusal(value)
    if name in _CHOICES:
        return [] if value in _CHOICES[name] else [f"{name} must be one of {', '.join(_CHOICES[name])}."]
    if name in _FLAGS:
        return [] if isinstance(value, bool) else [f"{name} must be true or false."]
    if name == "lose_operations":
        return [] if _words(value) else [f"{name} must be a list of operations."]
    if name in ("import_seconds", "mailed_at") and value is None:
        return []
    number = isinstance(value, int | float if name in _SECONDS else int) and not isinstance(value, bool)
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
        and _words(value.get("operations", []))
        and isinstance(value.get("message", ""), str)
        and all(isinstance(value.get(name, 1), int) for name in ("times", "after"))
        and value.get("times", 1) > 0
        and value.get("after", 0) >= 0
    )
    return (
        []
        if well_formed
        else ["refuse must be null, or an object with code, status (400-599), message, operations, times, after."]
    )


def _words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


control = Control()
