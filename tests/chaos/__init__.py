"""A whole installation in which processes die at any time, and a checker of what it leaves: `make chaos`."""
