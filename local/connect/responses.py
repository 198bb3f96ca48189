"""GetMetricDataV2 as HTTP."""

from local.connect_campaigns.control import control
from local.rest_json.responses import RestJsonResponse

from .models import FlywheelConnectBackend, backends


class ConnectMetricsResponse(RestJsonResponse):
    model = "connect"
    invalid = ("InvalidParameterException", 400)
    control = control

    @property
    def backend(self) -> FlywheelConnectBackend:
        return backends[self.current_account][self.region]

    def get_metric_data_v2(self) -> str:
        found = self.backend.metric_rows(self.request)
        page, token = self.page(found, "key", self.request.get("MaxResults"), self.request.get("NextToken"))
        results = [{name: value for name, value in row.items() if name != "key"} for row in page]
        return self.answer(MetricResults=results, NextToken=token)
