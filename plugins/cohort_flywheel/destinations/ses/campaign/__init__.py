"""Campaigns by Amazon SES."""
