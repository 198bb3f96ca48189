"""The URLs of SES v2, all served by our responses; moto finds this module by the backend's."""

from collections.abc import Callable
from typing import Any

from moto.sesv2 import urls as moto_urls

from .responses import FlywheelSesResponse

url_bases = moto_urls.url_bases

# A server of moto's matches only what has a name, so its "/v2/.*" finds none of the operations that it does not spell
# out. botocore's model says which operation a call is.
_OURS = ("{0}/v2/(?P<path>.+)$",)

url_paths: dict[str, Callable[..., Any]] = dict.fromkeys((*moto_urls.url_paths, *_OURS), FlywheelSesResponse.dispatch)
