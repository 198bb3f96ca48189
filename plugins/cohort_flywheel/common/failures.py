"""What a task reached outside, said in the last line of its failure."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, AirflowTaskTimeout
from botocore.exceptions import BotoCoreError, ClientError

from cohort_flywheel.errors import FlywheelError

log = logging.getLogger(__name__)

#: Answers of AWS that the same call gets again [botocore: error codes of the services that this package calls].
_NO_USE_TO_RETRY = (
    "AccessDenied", "AccessDeniedException", "BadRequestException", "ForbiddenException", "NoSuchBucket",
    "NotFoundException", "ResourceNotFoundException", "ValidationException", "403", "404",
)  # fmt: skip


@contextmanager
def outside(clearing: str) -> Iterator[list[str]]:
    """Tell, when a task fails, what it had done outside and whether clearing it is safe.

    The task appends to the list what it did. `clearing` says what clearing the task does. Raises
    AirflowFailException (no retry) where trying again cannot help, else AirflowException.
    """
    done: list[str] = []
    try:
        yield done
    except AirflowSkipException:
        raise
    except FlywheelError as error:
        raise AirflowFailException(_last_line(str(error), done, clearing)) from None
    except AirflowFailException as error:
        raise type(error)(_last_line(str(error), done, clearing)) from None
    except ClientError as error:
        code, call = error.response["Error"]["Code"], error.operation_name
        kind = AirflowFailException if code in _NO_USE_TO_RETRY else AirflowException
        raise kind(_last_line(f"AWS answered {call} with {code}: {_advice(code, call)}", done, clearing)) from None
    except BotoCoreError as error:
        what = f"AWS cannot be reached or asked ({type(error).__name__}): look at the connection and its network"
        raise AirflowException(_last_line(what, done, clearing)) from None
    except AirflowTaskTimeout:
        what = "the task took longer than its execution_timeout: look at its progress above, and clear it to try again"
        raise AirflowTaskTimeout(_last_line(what, done, clearing)) from None
    except AirflowException as error:
        raise AirflowException(_last_line(str(error), done, clearing)) from None
    except Exception as error:  # noqa: BLE001 - nothing is swallowed: it is raised again without its text
        # A fault of ours or of a library. Its text may quote a player's data: the place is told, the text is not.
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s at:\n%s", type(error).__name__, where)
        what = f"unexpected {type(error).__name__} (its text is withheld, it may hold a player's data)"
        raise AirflowException(_last_line(what, done, clearing)) from None


def _last_line(what: str, done: list[str], clearing: str) -> str:
    return f"{what.rstrip('.')}. Outside: {'; '.join(done) or 'nothing was changed'}. {clearing}"


def _advice(code: str, call: str) -> str:
    match code:
        case "AccessDenied" | "AccessDeniedException" | "ForbiddenException" | "403":
            return f"grant the execution role the right to call {call} there"
        case "NoSuchBucket" | "NotFoundException" | "ResourceNotFoundException" | "404":
            return "what is named there does not exist; correct the setting or create it"
        case "BadRequestException" | "ValidationException":
            return "it refuses the request as it stands"
        case _:
            return "try again later"
