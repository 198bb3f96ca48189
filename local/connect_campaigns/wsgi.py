"""Campaigns on a server: put into moto's, with their control plane in front of it."""

from local.connect.models import install as install_metrics
from local.rest_json.control import Wsgi, with_control_plane

from . import models
from .control import control

PATH = "/cohort-flywheel/connect-campaigns"


def with_connect_campaigns(inner: Wsgi) -> Wsgi:
    models.install()
    install_metrics()
    return with_control_plane(inner, PATH, control, models.state, models.forget)
