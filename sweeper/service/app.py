"""The HTTP side of the service: the application with its routes, and the server that runs it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sweeper import __version__
from sweeper.errors import SpecError, SweeperError
from sweeper.ledger.opening import open_home_ledger
from sweeper.ledger.protocol import Ledger
from sweeper.logs import log_to_stderr
from sweeper.service import pictures
from sweeper.service.answers import Info, Upload, Uploads
from sweeper.service.auth import Authenticator, Role
from sweeper.service.desk import Desk
from sweeper.service.link import ServiceView
from sweeper.service.metrics import CONTENT_TYPE, Metrics
from sweeper.service.problems import TooLarge, install, responses
from sweeper.service.routes import BODY_BYTES, AtDesk, Who, router
from sweeper.service.submission import UPLOAD_NAME
from sweeper.service.uploads import clear_scratch, folder_of, store, uploads_of
from sweeper.settings import Settings

log = logging.getLogger("sweeper")

DATASET_BYTES = 1 << 30
QUOTA_BYTES = 10 << 30  # of all uploads of one user
QUOTA_VARIABLE = "SWEEPER_UPLOAD_QUOTA"
MLFLOW_URL_VARIABLE = "SWEEPER_MLFLOW_URL"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
PAGE_FILES = {"page.js": "text/javascript", "pictures.js": "text/javascript", "page.css": "text/css"}


def create_app(
    settings: Settings,
    ledger: Ledger,
    service: ServiceView,
    mlflow_url: str | None = None,
    dataset_bytes: int = DATASET_BYTES,
    quota_bytes: int = QUOTA_BYTES,
    allow_code: Role | None = None,
) -> FastAPI:
    """The application on a ledger and a service that somebody else starts and stops."""
    app = FastAPI(
        title="sweeper",
        version=__version__,
        summary="Hyperparameter sweeps for MLPs on one shared cluster.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.desk = Desk(settings, ledger, service, mlflow_url, allow_code)
    app.state.authenticator = Authenticator(ledger)
    app.state.metrics = Metrics(ledger, service)
    app.state.dataset_bytes, app.state.quota_bytes = dataset_bytes, quota_bytes
    install(app)
    app.add_middleware(Watch, metrics=app.state.metrics)
    app.include_router(router)
    app.include_router(pictures.router)
    _add_common(app)
    _add_health(app)
    _add_page(app)
    return app


class Watch:
    """ASGI: count and time every request under its route; answers are not sniffed and not kept."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-store")
                route = getattr(scope.get("route"), "path", "none")
                self._metrics.request(scope["method"], route, message["status"], time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, watched)


