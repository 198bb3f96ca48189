"""Count the clicks of launches by link, and by the time from the e-mail to the first click.

A link may have a player's name in it, where the template has a placeholder there. Only the links of the template that
are the same for all players are named; the others are counted together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from pydantic import Field

from cohort_flywheel.common.duckdb import connect, hide_values
from cohort_flywheel.common.records import Record
from cohort_flywheel.engagement.event_records import UNSUBSCRIBE_CLICK

#: The times within which a message was clicked first; `later` are the others.
TIMES = {
    "10 minutes": timedelta(minutes=10), "1 hour": timedelta(hours=1), "6 hours": timedelta(hours=6),
    "1 day": timedelta(days=1), "3 days": timedelta(days=3), "7 days": timedelta(days=7),
}  # fmt: skip
LATER = "later"

_CLICKS = (
    "SELECT launch, message_id, link, time FROM events WHERE type = 'Click' AND subtype IS DISTINCT FROM"  # noqa: S608 - ours
    f" '{UNSUBSCRIBE_CLICK}' AND bot IS DISTINCT FROM 'Likely'"
)


class Clicks(Record):
    """The clicked messages of a launch, without clicks that SES flags as a likely bot's, and those to unsubscribe.

    `links` are the messages by link, the most clicked first; `other_links` those with a click on a link that is not the
    same for all players. `times` are the messages by the time to the first click; one whose sending no event tells is
    in none.
    """

    links: dict[str, int] = Field(default_factory=dict)
    other_links: int = 0
    times: dict[str, int] = Field(default_factory=dict)


def count_clicks(
    folder: Path, files: Sequence[Path], fixed: Mapping[str, Sequence[str]], memory_mb: int | None = None
) -> dict[str, Clicks]:
    """Return the clicks of each launch that has some, by its tag.

    :param folder: a folder for temporary files.
    :param files: the Parquet files of all as-ofs.
    :param fixed: by tag, the links that are the same for all players, without their queries.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    """
    if not files:
        return {}
    links, others, times = dict[str, dict[str, int]](), dict[str, int](), dict[str, dict[str, int]]()
    with connect(folder, memory_mb) as sql, hide_values("count the clicks"):
        sql.read_parquet([str(path) for path in files]).create_view("events")
        sql.execute("CREATE TABLE fixed (launch VARCHAR, link VARCHAR)")
        if pairs := [(launch, link) for launch, each in sorted(fixed.items()) for link in dict.fromkeys(each)]:
            sql.executemany("INSERT INTO fixed VALUES (?, ?)", pairs)
        by_link = (
            f"SELECT click.launch, fixed.link, count(DISTINCT message_id) AS number FROM ({_CLICKS}) click"  # noqa: S608 - ours
            " LEFT JOIN fixed ON fixed.launch = click.launch AND fixed.link = click.link GROUP BY ALL"
            " ORDER BY click.launch, number DESC, fixed.link"
        )
        for launch, link, number in sql.execute(by_link).fetchall():
            if link is None:
                others[launch] = number
            else:
                links.setdefault(launch, {})[link] = number
        limits = [limit.total_seconds() for limit in TIMES.values()]
        by_time = (
            "WITH sent AS (SELECT launch, message_id, min(time) AS instant FROM events"  # noqa: S608 - ours
            " WHERE type IN ('Send', 'Delivery') GROUP BY ALL), clicked AS (SELECT launch, message_id, min(time) AS"
            f" instant FROM ({_CLICKS}) GROUP BY ALL) SELECT launch, len(list_filter({limits}, lambda each: each <"
            " seconds)) AS place, count(*) FROM (SELECT launch, date_diff('second', sent.instant, clicked.instant) AS"
            " seconds FROM clicked JOIN sent USING (launch, message_id)) GROUP BY ALL ORDER BY ALL"
        )
        names = [*TIMES, LATER]
        for launch, place, number in sql.execute(by_time).fetchall():
            times.setdefault(launch, {})[names[place]] = number
    return {
        launch: Clicks(links=links.get(launch, {}), other_links=others.get(launch, 0), times=times.get(launch, {}))
        for launch in sorted({*links, *others})
    }
