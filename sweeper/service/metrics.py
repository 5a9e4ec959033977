"""The metrics for Prometheus: requests, sweeps and trials by state, workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sweeper.errors import SweeperError
from sweeper.states import SweepState, TrialState

if TYPE_CHECKING:
    from sweeper.ledger.protocol import Ledger
    from sweeper.service.link import ServiceView

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The metrics of one server process."""

    def __init__(self, ledger: Ledger, service: ServiceView) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_State(ledger, service))
        names = ["method", "route", "status"]
        self._requests = Counter("sweeper_requests", "Answered requests.", names, registry=self._registry)
        self._seconds = Histogram(
            "sweeper_request_seconds", "Time to the start of the answer.", ["route"], registry=self._registry
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _State(Collector):
    """Read from the ledger when it is asked for."""

    def __init__(self, ledger: Ledger, service: ServiceView) -> None:
        self._ledger, self._service = ledger, service

    def collect(self) -> Iterator[Metric]:
        workers = GaugeMetricFamily("sweeper_workers", "Workers that have joined.")
        workers.add_metric([], len(self._service.workers))
        yield workers
        sweeps = GaugeMetricFamily("sweeper_sweeps", "Sweeps by state.", labels=["state"])
        trials = GaugeMetricFamily("sweeper_trials", "Trials of queued, running and paused sweeps.", labels=["state"])
        counts = dict.fromkeys(TrialState, 0)
        try:
            for state in SweepState:
                sweeps.add_metric([str(state)], self._ledger.count_sweeps(state=state))
                if not state.terminal:
                    for record in self._ledger.sweeps(state=state):
                        for name, count in record.counts.items():
                            counts[TrialState(name)] += count
        except SweeperError:
            return  # the ledger is away: /readyz says so
        for name, count in counts.items():
            trials.add_metric([str(name)], count)
        yield sweeps
        yield trials
