"""The metrics of campaigns of a time, and the rules of their request."""

from collections.abc import Iterator, Sequence
from typing import Any

from local.connect_campaigns.campaigns import Campaign
from local.rest_json.errors import ServiceError

#: [shape GetMetricDataV2Request: Metrics] "Valid groupings and filters" of each.
_GROUPINGS = {
    "RECIPIENTS_TARGETED": {"CAMPAIGN"},
    "CAMPAIGN_SEND_ATTEMPTS": {"CAMPAIGN"},
    "CAMPAIGN_SEND_EXCLUSIONS": {"CAMPAIGN"},
    "CAMPAIGN_INTERACTIONS": {"CAMPAIGN"},
    "DELIVERY_ATTEMPTS": {"CAMPAIGN", "CAMPAIGN_DELIVERY_EVENT_TYPE"},
}
_DAY = 86_400.0
#: [the same: Filters] "up to 5 filter keys in a single request, and up to 100 filter values across all filter keys".
_MAX_VALUES = 100


def invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", 400, message)


def check(request: dict[str, Any], now: float) -> None:
    """Raise ServiceError for a request that Connect refuses."""
    start, end = request["StartTime"], request["EndTime"]
    # [the same: StartTime] "must be before the end time"; [EndTime] "cannot be later than the current timestamp"
    if not start < end or end > now:
        raise invalid("StartTime must be before EndTime, and EndTime not in the future.")
    # [the same: Interval] "TOTAL: The difference between StartTime and EndTime must be less than 35 days."
    if end - start >= 35 * _DAY:
        raise invalid("The difference between StartTime and EndTime must be less than 35 days.")
    # [the same: StartTime] "Historical metrics are available for 3 months."; [strict] of 28 days
    if start < now - 84 * _DAY:
        raise invalid("StartTime is longer ago than 3 months.")
    if set(request) & {"Interval"}:
        raise invalid("Only the interval TOTAL, the default, is emulated.")
    filters = request["Filters"]
    # [the same: Filters] "A GetMetricDataV2 request requires at least one of these filters", of which CAMPAIGN is one
    if [each.get("FilterKey") for each in filters] != ["CAMPAIGN"] or set(filters[0]) != {"FilterKey", "FilterValues"}:
        raise invalid("Only the filter CAMPAIGN is emulated, and a filter of a resource is required.")
    if len(filters[0]["FilterValues"]) > _MAX_VALUES:
        raise invalid("A request has at most 100 filter values.")
    _check_metrics(request)


def _check_metrics(request: dict[str, Any]) -> None:
    names, groupings = [each.get("Name") for each in request["Metrics"]], set(request.get("Groupings", ()))
    if not names or len(set(names)) < len(names) or not set(names) <= set(_GROUPINGS):
        raise invalid("Each metric must be one of those that are emulated, once.")
    if any(set(each) != {"Name"} for each in request["Metrics"]):
        raise invalid("Filters of a metric are not emulated.")
    if any(not groupings <= _GROUPINGS[name] for name in names) or "CAMPAIGN" not in groupings:
        raise invalid("A metric does not have this grouping.")  # [strict] for all metrics of the request


def rows(campaigns: Sequence[Campaign], request: dict[str, Any], now: float, by_id: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each group with data.

    [shape GetMetricDataV2] "MetricResult list is empty: The request cannot find any data"; "Each item in MetricResult
    must include all requested metrics"; "Metric value is null: … insufficient data".
    """
    names = [each["Name"] for each in request["Metrics"]]
    for campaign in campaigns:
        dimension = campaign.id if by_id else campaign.arn  # which of them is not documented
        for outcome, values in _values(campaign, request, now):
            if bool(outcome) != ("CAMPAIGN_DELIVERY_EVENT_TYPE" in request["Groupings"]):
                continue
            dimensions = {"CAMPAIGN": dimension} | ({"CAMPAIGN_DELIVERY_EVENT_TYPE": outcome} if outcome else {})
            numbers = {name: values[name] for name in names}
            yield {
                "key": f"{campaign.id} {outcome}",
                "Dimensions": dimensions,
                "Collections": [
                    {"Metric": {"Name": name}} | ({"Value": float(number)} if number else {})
                    for name, number in numbers.items()
                ],
            }


def _values(campaign: Campaign, request: dict[str, Any], now: float) -> Iterator[tuple[str, dict[str, int]]]:
    """The values of a campaign, whole and by what became of a mail: each fifth bounces, each third is opened once."""
    begun, mails = campaign.expanded, campaign.sent(now)
    if begun is None:
        return
    step = campaign.seconds / max(len(campaign.mails), 1)
    sent = [at for at in range(len(mails)) if request["StartTime"] <= begun + at * step < request["EndTime"]]
    dropped = campaign.dropped if request["StartTime"] <= begun < request["EndTime"] else 0
    if not sent and not dropped:
        return
    bounced = sum(at % 5 == 4 for at in sent)
    yield "", {
        "RECIPIENTS_TARGETED": len(sent) + dropped, "CAMPAIGN_SEND_ATTEMPTS": len(sent),
        "CAMPAIGN_SEND_EXCLUSIONS": dropped, "CAMPAIGN_INTERACTIONS": sum(at % 3 == 0 for at in sent),
        "DELIVERY_ATTEMPTS": len(sent),
    }  # fmt: skip
    for outcome, number in (("Bounced", bounced), ("Delivered", len(sent) - bounced)):
        if number:
            yield outcome, {"DELIVERY_ATTEMPTS": number}
