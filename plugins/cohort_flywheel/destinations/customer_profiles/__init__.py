"""The destination Amazon Connect Customer Profiles."""
