"""Reading events of e-mails: our reading and counting, and DuckDB's reading of the same objects into a count.

A stage returns the number of records, of the same objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any


def read_events(job: dict[str, Any]) -> Iterator[Any]:
    """What the task read_events does with the objects of an as-of: each event once, as Parquet without addresses."""
    from cohort_flywheel.engagement.event_counts import EventFile

    folder, paths = Path(job["folder"]), [Path(path) for path in job["files"]]
    yield None
    with EventFile(folder, datetime.fromisoformat(job["as_of"])) as file:
        for path in paths:
            file.add(path)
        counts = file.close(Path(job["parquet"]), [], len(paths), 0)
    yield {"records": counts.records, "events": counts.events, "repeated": counts.repeated}


def count_launches(job: dict[str, Any]) -> Iterator[Any]:
    """What the task report does with the Parquet file: the messages of each launch by what became of them."""
    from cohort_flywheel.engagement import event_counts

    parquet = Path(job["parquet"])
    yield None
    found = event_counts.count_launches(parquet.parent, [parquet])
    messages = sum(counts.messages for counts in found.values())
    assert all(counts.messages == sum(counts.states.values()) for counts in found.values())
    yield {"records": job["records"], "messages": messages}


def duckdb(job: dict[str, Any]) -> Iterator[Any]:
    """Each record parsed, its type and its message read, and counted by type, on one thread; copies count too."""
    from cohort_flywheel.common.duckdb import connect

    folder = Path(job["files"][0]).parent
    yield None
    # the different message ids of a query must fit: ten million do not fit in the 64 MiB of ours
    with connect(folder, memory_mb=2048) as sql:
        rows = sql.execute(
            "SELECT eventType, count(*), count(DISTINCT mail.messageId) FROM read_json(?, format = 'newline_delimited',"
            " compression = 'gzip', columns = {eventType: 'VARCHAR', mail: 'STRUCT(messageId VARCHAR)'})"
            " GROUP BY eventType",
            [job["files"]],
        ).fetchall()
    yield {"records": sum(number for _, number, _ in rows)}
