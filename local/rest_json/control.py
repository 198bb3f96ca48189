"""Settings of a service that a test may change, the service's counters, and the HTTP API of both."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from threading import RLock
from typing import Any, ClassVar, TypeVar

from .errors import ServiceError

_REFUSAL_KEYS = {"code", "status", "message", "operations", "times"}

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass
class Settings:
    """The faults of every service; a service adds its own, all numbers except its `choices`."""

    choices: ClassVar[dict[str, tuple[str, ...]]] = {"lose_by": ("drop", "error")}

    lose_next_answers: int = 0
    lose_operations: list[str] | None = None  # without a list: any operation that is not a GET
    lose_by: str = "drop"
    refuse: dict[str, Any] | None = None
    clock_ahead_seconds: float = 0.0


S = TypeVar("S", bound=Settings)


class Control[S: Settings]:
    """One instance per service of the server. `lock` guards it and the service's state."""

    def __init__(self, make_settings: Callable[[], S]) -> None:
        self.make_settings = make_settings
        self.lock = RLock()
        self.reset()

    def reset(self) -> None:
        with self.lock:
            self.settings = self.make_settings()
            self.calls: Counter[str] = Counter()

    def change(self, changes: dict[str, Any]) -> list[str]:
        """Apply the changes if all are valid; otherwise return one error text per invalid change."""
        with self.lock:
            wrong = [sentence for name, value in changes.items() for sentence in self._wrong(name, value)]
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
            raise ServiceError(refusal["code"], refusal["status"], message)

    def now(self) -> float:
        """The service's time in epoch seconds: the machine's plus the offset that a test set."""
        return time.time() + self.settings.clock_ahead_seconds

    def take(self, counter: str) -> bool:
        """Use up one of a number of faults."""
        with self.lock:
            left = getattr(self.settings, counter)
            if left:
                setattr(self.settings, counter, left - 1)
            return bool(left)

    def loses(self, operation: str, reads: bool) -> bool:
        """Whether to lose the response of this successful call."""
        wanted = self.settings.lose_operations
        return (not reads if wanted is None else operation in wanted) and self.take("lose_next_answers")

    def _wrong(self, name: str, value: Any) -> list[str]:
        known = {f.name: f for f in fields(self.settings)}
        if name not in known:
            return [f"Unknown setting: {name}."]
        if name == "refuse":
            return _wrong_refusal(value)
        if name == "lose_operations":
            of_names = value is None or (isinstance(value, list) and all(isinstance(item, str) for item in value))
            return [] if of_names else ["lose_operations must be null or a list of operations."]
        if name in self.settings.choices:
            choices = self.settings.choices[name]
            return [] if value in choices else [f"{name} must be one of {', '.join(choices)}."]
        kinds = int | float if known[name].type is float else int
        number = isinstance(value, kinds) and not isinstance(value, bool)
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


def with_control_plane(
    inner: Wsgi, path: str, control: Control[Any], state: Callable[[], dict[str, Any]], forget: Callable[[], None]
) -> Wsgi:
    """The inner application, and at `path` a service's control plane: GET returns its state, POST changes its settings.

    `{"reset": true}` resets the settings and calls `forget`, which removes the state of tests.
    """

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != path:
            return inner(environ, start_response)
        wrong: list[str] = []
        with control.lock:
            if environ["REQUEST_METHOD"] == "POST":
                body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                wrong = _change(control, forget, body)
            content = json.dumps({"errors": wrong} if wrong else _snapshot(control) | state()).encode()
        status = "400 Bad Request" if wrong else "200 OK"
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
        return [content]

    return serve


def _snapshot(control: Control[Any]) -> dict[str, Any]:
    return {"settings": vars(control.settings), "calls": control.calls}


def _change(control: Control[Any], forget: Callable[[], None], body: bytes) -> list[str]:
    try:
        changes = json.loads(body)
    except ValueError:
        return ["The body is not JSON."]
    if not isinstance(changes, dict):
        return ["The body must be an object of settings."]
    if changes.pop("reset", False):
        control.reset()
        forget()
    return control.change(changes)
