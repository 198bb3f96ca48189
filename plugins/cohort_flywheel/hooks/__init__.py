"""The hooks that several features share: retries, signing and paging of each service."""
