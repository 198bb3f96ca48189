"""Load CSV files into Neptune with its bulk loader."""
