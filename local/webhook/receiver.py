"""The receiver's state and its rules (Rn: the rule of that number in docs/reference/webhook.md)."""

import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from typing import Any

from local.rest_json.errors import ServiceError

from .control import control

TOKEN = "local-webhook-token"
_SEGMENT = re.compile(r"segments/([A-Za-z0-9_.-]+)(/batches)?")
_KEYS = {
    "member": {"type", "playerId", "email", "attributes"},
    "leaver": {"type", "playerId"},
    "erase": {"type", "playerId"},
}


@dataclass
class Segment:
    """A segment: its members, and the batches of its last import."""

    upload: int = 0
    import_id: str = ""
    of: int = 0
    batches: set[int] = field(default_factory=set)
    rejected: int = 0
    members: set[str] = field(default_factory=set)


@dataclass
class Receiver:
    """Every method must be called under control.lock."""

    segments: dict[str, Segment] = field(default_factory=dict)
    players: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: of each idempotency key the digest of the body, and the answer
    answered: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    #: how often a batch was applied, and how often it was only answered again
    applied: int = 0
    repeated: int = 0

    def answer(self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Any:
        """Answer a request as JSON; raises ServiceError."""
        self._authorize(headers)
        if (method, path) == ("GET", "status"):
            return {"ready": True}
        if (method, path) == ("POST", "erasures"):
            return self._erase(query, headers, body)
        found = _SEGMENT.fullmatch(path)
        if found and (method, found[2]) == ("GET", None):
            return self._status(found[1])
        if found and (method, found[2]) == ("POST", "/batches"):
            return self._batch(found[1], query, headers, body)
        raise ServiceError("NotFound", 404, "The path does not exist.")

    def state(self) -> dict[str, Any]:
        segments = {
            name: {"import": each.import_id, "upload": each.upload, "members": sorted(each.members)}
            for name, each in self.segments.items()
        }
        return {"segments": segments, "players": self.players, "applied": self.applied, "repeated": self.repeated}

    def _authorize(self, headers: dict[str, str]) -> None:  # R1
        if not hmac.compare_digest(headers.get("authorization", ""), f"Bearer {TOKEN}"):
            raise ServiceError("Unauthorized", 401, "The token is not the receiver's.")

    def _lines(self, headers: dict[str, str], body: bytes) -> list[bytes]:
        if headers.get("content-type") != "application/x-ndjson":  # R3
            raise ServiceError("UnsupportedMediaType", 415, "The body must be application/x-ndjson.")
        if len(body) > control.settings.max_bytes:  # R4
            raise ServiceError("PayloadTooLarge", 413, "The batch is too large.")
        if not body.endswith(b"\n"):  # R3: a body that was cut ends within a line
            raise ServiceError("BadRequest", 400, "The last line does not end with a line feed.")
        return body[:-1].split(b"\n")

    def _batch(self, name: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> dict[str, Any]:
        lines = self._lines(headers, body)
        try:
            import_id, upload = query["import"], int(query["upload"])
            number, of = int(query["batch"]), int(query["batches"])
        except (KeyError, ValueError):
            raise ServiceError("BadRequest", 400, "import, upload, batch and batches are required.") from None
        key, digest = headers.get("idempotency-key"), hashlib.sha256(body).hexdigest()
        if key != f"{import_id}-{number}" or not 0 <= number < of:  # R5
            raise ServiceError("BadRequest", 400, "The idempotency key is not the import's and the batch's.")
        if f"{name} {key}" in self.answered:
            before, answer = self.answered[f"{name} {key}"]
            if before != digest:
                raise ServiceError("UnprocessableContent", 422, "The key was used with another body.")
            self.repeated += 1
            return answer
        segment = self.segments.setdefault(name, Segment())
        if upload < segment.upload:  # R6
            raise ServiceError("Conflict", 409, "There is a newer import of the segment.")
        if import_id != segment.import_id:
            segment.import_id, segment.upload, segment.of = import_id, upload, of
            segment.batches, segment.rejected = set(), 0
        rejected = sum(not self._apply(segment, line) for line in lines)
        segment.batches.add(number)
        segment.rejected += rejected
        self.applied += 1
        answer = {"received": len(lines), "rejected": rejected}
        self.answered[f"{name} {key}"] = digest, answer
        return answer

    def _apply(self, segment: Segment, line: bytes) -> bool:
        """Apply one message; whether it is one."""
        message = _message(line)
        if message is None or message["type"] == "erase" or control.take("reject_next"):  # R7
            return False
        player = message["playerId"]
        if message["type"] == "leaver":
            segment.members.discard(player)
        else:
            segment.members.add(player)
            self.players[player] = {"email": message["email"], "attributes": message["attributes"]}
        return True

    def _status(self, name: str) -> dict[str, Any]:
        if name not in self.segments:
            raise ServiceError("NotFound", 404, "The segment does not exist.")
        found = self.segments[name]
        return {
            "import": found.import_id, "upload": found.upload, "batches": len(found.batches),
            "members": len(found.members), "rejected": found.rejected,
        }  # fmt: skip

    def _erase(self, query: dict[str, str], headers: dict[str, str], body: bytes) -> dict[str, Any]:
        if query.get("dry_run") not in ("true", "false"):  # R8
            raise ServiceError("BadRequest", 400, "dry_run must be true or false.")
        messages = [_message(line) for line in self._lines(headers, body)]
        if any(message is None or message["type"] != "erase" for message in messages):
            raise ServiceError("BadRequest", 400, "Every message must be an erase message.")
        found = {message["playerId"] for message in messages if message and message["playerId"] in self.players}
        if query["dry_run"] == "false":
            for player in found:
                del self.players[player]
            for segment in self.segments.values():
                segment.members -= found
        return {"found": len(found)}


def _message(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    if not isinstance(message, dict) or set(message) != _KEYS.get(str(message.get("type"))):
        return None
    texts = [message["playerId"], *([message["email"]] if message["type"] == "member" else [])]
    return message if all(isinstance(text, str) and text for text in texts) else None
