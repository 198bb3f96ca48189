"""One client a service: its retries, its signing, its paging."""
