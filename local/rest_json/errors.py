"""The error response of an operation."""

from typing import Any


class ServiceError(Exception):
    """An error by its modelled name and status [shape *Exception: error.httpStatusCode]; its text holds no value."""

    def __init__(self, name: str, status: int, message: str, **members: Any):
        super().__init__(message)
        self.name, self.status, self.members = name, status, members
