"""Campaigns: settings, e-mail template, approval and send ledger."""
