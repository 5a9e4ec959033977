"""The compose stack under a project name, ports and secrets of its own: built, started, asked, broken, taken away."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tests.faults import Site, wait_until
from tests.ports import own_port

ROOT = Path(__file__).parents[2]
WHEELS = ROOT / "deploy" / "wheels"
IMAGE, NEXT_IMAGE = "sweeper:test", "sweeper:test-next"
PROJECT = "sweeper-test"
BUILD_SECONDS, START_SECONDS = 1500, 420  # limits for machines that are busy with other things


def example_environment() -> str:
    """deploy/env.example with random secrets, as `make up` makes it."""
    command = ["sh", str(ROOT / "deploy" / "make-env.sh"), str(ROOT / "deploy" / "env.example")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def torch_build() -> str:
    """The kind of torch that these tests run with, for the image: cpu or cuda."""
    import torch

    return "cuda" if torch.version.cuda else "cpu"


def fetch_wheel() -> None:
    """The CPU build of torch that pip finds on this machine, for the image's build, which may not find it."""
    if torch_build() == "cpu" and not list(WHEELS.glob("torch-*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), "--dest", str(WHEELS), "torch"], check=True)


class Stack:
    """The services of docker-compose.yml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url, self.mlflow_url = (f"http://127.0.0.1:{own_port()}" for _ in range(2))
        self._file = folder / "env"
        ports = {"SWEEPER_PORT": self.url, "MLFLOW_PORT": self.mlflow_url}
        lines = [f"{name}={url.rpartition(':')[2]}" for name, url in ports.items()]
        lines += [f"SWEEPER_IMAGE={IMAGE}", f"TORCH={torch_build()}"]
        self._file.write_text(example_environment() + "\n".join(lines) + "\n")
        self.tokens: dict[str, str] = {}
        self.facts: list[str] = []

    def compose(self, *words: str, timeout: float = START_SECONDS) -> str:
        """Run docker compose; what it prints."""
        options = ["--file", str(ROOT / "docker-compose.yml"), "--project-name", PROJECT, "--env-file", str(self._file)]
        command = ["docker", "compose", *options, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-3000:]}\n{done.stdout[-1000:]}"
        return done.stdout

    def build(self) -> None:
        began = time.monotonic()
        fetch_wheel()
        self.compose("build", "--quiet", timeout=BUILD_SECONDS)
        size = int(docker("image", "inspect", "--format", "{{.Size}}", IMAGE))
        self.facts.append(f"image built in {time.monotonic() - began:.0f} s, {size / 1e9:.2f} GB")

    def up(self, what: str) -> None:
        """Start everything and wait until it is healthy."""
        began = time.monotonic()
        self.compose("up", "--detach", "--wait", "--no-build")
        self.facts.append(f"{what}: {time.monotonic() - began:.0f} s from `docker compose up` to healthy")

    def upgrade(self) -> None:
        """What `git pull && make up` comes to: another image under the services that run, and `docker compose up`."""
        build = ["docker", "build", "--quiet", "--tag", NEXT_IMAGE, "--label", "version=next", "-"]
        subprocess.run(build, input=f"FROM {IMAGE}\n", text=True, check=True, capture_output=True, timeout=120)
        self._file.write_text(self._file.read_text() + f"SWEEPER_IMAGE={NEXT_IMAGE}\n")
        self.up("upgrade during a sweep")

    def down(self, *words: str) -> None:
        self.compose("down", "--timeout", "20", *words, timeout=180)

    def close(self) -> None:
        """Take everything away but the image, whose layers the next build starts from."""
        self.down("--volumes")
        subprocess.run(["docker", "image", "rm", "--force", NEXT_IMAGE], check=False, capture_output=True, timeout=60)

    def logs(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "60")

    def inside(self, service: str, *words: str) -> str:
        """Run a command in a running container."""
        return self.compose("exec", "--no-TTY", service, *words)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--all", "--quiet", service).split()

    def kill(self, service: str) -> str:
        """SIGKILL to a container's first process from outside, as the kernel does it: the restart policy has to act.

        `docker kill` would count as the operator's wish that the container be gone.
        """
        container = self.containers(service)[0]
        process = docker("inspect", "--format", "{{.State.Pid}}", container)
        options = ["--rm", "--pid", "host", "--user", "0", "--network", "none", "--entrypoint", "bash"]
        docker("run", *options, IMAGE, "-c", f"kill -9 {process}")
        return container

    def restarts(self, container: str) -> int:
        return int(docker("inspect", "--format", "{{.RestartCount}}", container))

    def image(self, container: str) -> str:
        return docker("inspect", "--format", "{{.Config.Image}}", container)

    def events(self, sweep: str) -> list[dict[str, Any]]:
        """The log of a sweep."""
        lines = self.inside("sweeper", "cat", f"sweeps/{sweep}/events.jsonl").splitlines()
        return [json.loads(line) for line in lines]

    def site(self, user: str) -> Site:
        """The command line of a user on a machine of their own, pointed at the server."""
        if user not in self.tokens:
            made = self.inside("sweeper", "sweeper", "token", "create", user, "--role", "user", "--json")
            self.tokens[user] = json.loads(made)["token"]
        environment = {"SWEEPER_SERVER": self.url, "SWEEPER_TOKEN": self.tokens[user]}
        return Site(self.folder / user, environment | {"MLFLOW_TRACKING_URI": self.mlflow_url})

    def http(self, user: str | None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.tokens[user]}"} if user else {}
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=60)

    def sweep(self, user: str, sweep: str) -> dict[str, Any]:
        """The sweep object; an empty one while there is none, or nobody answers."""
        try:
            answer = self.http(user).get(f"/sweeps/{sweep}")
        except httpx.TransportError:
            return {}
        return dict(answer.json()) if answer.status_code == 200 else {}

    def wait_for_trials(self, user: str, sweep: str, number: int, timeout: float = 240) -> dict[str, Any]:
        """The sweep object once so many trials have ended."""
        seen: dict[str, Any] = {}

        def enough() -> bool:
            seen.update(self.sweep(user, sweep))
            return sum(seen.get(state, 0) for state in ("complete", "pruned", "failed", "stopped")) >= number

        wait_until(enough, timeout)
        return seen

    def ready(self) -> int:
        """How many workers the sweeper has, when it says that it can run sweeps; otherwise 0."""
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=5)
        except httpx.TransportError:
            return 0
        return int(answer.json()["workers"]) if answer.status_code == 200 else 0


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True, timeout=120).stdout.strip()
