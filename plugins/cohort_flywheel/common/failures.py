"""Error messages of failed tasks: the cause, the changes made before the failure, and how to retry."""

from __future__ import annotations

import errno
import logging
import re
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, AirflowTaskTimeout
from boto3.exceptions import Boto3Error, RetriesExceededError, S3UploadFailedError
from botocore import exceptions as errors
from botocore.exceptions import BotoCoreError, ClientError

from cohort_flywheel.common.aws_answers import Advice, advise
from cohort_flywheel.errors import Code, CodedError, FlywheelError

log = logging.getLogger(__name__)

_TOO_LONG = (
    f"{Code.TIMEOUT}: the task took longer than its execution_timeout: look at its progress above, and clear it to try"
    " again"
)
_BEGINS_WITH_CODE = re.compile(r"CF-[A-Z]+-[0-9]{2}: ")


class RetryableError(CodedError, AirflowException):
    """An error that a retry may resolve: Airflow retries the task."""


@contextmanager
def describe_failure(retry_note: str) -> Iterator[list[str]]:
    """Add to the error of a failed task what it changed before it failed, and whether clearing it is safe.

    The message begins with the code of the error. The task appends each change to the list that this yields. Raises
    AirflowFailException, which is not retried, if a retry cannot help, else AirflowException.

    :param retry_note: a sentence that says what clearing the task does.
    """
    side_effects: list[str] = []
    try:
        yield side_effects
    except AirflowSkipException:
        raise
    except FlywheelError as error:
        raise AirflowFailException(_last_line(str(error), side_effects, retry_note)) from None
    except AirflowFailException as error:
        raise type(error)(_last_line(_with_code(error), side_effects, retry_note)) from None
    except (ClientError, BotoCoreError, Boto3Error) as error:
        advice = describe_aws_error(error)
        kind = AirflowException if advice.may_pass else AirflowFailException
        raise kind(_last_line(f"{advice.code}: {advice.sentence}", side_effects, retry_note)) from None
    except AirflowTaskTimeout:
        raise AirflowTaskTimeout(_last_line(_TOO_LONG, side_effects, retry_note)) from None
    except AirflowException as error:
        raise AirflowException(_last_line(_with_code(error), side_effects, retry_note)) from None
    except Exception as error:  # noqa: BLE001 - nothing is swallowed: it is raised again without its text
        if _is_interrupted_query(error):
            raise AirflowTaskTimeout(_last_line(_TOO_LONG, side_effects, retry_note)) from None
        if _is_of_full_worker(error):  # a retry may have another worker, or one whose other tasks have ended
            name = type(error).__name__
            what = (
                f"the worker has no disk or memory left ({name}): use a larger one, or let it run fewer tasks at a time"
            )
            raise AirflowException(_last_line(f"{Code.WORKER_FULL}: {what}", side_effects, retry_note)) from None
        # A bug here or in a library. Its text may hold a player's data, so only the traceback is logged.
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s at:\n%s", type(error).__name__, where)
        what = f"unexpected {type(error).__name__} (its text is withheld, it may hold a player's data)"
        raise AirflowException(_last_line(f"{Code.UNEXPECTED}: {what}", side_effects, retry_note)) from None


@contextmanager
def unconfirmed(side_effects: list[str], change: str, *, refused: str = "") -> Iterator[None]:
    """Note a change until the answer to its request is known: the request has no idempotency token.

    The caller replaces the note, `side_effects[-1]`, after the answer. An answer with an HTTP status below 500 refuses
    the request, so nothing was changed: the note becomes `refused`, or is removed.

    :param change: the note, as in `an import job may have been created`.
    """
    side_effects.append(change)
    try:
        yield
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] < HTTPStatus.INTERNAL_SERVER_ERROR:
            side_effects[-1:] = [refused] if refused else []
        raise


def _is_interrupted_query(error: Exception) -> bool:
    """Whether DuckDB stopped a query because a signal's handler raised an error, which it does not keep.

    In a task only the handler of Airflow's execution_timeout raises one.
    """
    return type(error) is RuntimeError and str(error) == "Query interrupted"


def _is_of_full_worker(error: Exception) -> bool:
    """Whether the disk or the memory of the worker is full; DuckDB has limits and errors of its own."""
    is_disk_full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    # an error of the module itself has no code
    is_database_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return is_disk_full or is_database_full or isinstance(error, MemoryError)


def _with_code(error: AirflowException) -> str:
    """The text of an error of Airflow's own class; one that a library raised has no code yet."""
    text = str(error)
    return text if _BEGINS_WITH_CODE.match(text) else f"{Code.AIRFLOW}: {text}"


def _last_line(what: str, side_effects: list[str], retry_note: str) -> str:
    return f"{what.rstrip('.')}. Changes made: {'; '.join(side_effects) or 'none'}. {retry_note}"


