"""Where a sweep's news go: addresses of a sweep file's ``notify``."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from sweeper.spec.section import refuse
from sweeper.spec.warm import as_tuple

WAYS = "https://..., mailto:me@example.org, or $NAME for an environment variable that holds one"
_VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_MAIL = re.compile(r"mailto:[^@\s:,;<>]+@[^@\s:,;<>]+")
MOST = 10


def check_address(address: str) -> str:
    """An address that news can be sent to: a web hook, a mail address, or the name of a variable that holds one."""
    if _VARIABLE.fullmatch(address) or _MAIL.fullmatch(address):
        return address
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not address.isprintable() or " " in address or len(address) > 2000:
        refuse(f"{address[:60]!r} is no address", remedy=f"Write {WAYS}")
    return address


Addresses = Annotated[
    tuple[Annotated[str, AfterValidator(check_address)], ...], BeforeValidator(as_tuple), Field(max_length=MOST)
]
