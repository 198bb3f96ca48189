"""The URLs of Pinpoint, moto's and ours, all served by our responses; moto finds this module by the backend's."""

from collections.abc import Callable
from typing import Any

from moto.pinpoint import urls as moto_urls

from .responses import FlywheelPinpointResponse

url_bases = moto_urls.url_bases

_APP = "{0}/v1/apps/(?P<app_id>[^/]+)"
_OURS = (
    f"{_APP}/jobs/import$",
    f"{_APP}/jobs/import/(?P<job_id>[^/]+)$",
    f"{_APP}/segments$",
    f"{_APP}/segments/(?P<segment_id>[^/]+)$",
    f"{_APP}/segments/(?P<segment_id>[^/]+)/jobs/import$",
    f"{_APP}/segments/(?P<segment_id>[^/]+)/versions$",
    f"{_APP}/segments/(?P<segment_id>[^/]+)/versions/(?P<version>[^/]+)$",
    # An endpoint's and a user's id may hold an encoded slash.
    f"{_APP}/endpoints/(?P<endpoint_id>.+)$",
    f"{_APP}/users/(?P<user_id>.+)$",
)

url_paths: dict[str, Callable[..., Any]] = dict.fromkeys(
    (*moto_urls.url_paths, *_OURS), FlywheelPinpointResponse.dispatch
)
