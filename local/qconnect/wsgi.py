"""Message templates on a server: registered with moto, behind their control plane."""

from local.rest_json.control import Wsgi, with_control_plane
from local.rest_json.moto_service import register_service

from . import models
from .control import control

PATH = "/cohort-flywheel/qconnect"


def with_qconnect(inner: Wsgi) -> Wsgi:
    register_service("qconnect", "wisdom", models.backends)
    return with_control_plane(inner, PATH, control, models.state, models.forget)
