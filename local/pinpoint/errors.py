"""The modelled errors of Pinpoint's operations; moto turns them into responses."""

from moto.core.exceptions import JsonRESTError


class PinpointError(JsonRESTError):
    """An error by its modelled name and status [shape *Exception: error.httpStatusCode]."""

    def __init__(self, name: str, status: int, message: str):
        super().__init__(name, message)
        self.code = status


class BadRequestError(PinpointError):
    def __init__(self, message: str):
        super().__init__("BadRequestException", 400, message)


class NotFoundError(PinpointError):
    def __init__(self, message: str = "Resource not found"):
        super().__init__("NotFoundException", 404, message)


class TooManyRequestsError(PinpointError):
    def __init__(self, message: str):
        super().__init__("TooManyRequestsException", 429, message)