def _add_common(app: FastAPI) -> None:
    errors = responses(401, 422, 429, 503)

    @app.get("/api/v1/info", response_model=Info, responses=errors, tags=["service"])
    def info(who: Who, desk: AtDesk) -> Response:
        """The service's version and limits, and who you are."""
        limits = {
            "dataset_bytes": app.state.dataset_bytes,
            "body_bytes": BODY_BYTES,
            "quota_bytes": app.state.quota_bytes,
        }
        about = {"version": __version__, "user": who.user, "role": str(who.role), "mlflow": desk.mlflow_url}
        return JSONResponse({**about, "limits": limits, "takes_code": desk.takes_code(who)})

    @app.post(
        "/api/v1/datasets",
        status_code=201,
        response_model=Upload,
        responses={**errors, **responses(403, 413, 507)},
        tags=["datasets"],
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def upload(
        request: Request,
        who: Who,
        filename: Annotated[str, Query(min_length=1, max_length=255, examples=["data.csv"])],
    ) -> Response:
        """Upload a dataset. Only you can use it."""
        who.require_writing()
        limit = app.state.dataset_bytes
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > limit:
            raise TooLarge(f"the file has more than {limit:,} bytes", key="body", remedy="Send a smaller file")
        home = app.state.desk.settings.home
        return JSONResponse(
            await store(folder_of(home, who.user), filename, request.stream(), limit, app.state.quota_bytes), 201
        )

    @app.get("/api/v1/datasets", response_model=Uploads, responses=errors, tags=["datasets"])
    def uploads(who: Who, desk: AtDesk) -> Response:
        """The files that you have uploaded, the newest first."""
        found = uploads_of(folder_of(desk.settings.home, who.user))
        used = sum(file["bytes"] for file in found)
        return JSONResponse({"datasets": found, "used_bytes": used, "quota_bytes": app.state.quota_bytes})

    @app.delete(
        "/api/v1/datasets/{upload}",
        status_code=204,
        response_class=Response,
        responses={**errors, **responses(403, 404, 409)},
        tags=["datasets"],
    )
    def delete_upload(upload: str, who: Who, desk: AtDesk) -> Response:
        """Delete a file that you have uploaded, unless a sweep that has not ended uses it."""
        desk.delete_upload(who, upload)
        return Response(status_code=204)

    there_or_not: dict[int | str, dict[str, Any]] = {
        200: {"description": "You have it."},
        404: {"description": "You have not."},
    }

    @app.head("/api/v1/datasets/{upload}", response_class=Response, responses=errors | there_or_not, tags=["datasets"])
    def uploaded(upload: str, who: Who) -> Response:
        """Whether you have uploaded this file."""
        home = app.state.desk.settings.home
        there = UPLOAD_NAME.fullmatch(upload) is not None and (folder_of(home, who.user) / upload).is_file()
        return Response(status_code=200 if there else 404)


def _add_health(app: FastAPI) -> None:
    desk: Desk = app.state.desk

    @app.get("/healthz", tags=["service"], response_model=dict[str, Any])
    def healthz() -> Response:
        """Whether the HTTP process works. The ledger or workers may still be missing."""
        alive = desk.service.alive and not desk.service.stopping
        return JSONResponse({"status": "ok" if alive else "stopping"}, 200 if alive else 503)

    @app.get("/readyz", tags=["service"], response_model=dict[str, Any], responses={503: {"model": dict[str, Any]}})
    def readyz() -> Response:
        """Whether sweeps can run: ledger and workers are there."""
        problems = {}
        try:
            desk.ledger.count_sweeps()
        except SweeperError as error:
            problems["ledger"] = str(error)
        if desk.service.pool_problem is not None:
            problems["workers"] = desk.service.pool_problem
        elif not desk.service.workers:
            problems["workers"] = "no worker has joined yet"
        if desk.service.stopping or not desk.service.alive:
            problems["service"] = "it is stopping"
        state = {"status": "not ready" if problems else "ready", "workers": len(desk.service.workers)}
        return JSONResponse({**state, "problems": problems}, 503 if problems else 200)

    @app.get("/metrics", tags=["service"], response_class=Response)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(await run_in_threadpool(app.state.metrics.text), media_type=CONTENT_TYPE)


def _add_page(app: FastAPI) -> None:
    folder = files("sweeper.service").joinpath("page")

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        text = folder.joinpath("page.html").read_text(encoding="utf-8")
        return HTMLResponse(text, headers={"Content-Security-Policy": PAGE_POLICY})

    @app.get("/page/{name}", include_in_schema=False)
    def page_file(name: str) -> Response:
        if name not in PAGE_FILES:
            return Response(status_code=404)
        return Response(folder.joinpath(name).read_text(encoding="utf-8"), media_type=PAGE_FILES[name])


class _Server(uvicorn.Server):
    """Tells open streams of the end before they are waited for, and returns after a signal.

    uvicorn's own way is to raise the signal again, which would end the process before the ledger is closed.
    """

    def __init__(self, config: uvicorn.Config, service: ServiceView) -> None:
        super().__init__(config)
        self._service = service

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals here while the server runs."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM or Ctrl-C."""
        self._service.announce_stop()
        super().handle_exit(sig, frame)


def run(settings: Settings, listening: socket.socket, end: socket.socket, allow_code: Role | None = None) -> None:
    """Answer requests on a socket until SIGTERM or Ctrl-C; ``end`` leads to the service.

    Raises:
        LedgerError: the ledger cannot be opened.
    """
    log_to_stderr()
    ledger = open_home_ledger(settings)
    clear_scratch(settings.home)
    service = ServiceView(end)
    app = create_app(settings, ledger, service, _mlflow_url(settings), quota_bytes=_quota(), allow_code=allow_code)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=5, server_header=False, lifespan="off"
    )
    address = listening.getsockname()
    print(f"sweeper: listening on http://{_shown(address[0])}:{address[1]}", file=sys.stderr, flush=True)
    try:
        _Server(config, service).run(sockets=[listening])
    finally:
        ledger.close()


def _quota() -> int:
    text = os.environ.get(QUOTA_VARIABLE, str(QUOTA_BYTES))
    if not (text.isascii() and text.isdigit()):
        remedy = "Write a number of bytes, such as 10737418240"
        raise SpecError(f"{text[:40]!r} is not a number of bytes", key=QUOTA_VARIABLE, remedy=remedy)
    return int(text)


def _mlflow_url(settings: Settings) -> str | None:
    from sweeper.tracking.store import is_server

    public = os.environ.get(MLFLOW_URL_VARIABLE)
    uri = settings.mlflow_tracking_uri or ""
    return (public or (uri if is_server(uri) else "")).rstrip("/") or None


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
