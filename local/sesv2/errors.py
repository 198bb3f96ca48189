"""The modelled errors of SES's operations; moto turns them into responses."""

from moto.core.exceptions import JsonRESTError


class SesError(JsonRESTError):
    """An error by its modelled name and status [shape *Exception: error.httpStatusCode]."""

    def __init__(self, name: str, status: int, message: str):
        super().__init__(name, message)
        self.code = status


class BadRequestError(SesError):
    def __init__(self, message: str):
        super().__init__("BadRequestException", 400, message)


class NotFoundError(SesError):
    def __init__(self, message: str):
        super().__init__("NotFoundException", 404, message)


class AlreadyExistsError(SesError):
    def __init__(self, message: str):
        super().__init__("AlreadyExistsException", 400, message)


class LimitExceededError(SesError):
    def __init__(self, message: str):
        super().__init__("LimitExceededException", 400, message)


class TooManyRequestsError(SesError):
    def __init__(self, message: str):
        super().__init__("TooManyRequestsException", 429, message)


class MessageRejectedError(SesError):
    def __init__(self, message: str):
        super().__init__("MessageRejected", 400, message)
