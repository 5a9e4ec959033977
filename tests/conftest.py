"""Fixtures that several test folders share."""

from __future__ import annotations

import pytest

from tests.postgres import start_postgres

postgres = pytest.fixture(scope="session", name="postgres")(start_postgres)
