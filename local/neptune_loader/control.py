"""Settings of the loader that a test may change while the server runs."""

from dataclasses import dataclass
from typing import ClassVar

from local.rest_json.control import Control, Settings


@dataclass
class LoaderSettings(Settings):
    choices: ClassVar[dict[str, tuple[str, ...]]] = Settings.choices | {
        "graph": ("g", "scratch"),
        "endpoint": ("writer", "reader"),
        "iam": ("off", "on"),
        "resumed_job": ("new", "same"),
        "resume_without_earlier": ("refuse", "complete"),
        "queued_answer": ("bare", "full"),
        "held": ("no", "yes"),
        "failure": (
            "LOAD_FAILED",
            "LOAD_DATA_DEADLOCK",
            "LOAD_UNEXPECTED_ERROR",
            "LOAD_COMMITTED_W_WRITE_CONFLICTS",
        ),
    }

    #: the traversal source of Gremlin Server that is loaded into
    graph: str = "g"
    #: whether the address is the cluster's writer endpoint or a read replica
    endpoint: str = "writer"
    #: whether the cluster has IAM authentication
    iam: str = "off"
    load_seconds: float = 1.0
    #: no job ends, whatever its time, until this is "no" again
    held: str = "no"
    # [model Mode] "resumes that load job": whether under its id or as another job is not documented.
    resumed_job: str = "new"
    # [model Mode] "If no previous load job is found, the loader stops": how it says so is not documented. [strict] A
    # caller must cope with a refusal and with a load of nothing that ends as completed.
    resume_without_earlier: str = "refuse"
    # [strict] What the status of a queued job holds beside its status is not documented.
    queued_answer: str = "bare"
    #: so many of the next jobs end as `failure`, after the first half of their first file
    fail_next_loads: int = 0
    failure: str = "LOAD_FAILED"
    # [strict] That a job is listed as soon as it was accepted is not documented: so many of the next lists lack the
    # newest job.
    lists_behind: int = 0
    # [model GetLoaderJobStatus] "Neptune keeps track of the most recent 1,024 bulk load jobs".
    remembered: int = 1024


control = Control(LoaderSettings)
