"""moto's addresses of Amazon Q in Connect; moto finds this module by the backend's own."""

from .responses import QConnectResponse

url_bases = [r"https?://wisdom\.(.+)\.amazonaws\.com"]
url_paths = {"{0}/(?P<path>.+)$": QConnectResponse.dispatch}
