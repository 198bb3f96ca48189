"""A receiver over HTTPS: batches of NDJSON, by the contract in docs/reference/webhook.md."""
