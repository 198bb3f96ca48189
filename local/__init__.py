"""Local servers for development and tests, with sample players: `python -m local --help`."""
