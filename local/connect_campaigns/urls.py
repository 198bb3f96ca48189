"""moto's addresses of campaigns, and those of version 2; moto finds this module by the backend's own."""

from collections.abc import Callable
from typing import Any

from moto.connectcampaigns import urls as moto_urls

from .responses import ConnectCampaignsV2Response

url_bases = moto_urls.url_bases
url_paths: dict[str, Callable[..., Any]] = moto_urls.url_paths | {
    "{0}/v2/(?P<path>.+)$": ConnectCampaignsV2Response.dispatch
}
