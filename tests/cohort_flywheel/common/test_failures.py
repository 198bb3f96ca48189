"""The last line of a failed task."""

from __future__ import annotations

import logging

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, AirflowTaskTimeout
from botocore.exceptions import ClientError, EndpointConnectionError

from cohort_flywheel.common.failures import outside
from cohort_flywheel.errors import FlywheelError


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "wayne96@example.com"}}, "PutObject")


def test_says_what_was_done_and_whether_clearing_is_safe() -> None:
    with pytest.raises(AirflowFailException) as raised, outside("Clearing is safe.") as done:
        done.append("a file was put")
        raise FlywheelError("the name is wrong: correct it")
    assert str(raised.value) == "the name is wrong: correct it. Outside: a file was put. Clearing is safe."


def test_says_when_nothing_was_done() -> None:
    with pytest.raises(AirflowFailException, match="Outside: nothing was changed"), outside("Clearing is safe."):
        raise FlywheelError("no")


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket", "ForbiddenException", "ResourceNotFoundException"])
def test_no_retry_where_it_cannot_help(code: str) -> None:
    with pytest.raises(AirflowFailException, match=f"PutObject with {code}"), outside(""):
        raise client_error(code)


@pytest.mark.parametrize("error", [client_error("SlowDown"), EndpointConnectionError(endpoint_url="http://x")])
def test_retry_where_it_can_help(error: Exception) -> None:
    with pytest.raises(AirflowException) as raised, outside(""):
        raise error
    assert not isinstance(raised.value, AirflowFailException)


def test_nothing_of_an_unexpected_error_s_text_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(AirflowException) as raised, outside(""):
        dict[str, int]()["wayne96"]
    assert "KeyError" in str(raised.value)
    assert "test_outside.py" in caplog.text  # where it happened is told
    assert "wayne96" not in str(raised.value)
    assert raised.value.__suppress_context__
    assert "KeyError: " not in caplog.text


def test_the_message_of_aws_is_not_told() -> None:
    with pytest.raises(AirflowException) as raised, outside(""):
        raise client_error("SlowDown")
    assert "wayne96" not in str(raised.value)


def test_a_skip_stays_a_skip() -> None:
    with pytest.raises(AirflowSkipException), outside(""):
        raise AirflowSkipException


def test_a_task_that_takes_too_long_has_its_last_line_too() -> None:
    line = "execution_timeout.*Outside: a file was put. Clearing is safe."
    with pytest.raises(AirflowTaskTimeout, match=line), outside("Clearing is safe.") as done:
        done.append("a file was put")
        raise AirflowTaskTimeout
