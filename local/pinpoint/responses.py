"""Pinpoint's operations as HTTP, as an extension of moto's own responses."""

import base64
import binascii
import json
import socket
import time
from typing import Any, cast

from moto.core.common_types import TYPE_RESPONSE
from moto.pinpoint.responses import PinpointResponse

from . import shapes
from .control import control
from .errors import BadRequestError, NotFoundError, PinpointError
from .models import FlywheelPinpointBackend
from .naming import derived_id

# [shape GetImportJobsRequest.PageSize] "The maximum number of items to include in each page"; what it is by default and
# at most is not documented. [strict] Small by default, so that a caller who does not follow NextToken fails.
DEFAULT_PAGE = 10
MAX_PAGE = 100


class FlywheelPinpointResponse(PinpointResponse):
    """moto calls the method that is named like the operation."""

    @property
    def backend(self) -> FlywheelPinpointBackend:
        return cast(FlywheelPinpointBackend, self.pinpoint_backend)  # set by models.install()

    def call_action(self) -> TYPE_RESPONSE:
        operation = self._get_action()
        with control.lock:
            try:
                control.on_call(operation)
            except PinpointError as refusal:
                return refusal.code, dict(refusal.get_headers()), refusal.description
            answer = super().call_action()
            lost = operation == "CreateImportJob" and answer[0] == 201 and control.take("lose_next_answers")
        return self._lose() if lost else answer

    def _lose(self) -> TYPE_RESPONSE:
        """Lose the response of a call that took effect."""
        error = PinpointError("InternalServerErrorException", 500, "Simulated loss of the response.")
        if control.settings.lose_by == "drop":
            connection: socket.socket = self.normalized_request.environ["werkzeug.socket"]
            connection.shutdown(socket.SHUT_RDWR)
        return error.code, dict(error.get_headers()), error.description

    # --- applications: moto's, with what the model requires of the answers

    def get_apps(self) -> str:
        return self._page([app.to_json() for app in self.backend.get_apps()])

    # --- import jobs

    def create_import_job(self) -> TYPE_RESPONSE:
        job = self.backend.create_import_job(self._uri("application-id"), self._request("CreateImportJob"))
        return 201, {"status": 201}, json.dumps(job.to_json(time.time()))

    def get_import_job(self) -> str:
        job = self.backend.get_import_job(self._uri("application-id"), self._uri("job-id"))
        return json.dumps(job.to_json(time.time()))

    def get_import_jobs(self) -> str:
        jobs = self.backend.get_import_jobs(self._uri("application-id"))
        return self._page([job.to_json(time.time()) for job in jobs])

    def get_segment_import_jobs(self) -> str:
        jobs = self.backend.get_segment_import_jobs(self._uri("application-id"), self._uri("segment-id"))
        return self._page([job.to_json(time.time()) for job in jobs])

    # --- segments

    def get_segment(self) -> str:
        return json.dumps(self.backend.get_segment(self._uri("application-id"), self._uri("segment-id")).to_json())

    def get_segments(self) -> str:
        segments = self.backend.state(self._uri("application-id")).segments.values()
        return self._page([segment.to_json() for segment in segments])

    def get_segment_versions(self) -> str:
        return self._page(
            self.backend.get_segment(self._uri("application-id"), self._uri("segment-id")).versions, "Version"
        )

    def get_segment_version(self) -> str:
        versions = self.backend.get_segment(self._uri("application-id"), self._uri("segment-id")).versions
        found = [version for version in versions if str(version["Version"]) == self._uri("version")]
        if not found:
            raise NotFoundError()
        return json.dumps(found[0])

    def delete_segment(self) -> str:
        return json.dumps(self.backend.delete_segment(self._uri("application-id"), self._uri("segment-id")).to_json())

    # --- endpoints

    def get_endpoint(self) -> str:
        endpoint = self.backend.state(self._uri("application-id")).book.get(self._uri("endpoint-id"))
        if endpoint is None:
            raise NotFoundError()
        return json.dumps(endpoint)

    def get_user_endpoints(self) -> str:
        endpoints = self.backend.state(self._uri("application-id")).book.of_user(self._uri("user-id"))
        if not endpoints:
            raise NotFoundError()
        return json.dumps({"Item": endpoints})

    def update_endpoint(self) -> TYPE_RESPONSE:
        application_id, endpoint_id = self._uri("application-id"), self._uri("endpoint-id")
        self.backend.update_endpoint(application_id, endpoint_id, self._request("UpdateEndpoint"))
        request_id = derived_id(application_id, endpoint_id, control.calls["UpdateEndpoint"])
        return 202, {"status": 202}, json.dumps({"Message": "Accepted", "RequestID": request_id})

    def delete_endpoint(self) -> TYPE_RESPONSE:
        endpoint = self.backend.state(self._uri("application-id")).book.delete(self._uri("endpoint-id"))
        if endpoint is None:
            raise NotFoundError()
        return 202, {"status": 202}, json.dumps(endpoint)

    # --- reading a request

    def _uri(self, name: str) -> str:
        return str(self.uri_match[name])

    def _request(self, operation: str) -> dict[str, Any]:
        """The body, validated against the operation's shape; a missing application is reported first."""
        self.backend.get_app(self._uri("application-id"))
        try:
            body = json.loads(self.body)
        except ValueError:
            raise BadRequestError("The body is not JSON.") from None
        if wrong := shapes.problems(body, shapes.payload(operation, "input")):
            raise BadRequestError(" ".join(wrong))
        return dict(body)

    def _page(self, items: list[dict[str, Any]], key: str = "Id") -> str:
        """The page that PageSize and Token ask for; the token names the last item of the page before by this member."""
        size = self._page_size()
        start = 0
        if token := self._query("token"):
            ids = [str(item[key]) for item in items]
            last = _decoded(token)
            if last not in ids:
                raise BadRequestError("Token was not issued by this operation.")
            start = ids.index(last) + 1
        page = items[start : start + size]
        more = {"NextToken": _encoded(str(page[-1][key]))} if start + size < len(items) else {}
        return json.dumps({"Item": page} | more)

    def _page_size(self) -> int:
        text = self._query("page-size")
        if text is None:
            return DEFAULT_PAGE
        if not text.isdecimal() or int(text) < 1:
            raise BadRequestError("PageSize must be a whole number from 1.")
        return min(int(text), MAX_PAGE)

    def _query(self, name: str) -> str | None:
        return self.normalized_request.args.get(name)


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def _decoded(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError):
        return ""
