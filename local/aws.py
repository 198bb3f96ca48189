"""The local AWS endpoint: moto's server plus Pinpoint imports, Customer Profiles, campaigns, SES contact lists, and
the bulk loader of the graph.

Run it with ``python -m local.aws --host 127.0.0.1 --port 5566``; it stops on SIGTERM and on Ctrl-C.
"""

import argparse
import logging
import os
import signal
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from moto import backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from local import bucket_policy, copied_checksums
from local.connect_campaigns.wsgi import with_connect_campaigns
from local.customer_profiles.wsgi import with_customer_profiles
from local.neptune_loader.control import control as loader_control
from local.neptune_loader.wsgi import with_neptune_loader
from local.pinpoint import control_plane
from local.pinpoint.control import control
from local.pinpoint.models import install
from local.qconnect.wsgi import with_qconnect
from local.sesv2.control_plane import with_sesv2
from local.webhook.wsgi import with_webhook


def application(gremlin_url: str | None = None) -> Callable[..., Iterable[bytes]]:
    """moto's WSGI application, with the control plane in front of it."""
    install()
    bucket_policy.install()
    copied_checksums.install()
    services = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: services  # it lists moto's folder for each request
    moto = DomainDispatcherApplication(create_backend_app)

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == control_plane.PATH:
            return control_plane.serve(environ, start_response)
        return moto(environ, start_response)

    destinations = with_customer_profiles(with_qconnect(with_connect_campaigns(with_sesv2(serve))))
    return with_neptune_loader(with_webhook(destinations), gremlin_url)


def server(host: str, port: int, import_seconds: float = 4.0, gremlin_url: str | None = None) -> BaseWSGIServer:
    """The server, bound and not yet serving; port 0 takes a free one. Neptune's loader loads into `gremlin_url`."""
    # werkzeug logs each request's path, and a path may hold a player's id.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    control.default_import_seconds = import_seconds
    control.reset()
    loader_control.reset()
    made = make_server(host, port, application(gremlin_url), threaded=True, request_handler=MotoRequestHandler)
    os.environ["MOTO_PORT"] = str(made.server_port)  # moto's services call each other through it
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=5566, help="the port to listen on; 0 takes a free one")
    parser.add_argument("--import-seconds", type=float, default=4.0, help="how long a Pinpoint import job takes")
    parser.add_argument(
        "--gremlin-url", help="the graph that Neptune's bulk loader loads into, as ws://host:port/gremlin"
    )
    arguments = parser.parse_args()

    made = server(arguments.host, arguments.port, arguments.import_seconds, arguments.gremlin_url)
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, _stop)
    print(f"AWS (moto, and what local/ adds) listens on http://{arguments.host}:{made.server_port}", flush=True)
    try:
        made.serve_forever()
    finally:
        made.server_close()


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
