"""Who calls: the dependency of every route that needs a token."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from sweeper.service.auth import Authenticator, Identity

_bearer = HTTPBearer(auto_error=False, description="A token of `sweeper token create`.")


def caller(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Identity:
    """The identity of a request's token.

    Raises:
        Unauthorized: no token, or a wrong one.
        TooManyFailures: too many wrong ones from this address.
    """
    authenticator: Authenticator = request.app.state.authenticator
    address = request.client.host if request.client is not None else "unknown"
    return authenticator.identify(request.headers.get("authorization"), address)
