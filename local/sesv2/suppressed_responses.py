"""The operations of the account-level suppression list."""

import json
from typing import Any

from .contacts import Item

# The default and the maximum are not documented. [strict] Small, as of other listings of the model.
DEFAULT_PAGE, MAX_PAGE = 10, 1000


class SuppressedResponses:
    """Part of FlywheelSesResponse."""

    normalized_request: Any

    @property
    def backend(self) -> Any:
        raise NotImplementedError

    def _uri(self, name: str) -> str:
        raise NotImplementedError

    def _request(self, operation: str) -> Item:
        raise NotImplementedError

    def _page(self, key: str, found: list[Item], default: int, most: int) -> str:
        raise NotImplementedError

    def put_suppressed_destination(self) -> str:
        request = self._request("PutSuppressedDestination")
        self.backend.suppressed.put(request["EmailAddress"], request["Reason"])
        return json.dumps({})

    def get_suppressed_destination(self) -> str:
        return json.dumps({"SuppressedDestination": self.backend.suppressed.get(self._uri("EmailAddress"))})

    def delete_suppressed_destination(self) -> str:
        self.backend.suppressed.delete(self._uri("EmailAddress"))
        return json.dumps({})

    def list_suppressed_destinations(self) -> str:
        asked = self.normalized_request.args
        start, end = asked.get("StartDate"), asked.get("EndDate")
        found = list(self.backend.suppressed.listed(asked.getlist("Reason"), start, end))
        return self._page("SuppressedDestinationSummaries", found, DEFAULT_PAGE, MAX_PAGE)
