"""The types of settings: the forms that Airflow Variables and the graph's connection may have.

Each check raises a ValueError that says what to write. Sources: S3 user guide, "General purpose bucket naming rules";
DynamoDB, "Supported data types and naming rules"; IAM, RoleName; AWS::SES::ContactList; botocore's models of
`customer-profiles`, `connectcampaignsv2` and `qconnect`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ValidationError


def text(pattern: str, advice: str) -> BeforeValidator:
    """A text that the pattern matches completely."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"write {advice}")
        return value

    return BeforeValidator(check)


def whole_number(first: int, last: int, unit: str) -> BeforeValidator:
    """A whole number of a range; also as text, because Variables and connection URIs have only text."""

    def check(value: object) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value) else value
        if type(number) is not int or not first <= number <= last:
            raise ValueError(f"write {unit} as a whole number from {first:,} to {last:,}")
        return number

    return BeforeValidator(check)


def seconds(last: int) -> BeforeValidator:
    """A number of seconds above 0; also as text, as above."""

    def check(value: object) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_text = isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value)
        number = float(str(value)) if is_number or is_text else math.nan
        if not 0 < number <= last:  # false of NaN
            raise ValueError(f"write seconds above 0 and up to {last:,}")
        return number

    return BeforeValidator(check)


def _switch(value: object) -> bool:
    """A boolean; also as text, because a connection URI has only text."""
    found = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
    if found is None:
        raise ValueError("write true or false")
    return found


def one_of(*choices: str) -> BeforeValidator:
    """One of the choices."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"write {' or '.join(choices)}")
        return value

    return BeforeValidator(check)


_UUID = "[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}"
_LABEL = "(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_NAME = rf"(?=.{{1,253}}(?:[:/]|$)){_LABEL}(?:\.{_LABEL})*"
_IPV6 = r"[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*"
_HOST = rf"{_NAME}|\[{_IPV6}\]"
_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"

BucketName = Annotated[
    str,
    text(
        r"(?!xn--|sthree-|amzn-s3-demo-)(?!.*(?:-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$)(?!.*\.\.)"
        r"(?![0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        "the name of the bucket alone, without s3://, a path or an ARN: 3 to 63 lower-case letters, digits, hyphens"
        " and dots",
    ),
]
TableName = Annotated[
    str,
    text(
        r"[A-Za-z0-9_.-]{3,255}",
        "the name of the table alone, not its ARN: 3 to 255 letters, digits, and _ . -; the table is in the account and"
        " region of the AWS connection",
    ),
]
PinpointApplicationId = Annotated[
    str, text(r"[0-9a-f]{32}", "the id of the Pinpoint project alone, not its name or ARN: 32 digits from 0 to f")
]
RoleArn = Annotated[
    str,
    text(
        r"arn:aws[a-z-]*:iam::[0-9]{12}:role/(?:[!-.0-9;-~]+/)*[A-Za-z0-9_+=,.@-]{1,64}",
        "arn:aws:iam::<account>:role/<name>, the account with its 12 digits",
    ),
]
SesName = Annotated[
    str, text(r"[A-Za-z0-9_-]{1,64}", "its name alone, not an ARN: 1 to 64 letters, digits, hyphens and underscores")
]
DomainName = Annotated[
    str,
    text(
        r"[A-Za-z0-9_-]{1,64}",
        "the name of the Customer Profiles domain alone, not its ARN: 1 to 64 letters, digits, hyphens and underscores",
    ),
]
Uuid = Annotated[
    str,
    text(
        _UUID,
        "the id alone, without an ARN, in lower case, as in 12345678-90ab-cdef-1234-567890abcdef; it is looked up in"
        " the region of the AWS connection",
    ),
]
WebAddress = Annotated[
    str,
    text(
        rf"(?!.*,https?:)https://(?:{_HOST})(?::{_PORT})?(?:[/?#][^\s{{}}<>\"'`\\|^\x00-\x20\x7f-\U0010ffff]*)?",
        "the https address of the page on which a player unsubscribes, as in https://studio.example/unsubscribe",
    ),
]
#: Of each write to S3 [S3: PutObject, x-amz-server-side-encryption].
S3Encryption = Annotated[str, one_of("AES256", "aws:kms", "aws:kms:dsse")]
#: An id, an alias, or the ARN of either [KMS: DescribeKey, KeyId].
KmsKey = Annotated[
    str,
    text(
        rf"(?:arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{{12}}:key/)?(?:mrk-[0-9a-f]{{32}}|{_UUID})"
        r"|(?:arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:)?alias/[A-Za-z0-9/_-]+",
        "the id of the KMS key, its alias (alias/…), or the ARN of either; the ARN where the key is of another account",
    ),
]
RegionName = Annotated[str, text(r"[a-z]{2,}(?:-[a-z]+)+-[0-9]{1,2}", "the code of a region, as in eu-west-1")]
HostName = Annotated[str, text(_NAME, "a host name alone, without a scheme, a port or a path")]
HostAndPort = Annotated[
    str,
    text(
        rf"(?:{_HOST})(?::{_PORT})?",
        "the cluster's endpoint, with its port if that is not 443, as in <cluster endpoint>:8182, without a scheme or"
        " a path",
    ),
]
Switch = Annotated[bool, BeforeValidator(_switch)]


def problems(error: ValidationError, model: type[BaseModel], name: Callable[[str], str]) -> list[str]:
    """Return one error text per invalid field, without the missing ones.

    `name` returns the user's name of a field. A value is quoted unless it may hold a password.
    """
    found = []
    for each in error.errors(include_url=False):
        field = str(each["loc"][0])
        if each["type"] == "extra_forbidden":
            known = did_you_mean(field, list(model.model_fields))
            found.append(f"{name(field)} is not known{known}: correct it or leave it out")
        elif each["type"] != "missing":
            found.append(f"{name(field)} {_quoted(each['input'])}: {each['ctx']['error']}")
    return found


def missing(error: ValidationError) -> list[str]:
    """The missing fields."""
    return [str(each["loc"][0]) for each in error.errors(include_url=False) if each["type"] == "missing"]


def _quoted(given: object) -> str:
    value = repr(given)
    return "is not as it must be" if "@" in value else f"is {value if len(value) <= 80 else value[:80] + '…'}"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return the closest known word in brackets, or an empty text."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
