"""Tells people how a sweep is: web hooks and mails when it ends, fails, stalls or has a new best trial.

They are sent by a thread of their own, so that no sweep waits for them, and tried again when they fail.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import os
import queue
import smtplib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote, urlsplit

from sweeper.errors import SpecError
from sweeper.insight.results import COUNTED, best_row, best_trials
from sweeper.ledger.protocol import LedgerReader
from sweeper.logs import Emit
from sweeper.records import SweepRecord
from sweeper.settings import Settings
from sweeper.spec.notify import check_address
from sweeper.spec.parse import SweepSpec
from sweeper.states import SweepState

WAITS = (0.0, 1.0, 5.0, 25.0)  # seconds before each attempt
TIMEOUT = 10.0  # seconds that an attempt may take
BEST_SECONDS = 60.0  # new best trials are told at most so often
STALLED_SECONDS = 600.0  # without any event
LAST_SECONDS = 10.0  # that the end of a sweep waits for news under way
SIGNATURE, TIMESTAMP = "X-Sweeper-Signature", "X-Sweeper-Timestamp"


@dataclass(frozen=True)
class Notice:
    """One piece of news, as JSON data with ``text`` for people (Slack shows it)."""

    event: str
    body: Mapping[str, Any]


class Undeliverable(Exception):
    """A notice cannot be sent there, and trying again is of no use."""


class Notices:
    """Sends the news of one sweep to the addresses of its file.

    ``public_only``: the sweep runs on a shared server, which sends nothing to addresses of its own network.
    """

    def __init__(
        self, settings: Settings, spec: SweepSpec, sweep: str, ledger: LedgerReader, emit: Emit, *, public_only: bool
    ) -> None:
        self._settings, self._spec, self._sweep, self._ledger = settings, spec, sweep, ledger
        self._emit, self._public_only = emit, public_only
        self._events: queue.SimpleQueue[tuple[str, Mapping[str, Any]] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._told_best = time.monotonic()  # a sweep that is over sooner only tells of its end
        self._best_is_news = self._stalled = False
        self._verdict = ""
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._thread.start()

    def take(self, action: str, fields: Mapping[str, Any]) -> None:
        """Take one event of the sweep; never blocks."""
        if not self._closing.is_set() and not action.startswith("notify."):
            self._events.put((action, fields))

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        self._closing.set()
        self._events.put(None)
        self._thread.join(LAST_SECONDS)

    def _run(self) -> None:
        quiet = time.monotonic()
        while True:
            try:
                event = self._events.get(timeout=min(1.0, BEST_SECONDS))
            except queue.Empty:
                event = ("", {})
            if event is None:
                return
            now = time.monotonic()
            if event[0]:
                quiet, self._stalled = now, False
                self._note(*event)
            elif not self._stalled and now - quiet >= STALLED_SECONDS:
                self._stalled = True
                self._send("stalled", f"nothing has happened for {STALLED_SECONDS / 60:.0f} minutes")
            if self._best_is_news and now - self._told_best >= BEST_SECONDS:
                self._told_best, self._best_is_news = now, False
                self._send("new best", "")

    def _note(self, action: str, fields: Mapping[str, Any]) -> None:
        if action == "trial.ended" and fields.get("improved"):
            self._best_is_news = True
        elif action == "report.written":
            self._verdict = str(fields.get("verdict", ""))
        elif action == "sweep.finished":
            self._best_is_news = False
            self._send(None, self._verdict)
        elif action == "sweep.changed" and fields.get("state") == SweepState.FAILED:
            self._failed = True
            self._send("failed", str(fields.get("reason", "")))

    def _send(self, event: str | None, said: str) -> None:
        """Send one notice to every address; None: the state that the sweep has ended in."""
        if event is None and self._failed:
            return  # it was told
        try:
            record = self._ledger.sweep(self._sweep)
            notice = notice_of(record, self._ledger, event or str(record.state), said)
        except Exception as error:  # of a ledger that cannot be read just now
            self._tell_failure("", error)
            return
        for address in self._spec.notify:
            self._deliver(address, notice)

    def _deliver(self, address: str, notice: Notice) -> None:
        problem: Exception | None = None
        for wait in WAITS:
            self._closing.wait(wait)  # at the end of the sweep nobody waits any more
            try:
                send(resolved(address), notice, self._settings, public_only=self._public_only)
            except Undeliverable as error:
                problem = error
                break
            except Exception as error:  # whatever a network can do
                problem = error
            else:
                self._emit("notify.sent", {"sweep": self._sweep, "event": notice.event, "to": _shown(address)})
                return
        assert problem is not None
        self._tell_failure(address, problem)

    def _tell_failure(self, address: str, error: Exception) -> None:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        self._emit("notify.failed", {"sweep": self._sweep, "to": _shown(address), "reason": reason})


def notice_of(record: SweepRecord, ledger: LedgerReader, event: str, said: str) -> Notice:
    """What is told of a sweep."""
    best = next(iter(best_trials(ledger, record, 1)), None)
    ended, metric = sum(record.counts.get(state, 0) for state in COUNTED), record.spec["objective"]["metric"]
    text = f"sweep {record.sweep} ({record.name}): {event}, {ended:,} of {record.requested:,} trials have ended"
    if best is not None and best.value is not None:
        chosen = " on the validation rows, which chose it" if metric.startswith("val_") else ""
        text += f". Best: trial {best.number}, {metric} {best.value:.6g}{chosen}"
    body = {
        "text": f"{text}. {said}".rstrip(". ") + ".",
        "event": event,
        "sweep": record.sweep,
        "name": record.name,
        "state": str(record.state),
        "requested": record.requested,
        "counts": dict(record.counts),
        "best": None if best is None else best_row(best),
    }
    return Notice(event, body)


def resolved(address: str) -> str:
    """The address itself; of a variable's name, what the variable holds."""
    if not address.startswith("$"):
        return address
    held = os.environ.get(address[1:], "")
    if not held:
        raise Undeliverable(f"the environment variable {address[1:]} is not set")
    return held


