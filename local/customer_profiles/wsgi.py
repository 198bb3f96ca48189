"""Customer Profiles on a server: registered with moto, behind the upload URLs and the control plane."""

from local.rest_json.control import Wsgi, with_control_plane
from local.rest_json.moto_service import register_service

from . import models
from .control import control
from .presigned import with_uploads

PATH = "/cohort-flywheel/customer-profiles"


def with_customer_profiles(inner: Wsgi) -> Wsgi:
    register_service("customerprofiles", "profile", models.backends)
    uploads = with_uploads(inner, control, models.find_upload)
    return with_control_plane(uploads, PATH, control, models.state, models.forget)
