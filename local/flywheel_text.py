"""The text of `make flywheel`: the figures of its three days, as the DAGs reported them."""

from __future__ import annotations

from collections.abc import Mapping

from local.flywheel_sums import LAUNCH, Item, Turned


def describe(turned: Turned) -> str:
    """Return the figures of the three days as text."""
    _, two, three = turned.engagement
    launch, clicked, counts = turned.launch["segment"], turned.clicked["segment"], three["launches"][LAUNCH]
    rejects = {reason: number for reason, number in launch["rejects"].items() if reason != "launch_holdout"}
    held_out, sent = launch["rejects"]["launch_holdout"], turned.launch["campaign"]["launched"]["sent"]
    suppressed: dict[str, int] = three["suppressions"]["addresses"]
    totals = {name: values[0] for name, values in turned.graph["campaigns"][0].items()}
    with_clicks = sum(bool(sum(vertex["eng_clicks_30d"])) for vertex in turned.graph["players"])
    effect: Item = three["effects"]["launches"][0]["launch_holdout"]
    return "\n".join(
        [
            "Day 1: a cohort is mailed",
            _line("members of ea_atrisk", launch["members"], "with a score above 0"),
            _line("rejected", -sum(rejects.values()), _list_of(rejects)),
            _line("held out", -held_out, "of this launch, to measure its effect"),
            _line("mailed", sent, "by SES, after ann approved"),
            "",
            "Days 2 and 3: the events come back",
            _line(
                "records", two["events"]["records"] + three["events"]["records"],
                f"of {two['events']['objects'] + three['events']['objects']} objects in S3, and"
                f" {two['events']['unreadable']} line that cannot be read",
            ),
            _line("repeated", -two["events"]["repeated"], "Firehose delivers at least once"),
            _line(
                "events", two["events"]["events"] + three["events"]["events"],
                f"{two['events']['events']} on day 2, {three['events']['events']} came late, on day 3",
            ),
            _line("messages", counts["messages"], f"= {_list_of(counts['states'], ' + ')}"),
            _line("opened", counts["opened"], f"{counts['opened'] - totals['eng_opened']} of them by likely bots only"),
            _line(
                "clicked", counts["clicked"],
                f"{counts['clicked'] - totals['eng_clicked']} of them by likely bots only",
            ),
            _line("suppressed", sum(suppressed.values()), f"addresses: {_list_of(suppressed)}"),
            "",
            "The graph learns",
            _line("eng_clicks_30d", with_clicks, f"vertices have clicks, of {totals['eng_clicked']} players"),
            _line("campaign", 1, f"vertex with the totals; {len(turned.graph['edges'])} edges eng_clicked lead to it"),
            "",
            "Day 3: those who clicked become a segment",
            _line("members of clicked", clicked["members"], "with eng_clicks_30d above 0, as day 2 wrote it"),
            _line("rejected", -sum(clicked["rejects"].values()), _list_of(clicked["rejects"])),
            _line("in the segment", clicked["rows"], "on the contact list of SES"),
            "",
            "The effect, one day after the launch (the scores of the sample change by a made-up rule)",
            *(f"  {effect[outcome]['sentence']}" for outcome in ("left", "further", "change")),
        ]
    )  # fmt: skip


def _line(name: str, number: int, text: str) -> str:
    return f"  {name:<20}{number:>6,}  {text}".rstrip()


def _list_of(numbers: Mapping[str, int], between: str = ", ") -> str:
    return between.join(f"{name} {number:,}" for name, number in numbers.items() if number)