def check_notify(spec: SweepSpec, settings: Settings) -> None:
    """See before a sweep starts that its news can be sent.

    Raises:
        SpecError: a variable is not set, or a mail has no server to go through.
    """
    for address in spec.notify:
        try:
            found = check_address(resolved(address))
        except Undeliverable as error:
            raise SpecError(str(error), key="notify", remedy="Set it to an address, or remove it") from error
        except ValueError as error:
            problem = f"the environment variable {address[1:]} holds no address"
            raise SpecError(problem, key="notify", remedy="Set it to https://... or mailto:...") from error
        if found.startswith("mailto:") and settings.smtp_url is None:
            remedy = "Set SWEEPER_SMTP_URL to smtp://user:password@host:587"
            raise SpecError("a mail needs a server that sends it", key="notify", remedy=remedy)


def check_public(spec: SweepSpec) -> None:
    """See when a sweep is submitted that its web hooks lie outside the server's network, as they are looked up now.

    Raises:
        SpecError: one does not.
    """
    for address in spec.notify:
        url = urlsplit(address)
        if address.startswith("mailto:") or url.hostname is None:
            continue
        try:
            _public_address(url.hostname, url.port or 443)
        except Undeliverable as error:
            raise SpecError(str(error), key="notify", remedy="Use a public address") from error
        except OSError:  # not to be found now, perhaps later: it is looked up again whenever news is sent
            continue


def send(address: str, notice: Notice, settings: Settings, *, public_only: bool) -> None:
    """Send one notice once.

    Raises:
        Undeliverable: the address is refused.
        Exception: the network or the other side failed.
    """
    if address.startswith("mailto:"):
        _mail(address.removeprefix("mailto:"), notice, settings)
    else:
        _post(address, notice, settings.notify_secret, public_only=public_only)


def _post(url: str, notice: Notice, secret: str | None, *, public_only: bool) -> None:
    import httpx

    body = json.dumps(notice.body).encode()
    headers = {"Content-Type": "application/json", TIMESTAMP: str(int(time.time()))}
    if secret is not None:
        headers[SIGNATURE] = signature(secret, headers[TIMESTAMP], body)
    target, options = httpx.URL(url), {}
    if public_only:  # the host is looked up once, so that it cannot become another one after the check
        headers["Host"] = target.netloc.decode()
        options = {"sni_hostname": target.host}
        target = target.copy_with(host=_public_address(target.host, target.port or 443))
    with httpx.Client(timeout=TIMEOUT, trust_env=not public_only) as client:
        answer = client.post(target, content=body, headers=headers, extensions=options)
    if answer.is_redirect or (400 <= answer.status_code < 500 and answer.status_code not in (408, 425, 429)):
        raise Undeliverable(f"it answered {answer.status_code}")
    answer.raise_for_status()


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """``sha256=`` and the HMAC of ``timestamp.body``, in hexadecimal."""
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def _public_address(host: str, port: int) -> str:
    """An address of a host, all of which have to be public.

    Raises:
        Undeliverable: one is not.
    """
    found = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    if not found or not all(ipaddress.ip_address(each.split("%")[0]).is_global for each in found):
        raise Undeliverable(f"{host} is an address of the server's own network, which gets no news")
    return min(found)


def _mail(to: str, notice: Notice, settings: Settings) -> None:
    if settings.smtp_url is None:
        raise Undeliverable("SWEEPER_SMTP_URL is not set")
    server = urlsplit(settings.smtp_url)
    message = EmailMessage()
    message["Subject"] = f"sweep {notice.body['name']}: {notice.event}"
    message["From"] = unquote(server.username or "") if "@" in unquote(server.username or "") else "sweeper@localhost"
    message["To"] = to
    message.set_content(f"{notice.body['text']}\n\n{json.dumps(notice.body, indent=1)}\n")
    connect: Callable[..., smtplib.SMTP] = smtplib.SMTP_SSL if server.scheme == "smtps" else smtplib.SMTP
    with connect(server.hostname or "localhost", server.port or 0, timeout=TIMEOUT) as connection:
        connection.ehlo()
        if server.scheme != "smtps" and connection.has_extn("starttls"):
            connection.starttls()
        if server.username:
            connection.login(unquote(server.username), unquote(server.password or ""))
        connection.send_message(message)


def _shown(address: str) -> str:
    """An address without what may be secret: of a web hook its host."""
    return address if address.startswith(("$", "mailto:")) or not address else str(urlsplit(address).hostname)
