"""The control plane of the emulated Pinpoint, for tests: GET returns its state, POST changes its settings."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID

from .control import control
from .models import backends, snapshot

PATH = "/cohort-flywheel/pinpoint"


def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI: 200 and the state, or 400 and the errors of the change."""
    wrong: list[str] = []
    with control.lock:
        if environ["REQUEST_METHOD"] == "POST":
            wrong = _change(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        body = json.dumps({"errors": wrong}) if wrong else snapshot()
    status = "400 Bad Request" if wrong else "200 OK"
    content = body.encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
    return [content]


def _change(body: bytes) -> list[str]:
    # moto resets only existing backends, and ours resets the control: make sure that one exists.
    backends[DEFAULT_ACCOUNT_ID]["us-east-1"]
    try:
        changes = json.loads(body)
    except ValueError:
        return ["The body is not JSON."]
    if not isinstance(changes, dict):
        return ["The body must be an object of settings."]
    if changes.pop("reset", False):
        _reset()
    return control.change(changes)


def _reset() -> None:
    """Reset all but the seeded applications; /moto-api/reset removes those too."""
    control.reset()
    for regions in backends.values():
        for backend in regions.values():
            backend.forget_imports()
