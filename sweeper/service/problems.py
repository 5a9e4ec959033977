"""Errors of the service as RFC 9457 problem details, with the same messages as the command line."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sweeper.errors import LedgerError, NoTrialSucceeded, SpecError, SweepBusy, SweeperError, SweepNotFound
from sweeper.service.auth import Forbidden, TooManyFailures, Unauthorized

log = logging.getLogger("sweeper")


class TooLarge(SpecError):
    """The request's body is larger than the service takes."""


class QuotaExceeded(SpecError):
    """A user's files would take more room than one user may have."""


class UploadNotFound(SpecError):
    """The caller has no file of that name."""


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "The request cannot be carried out as it is",
                "status": 422,
                "detail": "search.trails: unknown key. Did you mean 'trials'?",
                "key": "search.trails",
                "remedy": "Did you mean 'trials'?",
                "exit_code": 2,
            }
        }
    )
    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="The message that the command line prints for this error.")
    key: str | None = Field(default=None, description="The key of the sweep file, or the parameter, that is wrong.")
    file: str | None = None
    remedy: str | None = Field(default=None, description="What to do about it.")
    exit_code: int = Field(default=1, description="The command line's exit code for this error.")


_STATUS: tuple[tuple[type[SweeperError], int, str], ...] = (
    (TooLarge, 413, "The request is too large"),
    (QuotaExceeded, 507, "Your upload quota is used up"),
    (UploadNotFound, 404, "There is no such file among your uploads"),
    (SpecError, 422, "The request cannot be carried out as it is"),
    (SweepNotFound, 404, "There is no such sweep"),
    (SweepBusy, 409, "The sweep is busy"),
    (NoTrialSucceeded, 409, "No trial succeeded"),
    (Unauthorized, 401, "A token is needed"),
    (Forbidden, 403, "The token does not allow this"),
    (TooManyFailures, 429, "Too many wrong tokens"),
    (LedgerError, 503, "The ledger cannot be used"),
    (SweeperError, 500, "It did not work"),
)
_TITLES = {400: "The request is malformed", 404: "There is no such resource", 405: "This is not possible here"}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of these error answers."""
    titles = {status: title for _, status, title in _STATUS} | _TITLES
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": titles.get(status, "A problem"), "content": {"application/problem+json": schema}}
        for status in statuses
    }


def problem(error: SweeperError) -> JSONResponse:
    """The answer to an error of ours."""
    status, title = next((status, title) for kind, status, title in _STATUS if isinstance(error, kind))
    headers = {}
    if isinstance(error, TooManyFailures):
        headers["Retry-After"] = str(int(error.retry_after) + 1)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    detail = Problem(title=title, status=status, detail=str(error), exit_code=error.exit_code)
    if isinstance(error, SpecError):
        detail = detail.model_copy(update={"key": error.key, "file": error.file, "remedy": error.remedy})
    return _answer(detail, headers)


def _answer(detail: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(
        detail.model_dump(exclude_none=True), detail.status, headers=headers, media_type="application/problem+json"
    )


def install(app: FastAPI) -> None:
    """Let the application answer every error as problem details."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, SweeperError)
        return problem(error)

    async def validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = error.errors()[0]
        key = ".".join(str(part) for part in found["loc"][1:]) or "body"
        return problem(SpecError(str(found["msg"])[:300], key=key[:100]))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        title = _TITLES.get(error.status_code, str(error.detail))
        detail = Problem(title=title, status=error.status_code, detail=str(error.detail))
        return _answer(detail, dict(error.headers or {}))

    async def internal(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        text = f"internal error: {type(error).__name__}. The server's log has the details"
        return _answer(Problem(title="Internal error", status=500, detail=text))

    async def gone(request: Request, error: Exception) -> JSONResponse:
        return _answer(
            Problem(title=_TITLES[400], status=400, detail="the client went away before its request was read")
        )

    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(SweeperError, ours)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, internal)
