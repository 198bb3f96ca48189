"""What an error code of AWS means for the user, and whether a retry can help."""

from __future__ import annotations

import re
from typing import NamedTuple

from cohort_flywheel.errors import Code


class Advice(NamedTuple):
    """The cause of an error, and what to do."""

    code: Code
    sentence: str
    may_pass: bool = False  #: whether a retry can help


#: The operations of S3 that write an object [botocore: those whose request has `ServerSideEncryption`].
S3_WRITES = ("PutObject", "CopyObject", "CreateMultipartUpload")

#: Sources: S3 API, "Error responses"; IAM user guide, "Troubleshoot access denied error messages"; the "Common errors"
#: pages of DynamoDB, STS and SES.
_ADVICE = {
    ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"): Advice(
        Code.AWS_CREDENTIALS,
        "the temporary credentials have expired: renew those of the AWS connection, or leave them out of it, so that"
        " the execution role's are used"
    ),
    ("InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken", "UnrecognizedClientException",
     "MissingAuthenticationToken", "MissingAuthenticationTokenException"): Advice(
        Code.AWS_CREDENTIALS,
        "AWS does not know these credentials: correct the access key and the session token of the AWS connection, or"
        " leave them out of it, so that the execution role's are used"
    ),
    ("SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "IncompleteSignatureException"):
    Advice(
        Code.AWS_CREDENTIALS,
        "the signature is not that of the access key: correct the secret access key of the AWS connection; if it is"
        " right, something on the way changes the request"
    ),
    ("RequestTimeTooSkewed", "RequestExpired"): Advice(
        Code.AWS_WORKER,
        "the clock of the worker and that of AWS differ by more than AWS accepts: correct the worker's", may_pass=True
    ),
    ("OptInRequired", "SubscriptionRequiredException", "NotSignedUp", "AccountProblem", "AllAccessDisabled",
     "InvalidPayer"): Advice(
        Code.AWS_ACCOUNT, "the AWS account may not use this: look at the account's status, or ask AWS Support"
    ),
    ("InvalidObjectState",): Advice(
        Code.AWS_NOT_THERE,
        "the object is archived and cannot be read: restore it (aws s3api restore-object), wait for its end, and clear"
        " the task"
    ),
    ("PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException", "301"): Advice(
        Code.AWS_REGION,
        "the bucket is in another region than the one that was asked: set region_name of the AWS connection to the"
        " bucket's region, or use a bucket of the connection's"
    ),
    ("NoSuchBucket",): Advice(
        Code.AWS_NOT_THERE, "the bucket does not exist: correct the Variable that names it, or create the bucket"
    ),
    ("NoSuchKey", "NoSuchVersion"): Advice(
        Code.AWS_NOT_THERE,
        "the object does not exist: put it there, or clear the task that makes it, with downstream"
    ),
    ("NotFoundException", "ResourceNotFoundException", "NotFound", "404"): Advice(
        Code.AWS_NOT_THERE,
        "what is named there does not exist; correct the setting or create it"
    ),
    ("BadRequestException", "ValidationException", "ValidationError", "InvalidArgument", "InvalidRequest",
     "InvalidBucketName", "InvalidParameterException", "InvalidParameterValue", "EntityTooLarge", "MalformedXML",
     "400"): Advice(Code.AWS_REQUEST, "it refuses the request as it stands"),
    ("ServiceQuotaExceededException", "LimitExceededException"): Advice(
        Code.AWS_ACCOUNT,
        "a quota of the account is reached: look at it in Service Quotas", may_pass=True
    ),
}  # fmt: skip
_BY_CODE = {code: advice for codes, advice in _ADVICE.items() for code in codes}

#: S3's errors of a KMS key, without `KMS.`, `KMS` and `Exception` [KMS API: the errors of GenerateDataKey, Decrypt].
_KMS = {
    "Disabled": Advice(Code.AWS_KMS, "the KMS key is disabled: enable it (aws kms enable-key), or name another key"),
    "NotFound": Advice(
        Code.AWS_KMS,
        "the KMS key does not exist: correct cohort_flywheel_s3_kms_key_id, or the default encryption of the bucket; a"
        " key of another account or region is named by its ARN",
    ),
    "InvalidState": Advice(
        Code.AWS_KMS,
        "the state of the KMS key does not allow its use: look at it (aws kms describe-key), as a key that is to be"
        " deleted is of no use",
    ),
    "InvalidKeyUsage": Advice(Code.AWS_KMS, "the KMS key is not one to encrypt with: name a symmetric encryption key"),
    "InvalidGrantToken": Advice(Code.AWS_KMS, "the grant of the KMS key is not valid: look at the key's grants"),
}
_DENIED = ("AccessDenied", "AccessDeniedException", "ForbiddenException", "403")


def advise(code: str, call: str, message: str = "") -> Advice:
    """Return the advice for an error code, an operation and a message; of the message only actions are repeated."""
    if code == "AuthorizationHeaderMalformed":
        return _BY_CODE["PermanentRedirect" if "the region" in message else "InvalidAccessKeyId"]
    if code.startswith("KMS") or code == "DisabledException":
        kind = code.removeprefix("KMS.").removeprefix("KMS").removesuffix("Exception")
        if kind == "AccessDenied":
            return _denied(call, message if "kms:" in message else "kms:GenerateDataKey or kms:Decrypt")
        return _KMS.get(kind, Advice(Code.AWS_LATER, "the KMS key cannot be used now: try again later", may_pass=True))
    if code in _DENIED:
        return _denied(call, message)
    return _BY_CODE.get(code, Advice(Code.AWS_LATER, "try again later", may_pass=True))


def _denied(call: str, message: str) -> Advice:
    if action := re.search(r"kms:[A-Za-z]+( or kms:[A-Za-z]+)?", message):
        return Advice(
            Code.AWS_KMS,
            f"grant the execution role {action[0]} on the KMS key of the bucket or table, in the role's policy and in"
            " the key's",
        )
    grant = f"grant the execution role the right to call {call} there"
    if policy := re.search(r"explicit deny in an? ((?:[a-z]+[ -]){0,3}(?:policy|boundary))", message):
        grant = f"a {policy[1]} denies it explicitly: change that policy"
    if call in S3_WRITES:
        grant += "; where the bucket's policy demands an encryption header, set cohort_flywheel_s3_encryption"
    return Advice(Code.AWS_DENIED, grant)
