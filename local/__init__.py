"""The servers of a laptop and of the tests, and the sample players in them: `python -m local --help`."""
