"""What a test can change about the receiver while the server runs."""

from dataclasses import dataclass
from typing import Any

from local.rest_json.control import Control, Settings


@dataclass
class ReceiverSettings(Settings):
    max_bytes: int = 1_000_000
    #: so many of the next requests are answered with a redirect to another host
    redirect_next: int = 0
    #: the Retry-After of an ordered refusal
    retry_after: int = 0
    #: so many messages of the next batches are rejected
    reject_next: int = 0


control: Control[Any] = Control(ReceiverSettings)
