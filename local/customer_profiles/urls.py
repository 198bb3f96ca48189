"""moto's addresses of Customer Profiles; moto finds this module by the backend's own."""

from .responses import CustomerProfilesResponse

url_bases = [r"https?://profile\.(.+)\.amazonaws\.com"]
url_paths = {"{0}/(?P<path>.+)$": CustomerProfilesResponse.dispatch}
