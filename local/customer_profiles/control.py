"""Settings of Customer Profiles that a test may change while the server runs."""

from dataclasses import dataclass
from typing import ClassVar

from local.rest_json.control import Control, Settings


@dataclass
class ProfilesSettings(Settings):
    """Durations are seconds. `refuse` and `lose_operations` know the upload of a file as `PutUpload`."""

    choices: ClassVar[dict[str, tuple[str, ...]]] = Settings.choices | {
        "same_display_name": ("another", "refused"),
        "failed_job_ingests": ("half", "nothing"),
    }

    job_seconds: float = 2.0
    estimate_seconds: float = 0.5
    url_seconds: float = 900.0
    max_bytes: int = 1_000_000_000
    # [shape CreateUploadJobRequest.DisplayName] "The unique name of the upload job": whether that is enforced is not
    # documented, so both are here. [strict] A second job of that name is made.
    same_display_name: str = "another"
    failed_job_ingests: str = "half"
    fail_next_jobs: int = 0
    partly_fail_next_jobs: int = 0
    fail_next_estimates: int = 0
    add_to_next_estimate: int = 0


control = Control(ProfilesSettings)
