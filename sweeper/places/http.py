"""HTTP to a sweep server: one request at a time, and what each kind of failure means to a user."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from sweeper.errors import (
    NoTrialSucceeded,
    ServerUnreachable,
    SpecError,
    SweepBusy,
    SweeperError,
    SweepNotFound,
)

PREFIX = "/api/v1"
WHERE = "SWEEPER_SERVER or --server"
TIMEOUT = httpx.Timeout(60.0, connect=10.0)
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
UNAVAILABLE = (502, 503, 504)  # what a proxy says while the server behind it restarts
PROBLEM = "application/problem+json"
TLS_REMEDY = "Set SSL_CERT_FILE to the certificate of its authority, or fix the certificate"
_ERRORS = {2: SpecError, 3: NoTrialSucceeded, 4: SweepNotFound}


class Server:
    """A sweep server at ``url``. Every failure of a request is a SweeperError that says what to do about it.

    ``time`` is the server's clock at its last answer, in whole Unix seconds.

    Raises:
        SpecError: the address or the token cannot be used.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self.url = checked_url(url)
        self.api = self.url + PREFIX
        self.time = 0.0
        self.has_token = token is not None
        headers = {"Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {_checked_token(token)}"
        mounts = {f"all://{host}": None for host in LOOPBACK}  # no proxy knows the way to this machine
        try:
            self._client = httpx.Client(
                base_url=self.api, headers=headers, timeout=TIMEOUT, mounts=mounts, follow_redirects=False
            )
        except (ValueError, OSError, ssl.SSLError) as error:  # a proxy or certificate file of the environment
            remedy = "Check HTTPS_PROXY, HTTP_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
            raise SpecError(f"no connection can be made ({error})", key="environment", remedy=remedy) from error

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET request. Query values of None are left out."""
        return self.send("GET", path, params={key: value for key, value in query.items() if value is not None})

    def send(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of a request's answer, None where the answer is empty."""
        with self._translated():
            response = self._client.request(method, path, **options)
        self.check(response)
        if response.status_code == httpx.codes.NO_CONTENT:
            return None
        return self._json(response)

    def exists(self, path: str) -> bool:
        """Whether a HEAD request finds something."""
        with self._translated():
            response = self._client.head(path)
        if response.status_code == httpx.codes.NOT_FOUND:
            return False
        self.check(response)
        return True

    @contextlib.contextmanager
    def stream(self, path: str, **options: Any) -> Iterator[httpx.Response]:
        """A successful answer whose body is read piece by piece. Failures on the way are translated, too."""
        with self._translated(), self._client.stream("GET", path, **options) as response:
            if not response.is_success:
                response.read()
            self.check(response)
            yield response

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> SweeperError:
        """What a request that got no answer means."""
        cause, reason = _cause(error), " ".join(str(error).split())
        if isinstance(cause, ssl.SSLCertVerificationError):
            return SweeperError(f"{self.url}: its certificate is refused ({cause.verify_message}). {TLS_REMEDY}")
        if isinstance(cause, ssl.SSLError):
            remedy = "Check the port, and whether the address begins with http:// or https://"
            return SweeperError(f"{self.url}: no encrypted connection can be made ({cause.reason}). {remedy}")
        if isinstance(error, httpx.ProxyError):
            reason = f"the proxy answered {reason}"
        elif isinstance(error, httpx.ConnectTimeout):
            reason = "no connection within 10 seconds"
        elif isinstance(error, httpx.TimeoutException):
            reason = "no answer within a minute"
        elif isinstance(error, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError):
            reason = "the connection was cut"
        elif isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
        remedy = f"Check that it runs, and its address ({WHERE})"
        return ServerUnreachable(f"the server {self.url} cannot be reached ({reason}). {remedy}")

    def check(self, response: httpx.Response) -> None:
        """Turn an answer that is no success into the error it stands for.

        Raises:
            SweeperError: of the class and with the words that the same mistake has without a server.
        """
        with contextlib.suppress(KeyError, ValueError):
            self.time = parsedate_to_datetime(response.headers["date"]).timestamp()
        if response.is_success:
            return
        status, problem = response.status_code, _problem(response)
        if status == httpx.codes.UNAUTHORIZED:
            raise SweeperError(self._unauthorized())
        if status in UNAVAILABLE:
            reason = problem.get("detail") or f"status {status}"
            raise ServerUnreachable(f"the server {self.url} is not available ({reason}). Try again in a while")
        if problem:
            raise _error(response, problem)
        if response.is_redirect:
            target = response.headers.get("location", "elsewhere").partition("?")[0].removesuffix(response.url.path)
            raise SweeperError(f"{self.url} redirects to another address: use {target} instead ({WHERE})")
        raise SweeperError(f"{self.url} answered {_kind(response)}: {self._stranger()}")

    def _unauthorized(self) -> str:
        if not self.has_token:
            return (
                f"the server {self.url} requires a token. Set SWEEPER_TOKEN; the server's administrator creates tokens"
            )
        return (
            f"the server {self.url} rejects the token in SWEEPER_TOKEN: it is wrong or was revoked. "
            "Ask its administrator for another (sweeper token create)"
        )

    def _json(self, response: httpx.Response) -> Any:
        if "json" not in response.headers.get("content-type", ""):
            raise SweeperError(f"{self.url} answered {_kind(response)} and not JSON: {self._stranger()}")
        try:
            return response.json()
        except ValueError as error:
            raise SweeperError(f"{self.url} answered with JSON that cannot be read ({error})") from error

    def _stranger(self) -> str:
        return f"this seems to be no sweep server. Check the address ({WHERE})"


def checked_url(url: str) -> str:
    """The address without a trailing slash and without the API's prefix.

    Raises:
        SpecError: it is no http(s) address, or holds a user or a query.
    """
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        usable = usable and url.isascii() and url.isprintable() and " " not in url.strip()
    except ValueError:
        usable = False
    if not usable:
        example = "Write it like http://127.0.0.1:8700 or https://sweeps.example.org"
        raise SpecError("this is not the address of a server", key=WHERE, remedy=example)
    if parts.username is not None or parts.query or parts.fragment:
        remedy = "Leave out user, password and query; the token goes into SWEEPER_TOKEN"
        raise SpecError("it contains more than host, port and path", key=WHERE, remedy=remedy)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix(PREFIX)}"


