"""The destination Amazon Pinpoint."""