def describe_aws_error(error: BaseException) -> Advice:
    """Return the advice for an error of boto3, without its text, which may quote a player."""
    if isinstance(error, S3UploadFailedError | RetriesExceededError):
        cause = error.__context__ if isinstance(error, S3UploadFailedError) else error.last_exception
        if isinstance(cause, ClientError | BotoCoreError):
            return describe_aws_error(cause)
        return Advice(Code.AWS_NETWORK, "a transfer to or from S3 broke off: try again later", may_pass=True)
    if isinstance(error, ClientError):
        found, call = error.response["Error"], error.operation_name
        advice = advise(found["Code"], call, found.get("Message", ""))
        address = f" ({found['Address']})" if "Address" in found else ""
        return advice._replace(sentence=f"AWS answered {call} with {found['Code']}{address}: {advice.sentence}")
    for kinds, advice in _BEFORE_ANSWER:
        if isinstance(error, kinds):
            return advice._replace(sentence=advice.sentence.format(name=type(error).__name__, **_details(error)))
    what = f"AWS cannot be reached or asked ({type(error).__name__}): look at the connection and its network"
    return Advice(Code.AWS_NETWORK, what, may_pass=True)


def _details(error: BaseException) -> dict[str, str]:
    """The arguments of an error that may be logged: a host, a region, the names of parameters."""
    kwargs = getattr(error, "kwargs", {})
    report = str(kwargs.get("report", ""))
    bucket = re.search(r'Invalid bucket name "([^"]*)"', report)
    names = re.findall(r"parameter ([\w.]+)|Missing required parameter in [\w.]+: \"(\w+)\"", report)
    parameters = ", ".join("".join(each) for each in names)
    return {
        "host": urlsplit(str(kwargs.get("endpoint_url", ""))).hostname or "the endpoint",
        "region": str(kwargs.get("region_name", "")),
        "parameters": f"the bucket name {bucket[1]!r}" if bucket else parameters or "its form",
    }


#: What the SDK raises before AWS has answered [botocore.exceptions]: the first match.
_BEFORE_ANSWER: list[tuple[tuple[type[BaseException], ...], Advice]] = [
    (
        (errors.NoCredentialsError, errors.NoAuthTokenError),
        Advice(
            Code.AWS_CREDENTIALS,
            "no AWS credentials were found: give the worker an execution role, or the AWS connection an access key",
        ),
    ),
    (
        (errors.PartialCredentialsError,),
        Advice(
            Code.AWS_CREDENTIALS,
            "the AWS credentials are not complete: give both the access key and its secret, or neither",
        ),
    ),
    (
        (errors.SSOError, errors.TokenRetrievalError, errors.RefreshWithMFAUnsupportedError),
        Advice(
            Code.AWS_CREDENTIALS,
            "the AWS credentials cannot be renewed by a task ({name}): log in again where they come from",
        ),
    ),
    (
        (errors.ProfileNotFound, errors.ConfigNotFound, errors.ConfigParseError, errors.InvalidConfigError),
        Advice(
            Code.AWS_WORKER,
            "the AWS configuration of the worker cannot be used ({name}): correct it, or the connection's profile",
        ),
    ),
    (
        (errors.CredentialRetrievalError, errors.MetadataRetrievalError),
        Advice(Code.AWS_NETWORK, "the AWS credentials could not be fetched ({name}): try again later", may_pass=True),
    ),
    (
        (errors.NoRegionError,),
        Advice(Code.AWS_REGION, "no AWS region is set: write region_name into the extra of the AWS connection"),
    ),
    (
        (errors.InvalidRegionError, errors.UnknownRegionError, errors.ServiceNotInRegionError),
        Advice(Code.AWS_REGION, "the AWS region {region!r} cannot be used: correct region_name of the AWS connection"),
    ),
    (
        (
            errors.ParamValidationError,
            errors.ValidationError,
            errors.MissingParametersError,
            errors.InvalidDNSNameError,
        ),
        Advice(
            Code.AWS_REQUEST,
            "a request was refused before it was sent, for {parameters}: correct the setting or argument it is from",
        ),
    ),
    (
        (errors.EndpointConnectionError, errors.ConnectTimeoutError),
        Advice(
            Code.AWS_NETWORK,
            "{host} cannot be connected to ({name}): look at the region of the AWS connection, the name servers, routes"
            " and security groups of the workers",
            may_pass=True,
        ),
    ),
    (
        (errors.ReadTimeoutError,),
        Advice(Code.AWS_NETWORK, "{host} did not answer in time: try again later", may_pass=True),
    ),
    (
        (errors.ProxyConnectionError, errors.InvalidProxiesConfigError),
        Advice(
            Code.AWS_NETWORK,
            "the proxy of the worker cannot be used ({name}): look at it and its settings",
            may_pass=True,
        ),
    ),
    (
        (errors.SSLError,),
        Advice(
            Code.AWS_NETWORK, "the certificate of {host} is not trusted: look at what stands before it", may_pass=True
        ),
    ),
    (
        (errors.HTTPClientError, errors.IncompleteReadError, errors.ChecksumError, errors.FlexibleChecksumError),
        Advice(Code.AWS_NETWORK, "the connection to AWS broke off ({name}): try again later", may_pass=True),
    ),
    (
        (
            errors.UnknownServiceError,
            errors.DataNotFoundError,
            errors.UnknownEndpointError,
            errors.EndpointProviderError,
        ),
        Advice(
            Code.AWS_WORKER,
            "the installed boto3 cannot ask this ({name}): look at the region and at the versions of boto3",
        ),
    ),
]
