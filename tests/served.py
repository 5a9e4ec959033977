"""A real service in this process: a ledger, a worker, the HTTP server on a port of its own, and clients with tokens."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from sweeper.ledger.opening import open_ledger
from sweeper.service.app import create_app
from sweeper.service.auth import create_token, role_for_code
from sweeper.service.link import ServiceView, Teller, make_link
from sweeper.service.runner import Runner
from sweeper.settings import Settings

SMALL: dict[str, Any] = {
    "dataset": {"name": "iris"},
    "space": {"learning_rate": {"float": [1e-3, 1e-1], "log": True}, "hidden_layers": [8]},
    "training": {"epochs": 3},
    "search": {"trials": 6, "sampler": "random"},
}
LONG: dict[str, Any] = SMALL | {"training": {"epochs": 200_000}, "search": {"trials": 4, "sampler": "random"}}


class Served:
    """The service, and ``client(user)`` for each of its users: ada (admin), bob and cat (users), vic (viewer)."""

    def __init__(self, home: Path, **options: Any) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.settings = Settings(home)
        self.ledger = open_ledger(None, home)
        roles = {"ada": "admin", "bob": "user", "cat": "user", "vic": "viewer"}
        self.tokens = {user: create_token(self.ledger, user, role)[1] for user, role in roles.items()}
        self._options = options
        self.start()

    def start(self) -> None:
        """Begin to serve; after ``stop`` it is the next service on the same ledger."""
        limits = {k: v for k, v in self._options.items() if k == "dataset_bytes"}
        own = {k: v for k, v in self._options.items() if k not in ("dataset_bytes", "allow_code")}
        code = role_for_code(self._options.get("allow_code"))
        self.service = Runner(self.settings, self.ledger, "inline", allow_code=code is not None, **own)
        self._ends = make_link()
        self._teller = Teller(self.service.status, self.service.wake, self._ends[0])
        view = ServiceView(self._ends[1])
        self.app = create_app(self.settings, self.ledger, view, "http://mlflow.example", allow_code=code, **limits)
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(self.app, log_level="warning", timeout_graceful_shutdown=2, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self.service.start()
        self._teller.start()
        self._thread.start()

    def stop(self) -> None:
        self.service.announce_stop()
        self._server.should_exit = True
        self._thread.join(timeout=20)
        self.service.stop()
        self._teller.stop()
        for end in self._ends:
            end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self.stop()
        self.ledger.close()

    def client(self, user: str | None, **headers: str) -> httpx.Client:
        token = {"Authorization": f"Bearer {self.tokens[user]}"} if user else {}
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=token | headers, timeout=60)

    def submit(self, user: str, spec: dict[str, Any], **headers: str) -> str:
        answer = self.client(user).post("/sweeps", json=spec, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["sweep"])

    def wait(self, sweep: str, *states: str, timeout: float = 240) -> dict[str, Any]:
        """The sweep object once the sweep is in one of these states and nothing is done with it any more."""

        def there() -> dict[str, Any] | None:
            found = self.client("ada").get(f"/sweeps/{sweep}").json()
            return found if found["state"] in states and (states == ("running",) or not self.busy(sweep)) else None

        return until(there, timeout, lambda: self.client("ada").get(f"/sweeps/{sweep}").text)

    def busy(self, sweep: str) -> bool:
        return self.service.holds(sweep)


@contextmanager
def serving(home: Path, **options: Any) -> Iterator[Served]:
    served = Served(home, **options)
    try:
        yield served
    finally:
        served.close()


def until(value: Callable[[], Any], timeout: float, about: Callable[[], str] = lambda: "") -> Any:
    """The first true value; fails after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (found := value()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {about()}"
        time.sleep(0.05)
    return found


def events_of(response: httpx.Response) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """The (id, event, data) of a stream of server-sent events."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if not line and "data" in fields:
            yield int(fields["id"]), fields["event"], json.loads(fields["data"])
            fields = {}
        name, colon, text = line.partition(":")
        if colon and name:
            fields[name] = text.strip()


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status
    return dict(found)


def upload(served: Served, user: str, body: bytes, filename: str = "data.csv") -> str:
    answer = served.client(user).post("/datasets", params={"filename": filename}, content=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["upload"])


def table(offset: float, rows: int = 60) -> bytes:
    """A regression whose numbers tell one table from another."""
    lines = [f"{n % 7},{n % 5},{offset + (n % 7) * 2 - (n % 5) + n / 100}" for n in range(rows)]
    return ("a,b,y\n" + "\n".join(lines) + "\n").encode()
