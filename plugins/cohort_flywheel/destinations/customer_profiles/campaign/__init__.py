"""Campaigns by Amazon Connect outbound campaigns."""
