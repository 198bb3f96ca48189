"""The account-level suppression list [SES docs: account-level suppression list; shape SuppressedDestination]."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from .contacts import is_address
from .errors import BadRequestError, NotFoundError

Item = dict[str, Any]


class SuppressedDestinations:
    """The addresses that SES does not mail, with their reasons; a label of a mailbox is another address."""

    def __init__(self) -> None:
        self._found: dict[str, Item] = {}

    def put(self, address: str, reason: str) -> None:
        if not is_address(address):
            raise BadRequestError("The address is not valid.")
        at = round(time.time(), 3)
        self._found[_key(address)] = {"EmailAddress": address, "Reason": reason, "LastUpdateTime": at}

    def get(self, address: str) -> Item:
        if _key(address) not in self._found:
            raise NotFoundError("The address is not on the suppression list.")
        return self._found[_key(address)]

    def delete(self, address: str) -> None:
        self.get(address)
        del self._found[_key(address)]

    def reason(self, address: str) -> str:
        """Empty for an address that is not on the list."""
        return str(self._found.get(_key(address), {}).get("Reason", ""))

    def listed(self, reasons: list[str], start: str | None, end: str | None) -> Iterator[Item]:
        """[shape ListSuppressedDestinationsRequest] StartDate: "added to the list after a specific date"."""
        since, until = (datetime.fromisoformat(each).timestamp() if each else None for each in (start, end))
        for each in self._found.values():
            at = each["LastUpdateTime"]
            in_time = (since is None or at > since) and (until is None or at < until)
            if in_time and (not reasons or each["Reason"] in reasons):
                yield each


def _key(address: str) -> str:
    # [strict] not documented: two spellings of an address are one entry
    return address.lower()
