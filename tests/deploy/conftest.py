"""The stack, started once for all of its tests; what was measured is printed at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.deploy.stack", "tests.faults")

from tests.deploy.stack import Stack  # noqa: E402 - after the line above

FACTS = pytest.StashKey[list[str]]()


def _engine_problem() -> str:
    """Why there is no Docker Engine to use; empty when there is one."""
    if problem := os.environ.get("ENGINE_PROBLEM"):
        return problem
    if shutil.which("docker") is None:
        return "docker is not installed"
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return f"`{' '.join(command)}` fails"
    return ""


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, built and healthy."""
    if problem := _engine_problem():
        pytest.skip(f"no Docker Engine: {problem}. `make test-deploy` installs one on Debian as root")
    stack = Stack(tmp_path_factory.mktemp("stack"))
    request.config.stash[FACTS] = stack.facts
    stack.build()
    failed = request.session.testsfailed
    try:
        stack.close()  # of a run that was cut off
        stack.up("first start")
        yield stack
    except BaseException:
        failed = -1
        raise
    finally:
        if request.session.testsfailed != failed:
            print(stack.logs())
        stack.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(FACTS, []):
        terminalreporter.write_line(f"measured: {line}")
