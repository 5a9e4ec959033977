"""Load on a service: 50 clients polling and 10 submitting; prints percentiles and what went wrong.

python -m tests.load [--seconds 20] [--pollers 50] [--submitters 10] [--url URL --token TOKEN]

Without a URL it starts ``sweeper serve --workers inline`` on a folder of its own.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import httpx

from tests.faults import INLINE, Site, wait_until
from tests.ports import own_port
from tests.served import SMALL

READS = ("/sweeps?limit=20", "/sweeps/{}", "/sweeps/{}/trials?limit=100", "/sweeps/{}/best", "/info")


class Load:
    """What many clients saw: the seconds of every answer by kind, and the answers that were not 2xx."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.headers = f"{url}/api/v1", {"Authorization": f"Bearer {token}"}
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.wrong: Counter[str] = Counter()
        self.sweeps: list[str] = []
        self.over = threading.Event()

    def call(self, client: httpx.Client, kind: str, method: str, path: str, **options: object) -> httpx.Response | None:
        began = time.perf_counter()
        try:
            answer = client.request(method, self.url + path, **options)  # type: ignore[arg-type]
        except httpx.TransportError as error:
            self.wrong[type(error).__name__] += 1
            return None
        self.seconds[kind].append(time.perf_counter() - began)
        if not answer.is_success:
            self.wrong[str(answer.status_code)] += 1
        return answer

    def poll(self, pause: float) -> None:
        draw = random.Random()
        with httpx.Client(headers=self.headers, timeout=60) as client:
            while not self.over.is_set():
                path = draw.choice(READS)
                if "{}" in path and self.sweeps:
                    path = path.format(draw.choice(self.sweeps))
                if "{}" not in path:
                    self.call(client, "read", "GET", path)
                self.over.wait(draw.uniform(0, 2 * pause))

    def submit(self, pause: float, trials: int) -> None:
        draw = random.Random()
        spec = SMALL | {"search": {"trials": trials, "sampler": "random"}, "training": {"epochs": 1}}
        with httpx.Client(headers=self.headers, timeout=60) as client:
            while not self.over.is_set():
                answer = self.call(client, "submit", "POST", "/sweeps", json=spec | {"name": f"load-{draw.random()}"})
                if answer is not None and answer.status_code == 201:
                    self.sweeps.append(answer.json()["sweep"])
                self.over.wait(draw.uniform(0, 2 * pause))

    def run(self, seconds: float, pollers: int, submitters: int) -> None:
        threads = [threading.Thread(target=self.poll, args=(1.0,)) for _ in range(pollers)]
        threads += [threading.Thread(target=self.submit, args=(5.0, 4)) for _ in range(submitters)]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        self.over.set()
        for thread in threads:
            thread.join()

    def show(self) -> None:
        for kind, values in sorted(self.seconds.items()):
            cuts = statistics.quantiles(values, n=100) if len(values) > 1 else [values[0]] * 99
            print(f"{kind}: {len(values)} answers, p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms")
        errors = sum(n for status, n in self.wrong.items() if status.startswith("5"))
        print(f"5xx: {errors}, other failures: {dict(self.wrong)}, sweeps: {len(self.sweeps)}")


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=60).status_code == 200
    except httpx.TransportError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--pollers", type=int, default=50)
    parser.add_argument("--submitters", type=int, default=10)
    parser.add_argument("--url")
    parser.add_argument("--token")
    options = parser.parse_args()
    site: Site | None = None
    process: subprocess.Popen[str] | None = None
    url, token = options.url, options.token
    if url is None:
        site = Site(Path(tempfile.mkdtemp(prefix="sweeper-load-")))
        token = site.answer("token", "create", "load")["token"]
        port = own_port()
        url = f"http://127.0.0.1:{port}"
        process = site.start("serve", "--port", str(port), *INLINE)
    try:
        wait_until(lambda: is_ready(url), 120)
        load = Load(url, token)
        load.run(options.seconds, options.pollers, options.submitters)
        load.show()
    finally:
        if site is not None and process is not None:
            process.terminate()
            process.communicate(timeout=60)
            site.close()


if __name__ == "__main__":
    sys.exit(main())
