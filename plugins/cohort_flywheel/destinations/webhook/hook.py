"""The receiver's API over the HTTP provider's hook. Its errors have a status and a host, never a text or a secret."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk.exceptions import AirflowNotFoundException
from pydantic import BaseModel, Field, NonNegativeInt, ValidationError
from requests import PreparedRequest, Request, Response, Session
from requests.exceptions import ConnectionError as RequestConnectionError
from requests.exceptions import ConnectTimeout, InvalidHeader, InvalidURL, ProxyError, RequestException, SSLError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.destinations.webhook.layout import Batch
from cohort_flywheel.errors import Code, FlywheelError

DEFAULT_CONN_NAME = "webhook_default"
#: Seconds to connect, and between two bytes of an answer.
TIMEOUT = (10, 60)
#: Requests of one batch in one attempt of a task, and the longest wait before one of them, in seconds.
ATTEMPTS, LONGEST_WAIT = 5, 120
NDJSON = "application/x-ndjson"

_wait = wait_random_exponential(multiplier=0.5, max=20)


class PayloadTooLargeError(Exception):
    """The receiver answered 413: the same messages in smaller batches may pass."""


class _TryAgainError(Exception):
    """The same request may succeed later; `seconds` is the receiver's Retry-After."""

    def __init__(self, sentence: str, seconds: float | None = None) -> None:
        super().__init__(sentence)
        self.seconds = seconds


class BatchAnswer(BaseModel):
    """The receiver's counts of one batch."""

    received: NonNegativeInt
    rejected: NonNegativeInt


class SegmentStatus(BaseModel):
    """The receiver's own counts of a segment."""

    import_id: str = Field(alias="import")
    upload: NonNegativeInt
    batches: NonNegativeInt
    members: NonNegativeInt
    rejected: NonNegativeInt


class ErasureAnswer(BaseModel):
    """The number of players of an erasure that the receiver had data of."""

    found: NonNegativeInt