def _checked_token(token: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token:
        remedy = "Copy it again, without spaces and line breaks"
        raise SpecError("it contains characters that a token cannot have", key="SWEEPER_TOKEN", remedy=remedy)
    return token


def _cause(error: BaseException) -> BaseException:
    """The system's or TLS's own error below httpx's."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError):  # ssl.SSLError is one, too
            return link
        link = link.__cause__ or link.__context__
    return error


def _problem(response: httpx.Response) -> Mapping[str, Any]:
    """The problem details of an answer (RFC 9457), empty when it has none."""
    if not response.headers.get("content-type", "").startswith(PROBLEM):
        return {}
    with contextlib.suppress(ValueError):
        found = json.loads(response.content)
        if isinstance(found, dict):
            return found
    return {}


def _error(response: httpx.Response, problem: Mapping[str, Any]) -> SweeperError:
    """The error that the command line raises for the same mistake."""
    status, code = response.status_code, problem.get("exit_code")
    detail = str(problem.get("detail") or problem.get("title") or f"the server answered {status}")
    if status == httpx.codes.TOO_MANY_REQUESTS:
        wait = response.headers.get("retry-after", "")
        again = f"in {wait} seconds" if wait.isdecimal() else "later"
        return SweeperError(f"{detail.rstrip('.')}. Try again {again}")
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return SweeperError(f"the server had an error: {detail}. See its log")
    if status == httpx.codes.CONFLICT:
        return SweepBusy(detail)
    error = _ERRORS.get(code, SweeperError)(detail) if isinstance(code, int) else SweeperError(detail)
    if isinstance(error, SpecError):
        error.key, error.file, error.remedy = (problem.get(name) for name in ("key", "file", "remedy"))
    return error


def _kind(response: httpx.Response) -> str:
    kind = response.headers.get("content-type", "").partition(";")[0]
    return f"{response.status_code} with {kind}" if kind else str(response.status_code)
