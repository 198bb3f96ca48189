"""The segment of a run: query, members, snapshots, contacts, segment file and limits."""
