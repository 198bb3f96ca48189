"""The events of e-mails: read, counted once, and reported for each launch."""
