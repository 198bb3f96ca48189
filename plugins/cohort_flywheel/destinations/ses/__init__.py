"""The destination Amazon SES."""
