"""A server that speaks the OpenAI protocol as told: errors, stalls, resets and good answers."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Step = Callable[["Handler"], None]


def ok(text: str = '{"query":"nini"}', finish_reason: str = "stop") -> Step:
    """A good answer of 7 prompt and 3 reply tokens."""
    message = {"role": "assistant", "content": text}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    return lambda handler: handler.send_json(200, body)


def status(
    status: int, message: str = "no", headers: dict[str, str] | None = None, **more: Any
) -> Step:
    """An error as the protocol words it."""
    body = {"error": {"message": message, "type": "error", **more}}
    return lambda handler: handler.send_json(status, body, headers)


def stall(seconds: float) -> Step:
    """Nothing for a while, then the connection closed; a server that ends does not wait for it."""
    return lambda handler: time.sleep(seconds)


def reset() -> Step:
    """The connection reset (RST) in place of an answer."""

    def act(handler: "Handler") -> None:
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.close_connection = True

    return act


def cut() -> Step:
    """Half of an answer, and the connection closed."""

    def act(handler: "Handler") -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", "900")
        handler.end_headers()
        handler.wfile.write(b'{"id": "1", "choices": [{"ind')
        handler.close_connection = True

    return act


class ScriptedServer(ThreadingHTTPServer):
    """Plays `script`, one step a request, then `default` for ever.

    Its port is its own from the start; until `server_activate` it refuses whoever comes.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server_bind()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.script: list[Step] = []
        self.default: Step = ok()
        self.models: Step = lambda handler: handler.send_json(
            200, {"object": "list", "data": [{"id": f"model-{i}"} for i in range(12)]}
        )
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Quiet: clients that hang up are part of the play."""


class Handler(BaseHTTPRequestHandler):
    """Answers by the server's script; `body` is the JSON of the request at hand."""

    protocol_version = "HTTP/1.1"
    server: ScriptedServer
    body: dict[str, Any]

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self.server.models(self)
        else:
            self.send_json(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        self.body = body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
            step = server.script.pop(0) if server.script else server.default
        step(self)

    def send_json(self, code: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def serving(server: ScriptedServer | None = None) -> Iterator[ScriptedServer]:
    """A scripted server on a free port of this machine, or one that was refusing so far."""
    server = server or ScriptedServer()
    server.server_activate()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
