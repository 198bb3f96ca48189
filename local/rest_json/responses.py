"""One request of a service: routed by moto, validated against its shape, counted, answered or lost."""

import base64
import binascii
import json
import re
import socket
from typing import Any, ClassVar

from moto.core.common_types import TYPE_RESPONSE
from moto.core.responses import BaseResponse

from . import shapes
from .control import Control
from .errors import ServiceError

# The default page size is not documented. [strict] Small, so that a caller who does not follow NextToken fails.
DEFAULT_PAGE = 10


class RestJsonResponse(BaseResponse):
    """moto calls the method that is named like the operation; it takes `self.request` and returns an answer's members.

    A method raises ServiceError for a resource that does not exist.
    """

    model: ClassVar[str]  # as botocore calls the service
    invalid: ClassVar[tuple[str, int]]  # the error for a request that departs from its shape
    control: ClassVar[Control[Any]]
    use_raw_body = True  # moto reads a body as a query string otherwise

    def __init__(self) -> None:
        super().__init__(service_name=self.model)

    def _get_action(self) -> str:
        return self._get_action_from_method_and_request_uri(self.normalized_request)

    def call_action(self) -> TYPE_RESPONSE:
        name = self._get_action()
        if not name:
            return _error(ServiceError("UnknownOperationException", 404, "The operation does not exist."))
        operation = shapes.operation(self.model, name)
        with self.control.lock:
            try:
                self.control.on_call(name)
                self.request = self._read(operation)
                answer = super().call_action()
                lost = answer[0] < 400 and self.control.loses(name, operation.http["method"] == "GET")
            except ServiceError as refusal:
                return _error(refusal)
        return self._lose() if lost else answer

    def answer(self, **members: Any) -> str:
        """Return the members of the response as JSON, without None; timestamps are epoch seconds."""
        expected = shapes.operation(self.model, self._get_action()).output_shape
        present = {name: value for name, value in members.items() if value is not None}
        return json.dumps(shapes.to_json(present, expected) if expected else {})

    def refuse(self, message: str) -> ServiceError:
        return ServiceError(*self.invalid, message)

    def page(self, items: list[dict[str, Any]], key: str, size: Any, token: Any) -> tuple[list[dict[str, Any]], Any]:
        """The requested page and the next one's token, which names the page's last item by its `key`."""
        start = 0
        if token:
            ids = [str(item[key]) for item in items]
            last = _decoded(token)
            if last not in ids:
                raise self.refuse("The token was not issued by this operation.")
            start = ids.index(last) + 1
        page = items[start : start + int(size or DEFAULT_PAGE)]
        more = start + len(page) < len(items)
        return page, base64.urlsafe_b64encode(str(page[-1][key]).encode()).decode() if more else None

    def _read(self, operation: Any) -> dict[str, Any]:
        """The request's members, from the address, the query string and the body."""
        request: dict[str, Any] = {}
        expected = operation.input_shape
        if self.body:
            try:
                request = json.loads(self.body)
            except ValueError:
                raise self.refuse("The body is not JSON.") from None
            if not isinstance(request, dict):
                raise self.refuse("The body is not an object.")
        for name, member in expected.members.items():
            place, wire = member.serialization.get("location"), member.serialization.get("name", name)
            if place == "uri":
                request[name] = self.uri_match[wire]
            elif place == "querystring" and wire in self.normalized_request.args:
                text = self.normalized_request.args[wire]
                is_number = member.type_name == "integer" and re.fullmatch(r"-?[0-9]+", text)
                request[name] = int(text) if is_number else text
        if wrong := shapes.problems(request, expected):
            raise self.refuse(" ".join(wrong))
        return request

    def _lose(self) -> TYPE_RESPONSE:
        """Lose the response of a call that took effect."""
        if self.control.settings.lose_by == "drop":
            drop(self.normalized_request.environ)
        return _error(ServiceError("InternalServerException", 500, "Simulated loss of the response."))


def drop(environ: dict[str, Any]) -> None:
    """Close the connection of a request instead of answering."""
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)


def _error(error: ServiceError) -> TYPE_RESPONSE:
    headers = {"x-amzn-errortype": error.name, "Content-Type": "application/json", "status": str(error.status)}
    return error.status, headers, json.dumps({"message": str(error)} | error.members)


def _decoded(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError):
        return ""
