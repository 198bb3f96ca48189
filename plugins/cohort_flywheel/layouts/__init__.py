"""The segment file of each destination: its header, its rows and what it refuses. A module a destination."""