class WebhookHook(HttpHook):
    """Send messages to the receiver and read its counts.

    A redirect is not followed, because it would carry players and credentials to another host. A request is repeated
    after 429, a 5xx or a lost answer, with the same idempotency key.

    :param http_conn_id: the Airflow connection: host, with its path; login and password, or an Authorization header in
        the extra.
    """

    def __init__(self, http_conn_id: str = DEFAULT_CONN_NAME) -> None:
        super().__init__(http_conn_id=http_conn_id)
        self._session: Session | None = None

    def check(self) -> None:
        """Raise FlywheelError unless the receiver answers and accepts the credentials."""
        self._call("GET", "status")

    def send_batch(self, segment: str, import_id: str, upload: int, of: int, batch: Batch) -> BatchAnswer:
        """Send one batch of an import; raise PayloadTooLargeError for a 413."""
        answer = self._call(
            "POST",
            f"segments/{segment}/batches",
            params={"import": import_id, "upload": upload, "batch": batch.number, "batches": of},
            data=batch.body,
            headers={"Idempotency-Key": f"{import_id}-{batch.number}"},
        )
        return self._read(BatchAnswer, answer)

    def segment(self, segment: str) -> SegmentStatus | None:
        """Return the receiver's counts of a segment, or None if it has no such segment."""
        answer = self._call("GET", f"segments/{segment}", missing=True)
        return None if answer.status_code == 404 else self._read(SegmentStatus, answer)

    def erase(self, body: bytes, *, dry_run: bool) -> int:
        """Erase players, or only count them; return how many of them the receiver has data of.

        An erasure has no idempotency key: it is the same if it is repeated.
        """
        try:
            answer = self._call("POST", "erasures", params={"dry_run": str(dry_run).lower()}, data=body)
        except PayloadTooLargeError as error:
            raise FlywheelError(
                f"{error}: split erasure/players.txt, or raise the limit of the receiver", code=Code.WEBHOOK_TOO_LARGE
            ) from None
        return self._read(ErasureAnswer, answer).found

    # --- one call

    def _call(self, method: str, path: str, *, missing: bool = False, **request: Any) -> Response:
        session = self._connected()
        if "data" in request:
            request["headers"] = {"Content-Type": NDJSON} | request.get("headers", {})
        try:
            prepared = session.prepare_request(Request(method, f"{self.base_url.rstrip('/')}/{path}", **request))
        except (RequestException, ValueError) as error:
            raise self._unusable(error) from None
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(_TryAgainError),
                wait=_seconds,
                stop=stop_after_attempt(ATTEMPTS),
                reraise=True,
            ):
                with attempt:
                    return self._once(session, prepared, missing)
        except _TryAgainError as error:
            raise RetryableError(f"{error}: a later attempt sends the same again", code=Code.WEBHOOK_LATER) from None
        raise AssertionError("tenacity returns or raises")

    def _connected(self) -> Session:
        if self._session is None:
            try:
                self._session = self.get_conn()
            except AirflowNotFoundException:
                raise FlywheelError(
                    f"Airflow connection {self.http_conn_id} does not exist: create it, of type http, with the"
                    " receiver's address and credentials",
                    code=Code.CONNECTION,
                ) from None
            except (ValueError, TypeError) as error:
                raise self._unusable(error) from None
            self._check_encrypted(self._session)
        return self._session

    def _check_encrypted(self, session: Session) -> None:
        """Raise FlywheelError where players could be read on the way; on the machine itself they cannot."""
        try:
            address = urlsplit(self.base_url)
            host = address.hostname or ""
        except ValueError as error:
            raise self._unusable(error) from None
        if not host or address.username or address.query or address.fragment:
            raise FlywheelError(
                f"the host of Airflow connection {self.http_conn_id} is not an address: write the host and its path,"
                " and the credentials into login and password, or into the extra",
                code=Code.CONNECTION,
            )
        if not _is_loopback(host) and (address.scheme != "https" or not session.verify):
            raise FlywheelError(
                f"Airflow connection {self.http_conn_id} would send players without verified TLS: set its schema to"
                " https, and do not switch off verify in its extra",
                code=Code.CONNECTION,
            )

    def _once(self, session: Session, prepared: PreparedRequest, missing: bool) -> Response:
        settings = session.merge_environment_settings(
            prepared.url or "", proxies=session.proxies, stream=False, verify=session.verify, cert=session.cert
        )
        try:
            answer = session.send(prepared, timeout=TIMEOUT, allow_redirects=False, **settings)
        except SSLError:
            raise FlywheelError(
                f"the certificate of {self._host} is not trusted, or TLS fails: correct the host of Airflow connection"
                f" {self.http_conn_id}, or what terminates TLS there",
                code=Code.WEBHOOK_ADDRESS,
            ) from None
        except OSError as error:  # RequestException is one
            raise _TryAgainError(self._no_answer(error)) from None
        if (answer.ok and answer.status_code < 300) or (missing and answer.status_code == 404):
            return answer
        raise self._failure(answer)

    @property
    def _host(self) -> str:
        return urlsplit(self.base_url).hostname or "the receiver"

    def _unusable(self, error: Exception) -> FlywheelError:
        return FlywheelError(
            f"Airflow connection {self.http_conn_id} cannot be used ({type(error).__name__}): correct its host, schema,"
            " port, and the headers in its extra",
            code=Code.CONNECTION,
        )

    def _no_answer(self, error: OSError) -> str:
        name = type(error).__name__
        if isinstance(error, ProxyError):
            return f"the proxy of the worker cannot be used ({name})"
        if isinstance(error, ConnectTimeout):
            return f"{self._host} cannot be connected to ({name}): look at the workers' routes and security groups"
        if isinstance(error, InvalidURL | InvalidHeader):
            raise self._unusable(error) from None
        kind = "the answer was lost" if isinstance(error, RequestConnectionError) else "there was no answer in time"
        return f"{self._host}: {kind} ({name})"

    def _failure(self, answer: Response) -> Exception:
        status, answered = answer.status_code, f"{self._host} answered {answer.status_code}"
        conn = f"Airflow connection {self.http_conn_id}"
        if status == 413:
            return PayloadTooLargeError(f"{answered}: the batch is too large")
        if status in (408, 425, 429) or status >= 500:
            why = "it limits the rate of requests" if status == 429 else "it cannot serve the request now"
            return _TryAgainError(f"{answered}: {why}", _retry_after(answer))
        if 300 <= status < 400:
            target = urlsplit(answer.headers.get("Location", "")).hostname or self._host
            return FlywheelError(
                f"{answered}, a redirect to {target}, which is not followed, because players would go to another"
                f" address: if {target} is the receiver, write its address into the host of {conn}",
                code=Code.WEBHOOK_ADDRESS,
            )
        code = Code.WEBHOOK_REFUSED
        match status:
            case 401 | 407:
                code = Code.WEBHOOK_CREDENTIALS
                advice = f"correct the login and password, or the Authorization header in the extra, of {conn}"
            case 403:
                code = Code.WEBHOOK_CREDENTIALS
                advice = f"the credentials of {conn} are accepted and lack the right: grant it at the receiver"
            case 404 | 405 | 410:
                code = Code.WEBHOOK_ADDRESS
                advice = f"it has no such path: correct the host, with its path, of {conn}"
            case 409:
                code = Code.WEBHOOK_REJECTED
                advice = "it has a newer import of this segment: clear create_import_job with downstream"
            case 422:
                advice = "it had other messages under the same idempotency key: ask who runs the receiver"
            case _:
                advice = "it refuses the request as it stands: compare it with docs/reference/webhook.md"
        return FlywheelError(f"{answered}: {advice}", code=code)

    def _read[M: BaseModel](self, model: type[M], answer: Response) -> M:
        try:
            return model.model_validate_json(answer.content)
        except ValidationError:
            raise FlywheelError(
                f"{self._host} answered {answer.status_code} without the counts of docs/reference/webhook.md:"
                f" correct the host, with its path, of Airflow connection {self.http_conn_id}, or the receiver",
                code=Code.WEBHOOK_ADDRESS,
            ) from None


def _seconds(state: RetryCallState) -> float:
    """The wait before the next request: what the receiver asks for, at most LONGEST_WAIT."""
    error = state.outcome.exception() if state.outcome else None
    requested = error.seconds if isinstance(error, _TryAgainError) else None
    return min(LONGEST_WAIT, _wait(state) if requested is None else requested)


def _retry_after(answer: Response) -> float | None:
    """The seconds of Retry-After; None for a date [RFC 9110, 10.2.3], which is not read."""
    text = answer.headers.get("Retry-After", "").strip()
    return float(text) if text.isascii() and text.isdigit() else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
