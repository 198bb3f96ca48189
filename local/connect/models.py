"""moto's Connect, with the metrics of the campaigns of local/connect_campaigns."""

from typing import Any, cast

from moto.connect.models import ConnectBackend, connect_backends
from moto.core.base_backend import BackendDict

from local.connect_campaigns.control import control
from local.connect_campaigns.models import backends as campaigns_backends
from local.rest_json.errors import ServiceError

from . import metrics


class FlywheelConnectBackend(ConnectBackend):
    """Call its method under the control's lock."""

    def metric_rows(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        now = control.now()
        metrics.check(request, now)
        if request["ResourceArn"] not in {instance.arn for instance in self.instances.values()}:
            raise ServiceError("ResourceNotFoundException", 404, "The instance does not exist.")
        campaigns = {
            each.arn: each for each in campaigns_backends[self.account_id][self.region_name].campaigns_v2.values()
        }
        wanted = request["Filters"][0]["FilterValues"]
        if unknown := [arn for arn in wanted if arn not in campaigns]:
            # [strict] what a campaign that was deleted answers is not documented
            raise ServiceError("ResourceNotFoundException", 404, f"{len(unknown)} campaigns do not exist.")
        by_id = control.settings.campaign_dimension == "id"
        return list(metrics.rows([campaigns[arn] for arn in wanted], request, now, by_id))


# moto's backends, one per account and region, created on demand; install() makes them instances of this class.
backends = cast(BackendDict[FlywheelConnectBackend], connect_backends)


def install() -> None:
    """Replace moto's backend by this one."""
    backends.backend = FlywheelConnectBackend
