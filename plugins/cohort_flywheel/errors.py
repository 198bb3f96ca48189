"""The error that a user can fix, and the code of each cause and remedy."""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class Code(StrEnum):
    """What the message of a failed task begins with. docs/reference/runbook.md has one row for each code."""

    # The registry, and the files beside it
    INCLUDE_MISSING = "CF-REG-01"  #: the folder include/ or its cohorts.yaml is not there
    INCLUDE_FILE = "CF-REG-02"  #: a line of cohorts.yaml is wrong, or the file is not UTF-8

    # The params and the dates of a run
    AS_OF = "CF-PLAN-01"  #: the as-of is in the future, or not an instant of the schedule
    RUN_DATES = "CF-PLAN-02"  #: the dates of the run mean another as-of, or the as-of of a scheduled run
    PARAM = "CF-PLAN-03"  #: a param is unknown, or its value cannot be used
    PARAMS_CONTRADICT = "CF-PLAN-04"  #: two params, or a param and the kind of run, contradict each other
    NO_SNAPSHOT = "CF-PLAN-05"  #: no snapshot of the as-of can be used

    # Airflow Variables and connections, and what they name
    VARIABLE = "CF-SET-01"  #: a Variable is not set, or has a wrong value
    CONNECTION = "CF-SET-02"  #: an Airflow connection is missing, or has a wrong field
    NOT_THERE = "CF-SET-03"  #: what a Variable names does not exist, or has another form
    REFUSED = "CF-SET-04"  #: what a Variable or param names is refused
    SES_ACCOUNT = "CF-SET-05"  #: the SES account is in the sandbox, or paused

    # The graph database
    GRAPH_UNREACHABLE = "CF-GRAPH-01"  #: the graph cannot be reached
    GRAPH_BUSY = "CF-GRAPH-02"  #: the graph does not answer in time
    GRAPH_ACCESS = "CF-GRAPH-03"  #: the graph refuses the signature, or a connection that does not sign
    GRAPH_SERVER = "CF-GRAPH-04"  #: TLS, the WebSocket or the serializer is not what the connection says
    GRAPH_QUERY = "CF-GRAPH-05"  #: the graph refuses the query
    GRAPH_PROPERTY = "CF-GRAPH-06"  #: the property is not a number
    GRAPH_NAMES = "CF-GRAPH-07"  #: no vertex has the label and the property: Airflow retries the task

    # Where the members come from
    DAY_HAS_PASSED = "CF-EXTRACT-01"  #: the as-of was no longer the newest when the read of the graph ended
    UPLOAD_PLACE = "CF-EXTRACT-02"  #: an uploaded extract is not there, in another folder, or too large
    UPLOAD_CONTENT = "CF-EXTRACT-03"  #: a record of an uploaded extract is wrong
    UPLOAD_CHANGED = "CF-EXTRACT-04"  #: an uploaded extract has changed since the run was planned

    # Objects in S3
    STATE_DAMAGED = "CF-STATE-01"  #: an object that no task can make again is gone or damaged
    FILE_CHANGED = "CF-STATE-02"  #: a file of the run, or a list, is gone or has changed
    SEGMENT_FILE_CHANGED = "CF-STATE-03"  #: the segment file has changed since it was released

    # Contacts and the segment file
    OPT_OUTS = "CF-CONTACTS-01"  #: the do-not-contact list is empty, and the destination has no earlier opt-outs
    DO_NOT_CONTACT_LINE = "CF-CONTACTS-02"  #: a line of the do-not-contact list is wrong
    TABLE_CAPACITY = "CF-CONTACTS-03"  #: the contacts table has too little read capacity
    SEGMENT_FORM = "CF-CONTACTS-04"  #: the segment file has too many columns or bytes, or a column twice

    # What check_limits finds
    OUTSIDE_LIMITS = "CF-LIMITS-01"  #: the run is outside the limits of its cohort
    NO_CONSENT_VALUES = "CF-LIMITS-02"  #: no record has a value in the consent attribute
    EARLIER_SEGMENT = "CF-LIMITS-03"  #: the segment is empty, and an earlier run's segment has members
    NO_VALUES = "CF-LIMITS-04"  #: no record has a value in an attribute that the registry names

    # Other runs
    SAME_RESULT = "CF-LOCK-01"  #: another run makes the same result
    BUSY = "CF-LOCK-02"  #: another run or attempt changes the same thing: Airflow retries the task
    OVERTAKEN = "CF-LOCK-03"  #: another run has changed the same result or segment since

    # The import into the destination
    JOB_FAILED = "CF-IMPORT-01"  #: a job has failed
    SEGMENT_WRONG = "CF-IMPORT-02"  #: the job has refused rows, or the segment has another size
    JOB_PENDING = "CF-IMPORT-03"  #: a job has not ended, or the service is not ready
    COUNT_DIFFERS = "CF-IMPORT-04"  #: the destination has another number of members, which may still change
    UPLOAD_REFUSED = "CF-IMPORT-05"  #: S3 refuses the file of an upload job
    NOT_OURS = "CF-IMPORT-06"  #: a segment or campaign of this name was not created by this package

    # Campaigns
    CAMPAIGN_SETTINGS = "CF-CAMPAIGN-01"  #: the registry lacks a setting of the campaign
    MAIL_TEMPLATE = "CF-CAMPAIGN-02"  #: a file or placeholder of the mail template is wrong
    MAIL_CHANGED = "CF-CAMPAIGN-03"  #: the mail template has changed since it was read
    SENDER = "CF-CAMPAIGN-04"  #: the sender cannot be used
    QUOTA = "CF-CAMPAIGN-05"  #: a quota of SES, Amazon Connect or Amazon Q in Connect is reached
    SAME_ADDRESS = "CF-CAMPAIGN-06"  #: several rows have the same address
    NOT_APPROVER = "CF-CAMPAIGN-07"  #: the user who approved may not approve
    NOT_APPROVED = "CF-CAMPAIGN-08"  #: there is no approval of exactly this segment and mail
    NOT_TO_LAUNCH = "CF-CAMPAIGN-09"  #: this run does not launch a campaign
    LAUNCHED_ALREADY = "CF-CAMPAIGN-10"  #: the result was launched before
    OUTDATED = "CF-CAMPAIGN-11"  #: what was approved has changed, or its time has passed
    MAY_HAVE_MAILED = "CF-CAMPAIGN-12"  #: the campaign was started or has ended otherwise than by the launch
    SENDING_REFUSED = "CF-CAMPAIGN-13"  #: the service refuses the campaign or the mails
    SENDING_INTERRUPTED = "CF-CAMPAIGN-14"  #: the launch stopped between mails: Airflow retries the task
    SENDER_RATES = "CF-CAMPAIGN-15"  #: too many e-mails of the last 7 days bounced or were complained about
    SUPPRESSIONS_OLD = "CF-CAMPAIGN-16"  #: the suppression list is older than the as-of before the launch's

    # The other DAGs
    STILL_RUNNING = "CF-CLEANUP-01"  #: a run or job is active, and would bring back what is to be removed
    ERASURE_LIST = "CF-ERASURE-01"  #: the list of players to erase is wrong
    ERASURE_UNKNOWN_FILE = "CF-ERASURE-02"  #: an object in a folder of ours cannot be searched for players
    WHAT_IF_DATES = "CF-WHATIF-01"  #: the dates of the what-if give no as-of, or too many

    # Loads into the graph
    GRAPH_LOAD_FILES = "CF-LOAD-01"  #: a file of the load is not there, has changed, or cannot be loaded alone
    GRAPH_LOAD_FINDINGS = "CF-LOAD-02"  #: the validation has found errors in the files
    GRAPH_LOAD_ROLE = "CF-LOAD-03"  #: the loader cannot use the role, the bucket or the region
    GRAPH_LOAD_ENDPOINT = "CF-LOAD-04"  #: the loader's endpoint is not the cluster's writer, or does not sign
    GRAPH_LOAD_QUEUE = "CF-LOAD-05"  #: the loader's queue is full: Airflow retries the task
    GRAPH_LOAD_FAILED = "CF-LOAD-06"  #: a load job has failed, or was cancelled
    GRAPH_LOAD_RESUMES = "CF-LOAD-07"  #: a load job has ended early, and Airflow's next try resumes it
    GRAPH_LOAD_NOTHING = "CF-LOAD-08"  #: a load job has succeeded without a record
    GRAPH_LOAD_PENDING = "CF-LOAD-09"  #: a load job has not ended in time, or the wait broke off

    # Engagement events
    EVENT_OBJECT = "CF-ENGAGE-01"  #: an object of events is older than an as-of reads, or is gone
    ENGAGEMENT_NAMES = "CF-ENGAGE-02"  #: a vertex has a property of the name that the engagement would write

    # The webhook's receiver
    WEBHOOK_CREDENTIALS = "CF-WEBHOOK-01"  #: the receiver refuses the credentials
    WEBHOOK_ADDRESS = "CF-WEBHOOK-02"  #: another service answers, or none with a trusted certificate
    WEBHOOK_LATER = "CF-WEBHOOK-03"  #: the receiver cannot answer now: Airflow retries the task
    WEBHOOK_TOO_LARGE = "CF-WEBHOOK-04"  #: a message, or the list of an erasure, is too large for the receiver
    WEBHOOK_REFUSED = "CF-WEBHOOK-05"  #: the receiver refuses the request as it stands
    WEBHOOK_REJECTED = "CF-WEBHOOK-06"  #: the receiver has rejected messages, or has a newer import

    # AWS and the SDK
    AWS_DENIED = "CF-AWS-01"  #: the execution role lacks a right, or a policy denies it
    AWS_KMS = "CF-AWS-02"  #: the KMS key cannot be used
    AWS_CREDENTIALS = "CF-AWS-03"  #: the credentials are missing, wrong or expired
    AWS_REGION = "CF-AWS-04"  #: the region is missing or wrong
    AWS_NOT_THERE = "CF-AWS-05"  #: a bucket, an object or another thing does not exist, or is archived
    AWS_REQUEST = "CF-AWS-06"  #: the request is refused as it stands
    AWS_ACCOUNT = "CF-AWS-07"  #: the account may not use this, or its quota is reached
    AWS_LATER = "CF-AWS-08"  #: AWS cannot serve the request now
    AWS_NETWORK = "CF-AWS-09"  #: AWS cannot be reached, or the connection broke off
    AWS_WORKER = "CF-AWS-10"  #: the clock, the AWS configuration or the boto3 of the worker is wrong

    # What can happen to every task
    TIMEOUT = "CF-TASK-01"  #: the task took longer than its execution_timeout
    AIRFLOW = "CF-TASK-02"  #: an error of Airflow or of a provider
    UNREPORTED = "CF-TASK-03"  #: the task failed, and no notification was sent
    WORKER_FULL = "CF-TASK-04"  #: DuckDB or the worker has too little memory or disk
    UNEXPECTED = "CF-BUG-01"  #: an unexpected error
    DO_NOT_ADD_UP = "CF-BUG-02"  #: the data or the figures of the run contradict each other


class CodedError(Exception):
    """An error whose text begins with a code. The text may be logged: it holds no playerId, address or name.

    :param message: the sentence: what is wrong, where, and what to do.
    :param code: the code of the cause and the remedy.
    """

    def __init__(self, message: str, code: Code) -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class FlywheelError(CodedError, ValueError):
    """An error that a user can fix. A retry does not help."""
