"""A way to a server on which things happen: answers are lost, cut off, or replaced by those of a proxy."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

# What happens to a request: called with the handler; returns false to let the request through.
Accident = Callable[["_Handler"], bool]
HOP = ("transfer-encoding", "content-length", "connection", "content-encoding")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Relay

    def handle_one(self) -> None:
        self.close_connection = True
        self.body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.seen.append(f"{self.command} {self.path}")
        if not self.server.accident(self):
            with self.forward() as answer:
                self.pass_on(answer)

    do_GET = do_POST = do_HEAD = handle_one  # noqa: N815 - the names that http.server looks for

    @contextlib.contextmanager
    def forward(self) -> Iterator[httpx.Response]:
        """The target's answer to this request."""
        headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
        url = self.server.target + self.path
        with httpx.stream(self.command, url, content=self.body, headers=headers, timeout=60, trust_env=False) as answer:
            yield answer

    def pass_on(self, answer: httpx.Response, limit: int = 1 << 40) -> None:
        """Send an answer on, as it comes, and break off after ``limit`` bytes."""
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in answer.iter_raw():
            self.wfile.write(chunk[:limit])
            self.wfile.flush()
            limit -= len(chunk)
            if limit <= 0:
                break

    def say(self, status: int, body: str = "", **headers: str) -> bool:
        """An answer of our own."""
        data = body.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")  # it is: a client that kept it would find it cut, if it is quick
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        return True

    def log_message(self, *args: Any) -> None:
        pass


class Relay(ThreadingHTTPServer):
    """Passes requests on to ``target``, unless ``accident`` takes them."""

    daemon_threads = True

    def __init__(self, target: str = "", accident: Accident = lambda _: False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.accident = target, accident
        self.seen: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is nothing to tell of."""


@contextlib.contextmanager
def relay(target: str = "", accident: Accident = lambda _: False) -> Iterator[Relay]:
    way = Relay(target, accident)
    try:
        yield way
    finally:
        way.shutdown()
        way.server_close()
