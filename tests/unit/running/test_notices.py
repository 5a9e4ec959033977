"""News of a sweep: signed, tried again, never in the way, and never into the network of a shared server."""

from __future__ import annotations

import hashlib
import hmac
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from sweeper.errors import SpecError
from sweeper.ledger.memory import MemoryLedger
from sweeper.running import notices
from sweeper.running.notices import Notices, check_notify, check_public
from sweeper.settings import Settings
from sweeper.spec.parse import load_spec
from tests.ended_sweeps import end_trials, new_sweep, spec_of


class Hook:
    """A web hook on this machine that answers with these codes, then with 200."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append((dict(self.headers), body))
                self.send_response(hook.codes.pop(0) if hook.codes else 200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook/secret"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setattr(notices, "WAITS", (0.0, 0.01, 0.02, 0.03))
    hook = Hook()
    yield hook
    hook.close()


def told(address: str, *events: tuple[str, dict[str, Any]], public_only: bool = False, **settings: Any) -> list[Any]:
    """Send a sweep's events, wait for the end; what the log got."""
    ledger, spec = MemoryLedger(), spec_of(notify=[address])
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(3))
    log: list[Any] = []

    def emit(action: str, fields: Any) -> None:
        log.append((action, fields))

    sender = Notices(Settings(Path("home"), **settings), spec, sweep, ledger, emit, public_only=public_only)
    for action, fields in events:
        sender.take(action, fields)
    sender.close()
    return log


END = ("report.written", {"verdict": "Trial 2 is the best of 3."}), ("sweep.finished", {})


def test_the_end_is_told_with_verdict_and_winner_and_is_signed(hook: Hook) -> None:
    log = told(hook.url, *END, notify_secret="s3cret")
    [(headers, body)] = hook.got
    said = json.loads(body)
    assert said["event"] == said["state"] == "running"  # as the ledger has it
    assert said["text"].endswith("Trial 2 is the best of 3.")
    assert "3 of 4 trials have ended. Best: trial " in said["text"]
    assert said["best"]["metrics"]
    wanted = hmac.new(b"s3cret", headers["X-Sweeper-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Sweeper-Signature"] == f"sha256={wanted}"
    [(action, fields)] = log
    assert (action, fields["to"]) == ("notify.sent", "127.0.0.1")  # the path of a hook is a secret


def test_what_fails_is_tried_again_and_what_is_refused_is_not(hook: Hook) -> None:
    hook.codes = [500, 503]
    assert [action for action, _ in told(hook.url, *END)] == ["notify.sent"]
    assert len(hook.got) == 3
    hook.got.clear()
    hook.codes = [404]
    [(action, fields)] = told(hook.url, *END)
    assert (action, fields["reason"]) == ("notify.failed", "it answered 404")
    assert len(hook.got) == 1


def test_new_bests_and_a_standstill_are_told_but_not_too_often(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "BEST_SECONDS", 0.2)
    monkeypatch.setattr(notices, "STALLED_SECONDS", 0.6)
    ledger, spec = MemoryLedger(), spec_of(notify=[hook.url])
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(3))
    sender = Notices(Settings(Path("home")), spec, sweep, ledger, lambda *_: None, public_only=False)
    for _ in range(5):
        sender.take("trial.ended", {"improved": True})
    deadline = time.monotonic() + 20
    while len(hook.got) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    sender.close()
    assert [json.loads(body)["event"] for _, body in hook.got] == ["new best", "stalled"]


def test_a_hook_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(notices, "LAST_SECONDS", 0.2)
    with socket.socket() as deaf:  # it takes connections and never answers
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        assert told(f"http://127.0.0.1:{deaf.getsockname()[1]}/", *END) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "[::1]", "0.0.0.0"])
def test_a_shared_server_sends_nothing_into_its_own_network(host: str, hook: Hook) -> None:
    address = hook.url.replace("127.0.0.1", host)
    [(action, fields)] = told(address, *END, public_only=True)
    assert action == "notify.failed"
    assert "own network" in fields["reason"]
    assert hook.got == []
    with pytest.raises(SpecError, match="own network"):
        check_public(spec_of(notify=[address]))


def test_a_mail_goes_through_the_server_of_the_settings() -> None:
    got: list[str] = []

    class Smtp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            data = False
            for raw in self.rfile:
                line = raw.decode().rstrip("\r\n")
                got.append(line)
                if data:
                    data = line != "."
                    if not data:
                        self.wfile.write(b"250 taken\r\n")
                elif line.lower() == "data":
                    data = True
                    self.wfile.write(b"354 go on\r\n")
                else:
                    self.wfile.write(b"221 bye\r\n" if line.lower() == "quit" else b"250 fine\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Smtp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        log = told("mailto:me@example.org", *END, smtp_url=f"smtp://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    assert [action for action, _ in log] == ["notify.sent"], log
    assert "To: me@example.org" in got
    assert "Subject: sweep demo: running" in got


def test_addresses_are_checked_before_a_sweep_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("ftp://x", "https://", "me@example.org", "mailto:me", "$1", "http://a b"):
        with pytest.raises(SpecError, match=r"notify.* is no address"):
            load_spec({"dataset": {"name": "iris"}, "notify": [wrong]})
    here = Settings(Path("home"))
    monkeypatch.delenv("HOOK", raising=False)
    with pytest.raises(SpecError, match="the environment variable HOOK is not set"):
        check_notify(spec_of(notify=["$HOOK"]), here)
    monkeypatch.setenv("HOOK", "nonsense")
    with pytest.raises(SpecError, match="HOOK holds no address"):
        check_notify(spec_of(notify=["$HOOK"]), here)
    monkeypatch.setenv("HOOK", "https://hooks.example.org/T0/secret")
    check_notify(spec_of(notify=["$HOOK"]), here)
    with pytest.raises(SpecError, match="SWEEPER_SMTP_URL"):
        check_notify(spec_of(notify=["mailto:me@example.org"]), here)
