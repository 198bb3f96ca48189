"""What a test may change about message templates while the server runs."""

from local.rest_json.control import Control, Settings

control = Control(Settings)
