"""moto's addresses of Connect, and that of its metrics; moto finds this module by the backend's own."""

from collections.abc import Callable
from typing import Any

from moto.connect import urls as moto_urls

from .responses import ConnectMetricsResponse

url_bases = moto_urls.url_bases
url_paths: dict[str, Callable[..., Any]] = moto_urls.url_paths | {"{0}/metrics/data$": ConnectMetricsResponse.dispatch}
