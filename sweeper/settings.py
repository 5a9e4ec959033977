"""Settings of one process, read from the environment variables of the contract."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweeper.errors import SpecError

HOME_VARIABLE = "SWEEPER_HOME"
SERVER_VARIABLE = "SWEEPER_SERVER"


@dataclass(frozen=True)
class Settings:
    """Where this process keeps its files, and which services it talks to (None: the local default).

    Values that can hold a password stay out of the representation.
    """

    home: Path
    database_url: str | None = field(default=None, repr=False)
    server: str | None = None
    token: str | None = field(default=None, repr=False)
    mlflow_tracking_uri: str | None = field(default=None, repr=False)
    ray_address: str | None = None
    smtp_url: str | None = field(default=None, repr=False)
    notify_secret: str | None = field(default=None, repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment without touching the disk. An empty variable counts as unset."""
        env = os.environ if environ is None else environ
        return cls(
            home=Path(os.path.abspath(os.path.expanduser(env.get(HOME_VARIABLE) or ".sweeper"))),
            database_url=env.get("SWEEPER_DATABASE_URL") or None,
            server=env.get(SERVER_VARIABLE) or None,
            token=env.get("SWEEPER_TOKEN") or None,
            mlflow_tracking_uri=env.get("MLFLOW_TRACKING_URI") or None,
            ray_address=env.get("RAY_ADDRESS") or None,
            smtp_url=env.get("SWEEPER_SMTP_URL") or None,
            notify_secret=env.get("SWEEPER_NOTIFY_SECRET") or None,
        )

    def ensure_home(self) -> Path:
        """Create the home folder, readable by its owner only, and prove that it can be written.

        Raises:
            SpecError: the folder cannot be made or written.
        """
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.home):
                pass
        except OSError as error:
            raise SpecError(
                f"the folder {str(self.home)!r} cannot be written ({error.strerror or error})",
                key=HOME_VARIABLE,
                remedy="Make it writable, or set SWEEPER_HOME to a folder that is",
            ) from error
        return self.home
