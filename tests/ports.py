"""Ports for servers that tests start in processes of their own."""

from __future__ import annotations

import os
import socket

FIRST, EACH = 20_000, 1_000  # below the ports that the kernel gives to connections, above those of Ray's workers
_given = 0


def own_port() -> int:
    """A port that nobody listens on, and that no other test process and no connection is given meanwhile.

    A port that the kernel chooses is free again as soon as it has been asked for, and may be gone before a server that
    takes seconds to start listens on it.
    """
    global _given  # noqa: PLW0603 - no port twice in one process
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")) + 1
    for _ in range(EACH):
        port = FIRST + worker * EACH + (os.getpid() + _given) % EACH
        _given += 1
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
