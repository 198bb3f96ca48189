"""Each error in GraphSON is explained, without its text."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web
from gremlin_python.process.traversal import P

from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.neptune import GraphUnavailableError
from tests.cohort_flywheel.hooks.test_graphson import connect, frame, g


@contextmanager
def a_server(answer: Callable[[str], bytes]) -> Iterator[int]:
    """A WebSocket server on a free port of loopback that answers each request, by its id, with one frame."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            sent = json.loads(message.data[34:])
            await ws.send_str(answer(sent["requestId"]["@value"]).decode())
        return ws

    loop, ready = asyncio.new_event_loop(), threading.Event()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        async def start() -> None:
            app = web.Application()
            app.router.add_get("/gremlin", handler)
            runner = web.AppRunner(app, shutdown_timeout=0.5)
            await runner.setup()
            await web.SockSite(runner, listening).start()
            ready.set()

        thread = threading.Thread(target=lambda: (loop.run_until_complete(start()), loop.run_forever()), daemon=True)
        thread.start()
        assert ready.wait(10)
        yield listening.getsockname()[1]
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def error(request_id: str, code: int, text: str) -> bytes:
    answer = json.loads(frame(code=code, message=text))
    return json.dumps(answer | {"requestId": request_id}).encode()


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        ("ThrottlingException", GraphUnavailableError, "ThrottlingException 500, requestId 0dbcded3"),
        ("MalformedQueryException", FlywheelError, "refuses the query \\(MalformedQueryException 500"),
        ("AccessDeniedException", FlywheelError, "refuses the connection neptune_default, which does not sign"),
    ],
)
def test_an_error_in_graphson_is_explained(
    code: str,
    kind: type[Exception],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = json.dumps({"requestId": "0dbcded3", "code": code, "detailedMessage": "wayne96 was here"})
    with (
        a_server(lambda request_id: error(request_id, 500, text)) as port,
        pytest.raises(kind, match=sentence) as raised,
    ):
        list(connect(monkeypatch, port).stream(g().V()))
    assert "wayne96" not in str(raised.value) + caplog.text


def test_an_answer_that_is_not_graphson_is_an_error_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        a_server(lambda request_id: b"<html>wayne96 403</html>") as port,
        pytest.raises(FlywheelError, match="gave an answer that is not graphson-2.0") as raised,
    ):
        list(connect(monkeypatch, port).stream(g().V().has("score", P.gt(2))))
    assert "wayne96" not in str(raised.value)
    assert raised.value.__suppress_context__
