"""The workers that run legs: Ray actors, one per device. The only importer of ray."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from sweeper.data.source import Source
from sweeper.errors import SweeperError
from sweeper.scheduling.events import WorkerDraining, WorkerLost
from sweeper.training.leg_runner import LegRunner
from sweeper.training.legs import LegOrder, LegResult
from sweeper.training.pool import (
    Device,
    LegRaised,
    LegReturned,
    Order,
    Post,
    cpu,
    describe,
    is_out_of_memory,
    local_device,
    unknown,
)
from sweeper.training.ray_places import lend_token, protect_token, usable_folder

if TYPE_CHECKING:
    from sweeper.training.objective_legs import ObjectiveRunner

NODE_POLL_SECONDS = 0.5  # a look takes 2 ms
JOIN_SECONDS = 300.0  # a worker that has not come up by then hangs, or others hold its place: it is asked for again


def _end_process(pid: int) -> None:
    """Runs on a node: kill what is left of a worker there, unless its number belongs to another program by now."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::_Actor"):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _few_processes() -> Iterator[None]:
    """A Ray that is started in here has no autoscaler, no dashboard and nobody who collects its logs.

    A Ray of our own needs none of them, and their start, for which ``ray.init`` waits, takes 1.5 s of CPU. Ray has no
    option for that: a Ray in which their starters have other names starts them as usual.
    """
    from ray._private import node

    places: Any = node
    usual = places.Node
    starters = ("start_monitor", "start_log_monitor", "start_api_server")

    def no_dashboard(made: Any, **_: Any) -> None:
        made._webui_url = None

    if all(hasattr(usual, name) for name in starters):
        ours = (lambda _: None, lambda _: None, no_dashboard)
        places.Node = type("Node", (usual,), dict(zip(starters, ours, strict=True)))
    try:
        yield
    finally:
        places.Node = usual


class _Actor:
    """What runs inside a Ray worker process."""

    def __init__(self, device: str, cores: int = 1) -> None:
        self._device = local_device(cores) if device == "cuda" else cpu()
        self._runner = LegRunner(self._device.kind, threads=1 if device == "cpu" else None)
        self._objectives: ObjectiveRunner | None = None

    def device(self) -> Device:
        return self._device

    def load(self, sweep: str, source: Source) -> None:
        self._runner.load(sweep, source)

    def run(self, order: Order) -> LegResult:
        if isinstance(order, LegOrder):
            return self._runner.run(order)
        if self._objectives is None:
            from sweeper.training.objective_legs import ObjectiveRunner  # which a worker of networks never waits for

            self._objectives = ObjectiveRunner()
        return self._objectives.run(order)

    def forget(self, sweep: str) -> None:
        if self._objectives is not None:
            self._objectives.forget(sweep)


@dataclass
class _Slot:
    """One place for an actor on a node; a replacement keeps the name."""

    name: str
    node: str
    device: str
    cores: int = 1
    actor: Any = None
    info: Device | None = None
    loaded: str | None = None  # the sweep whose data the actor was given last: it keeps no other without rows
    leg: int | None = None
    draining: bool = False
    asked_at: float = 0.0  # when the actor was asked for, by the monotonic clock


class RayPool:
    """One actor per GPU of the Ray cluster, or per core of a node without one; nodes may come and go.

    ``address`` None starts a Ray of its own on this machine; ``workers`` bounds the number of actors (None: all).
    ``apart``: the actors ask Ray for nothing, and so find room where another pool holds every core and GPU.
    Ray calls back in threads of its own, in which a call of Ray would wait for itself: they only put what there is
    to do into ``_inbox``, and the pool's thread does it.
    """

    def __init__(self, post: Post, address: str | None = None, workers: int | None = None, apart: bool = False) -> None:
        self._post, self._apart = post, apart
        self._address, self.address = address or "local", address
        self._limit = workers
        self._slots: dict[str, _Slot] = {}
        self._data: dict[str, Any] = {}
        self._closing = threading.Event()
        self._lock = threading.RLock()
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._watcher = threading.Thread(target=self._watch, name="sweeper-nodes", daemon=True)
        self._mine = False

    def start(self) -> None:
        """Connect (or start Ray) in this thread, then watch the nodes in another.

        Raises:
            SweeperError: Ray cannot be reached or started.
        """
        self.connect()
        self._watcher.start()

    def connect(self) -> None:
        """Connect to Ray, or start one, without workers; again, it does nothing.

        Raises:
            SweeperError: Ray cannot be reached or started.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        # without -v: Ray's warnings are about our thread and about the token
        verbose = logging.getLogger("sweeper").isEnabledFor(logging.INFO)
        if not verbose:
            logging.getLogger("ray").setLevel(logging.ERROR)
        if not ray.is_initialized():
            local = {"num_cpus": max(self._limit, os.cpu_count() or 1)} if self._limit else {}
            options: dict[str, Any] = {}
            if self._address == "local":
                options = {**local, "_temp_dir": usable_folder()}
                lend_token()
            bare = self._address == "local" and not verbose
            try:
                with _few_processes() if bare else contextlib.nullcontext():
                    ray.init(
                        address=self._address,
                        include_dashboard=False if self._address == "local" else None,
                        log_to_driver=verbose,
                        logging_level=logging.ERROR,
                        configure_logging=False,
                        **options,
                    )
            except Exception as error:
                problem = f"cannot reach Ray at {self._address} ({describe(error)}). Check RAY_ADDRESS and the token"
                if self._address == "local":
                    problem = f"cannot start Ray on this machine ({describe(error)}). `sweeper doctor` looks further"
                raise SweeperError(f"{problem}, or use --workers inline") from error
            self._mine = True
            protect_token()
        self.address = ray.get_runtime_context().gcs_address

    def load(self, sweep: str, source: Source) -> None:
        """Put the data once into the object store."""
        import ray

        self._data[sweep] = ray.put(source)

    def unload(self, sweep: str) -> None:
        """Free the object store's copy."""
        self._data.pop(sweep, None)
        with self._lock:
            actors = [slot.actor for slot in self._slots.values() if slot.loaded == sweep and slot.actor is not None]
        if not self._closing.is_set():
            for actor in actors:
                with contextlib.suppress(Exception):  # it has died meanwhile
                    actor.forget.remote(sweep)

    def run(self, worker: str, order: Order) -> None:
        """Send one leg, with the sweep's data ahead of it when this actor has not seen it."""
        with self._lock:
            slot = self._slots.get(worker)
            if slot is None or slot.actor is None:
                return  # it is gone, and this has been posted
            actor, slot.leg = slot.actor, order.leg
            if order.sweep != slot.loaded:
                actor.load.remote(order.sweep, self._data[order.sweep])
                slot.loaded = order.sweep
        future: Future[LegResult] = actor.run.remote(order).future()
        future.add_done_callback(lambda done: self._inbox.put(lambda: self._leg_ended(slot, actor, order.leg, done)))

    def device(self, worker: str) -> Device:
        """The device of a worker that has joined."""
        slot = self._slots.get(worker)
        return slot.info if slot is not None and slot.info is not None else unknown()

    def replace(self, worker: str, reason: str) -> None:
        """Kill the actor; the slot gets a new one."""
        slot = self._slots.get(worker)
        if slot is not None:
            actor = slot.actor
            self._inbox.put(lambda: self._lose(slot, actor, reason))

    def close(self) -> None:
        """Kill the actors, and the Ray that this pool started; again, it does nothing."""
        import ray

        if self._closing.is_set():
            return
        self._closing.set()
        self._inbox.put(lambda: None)
        if self._watcher.ident is not None:
            self._watcher.join(timeout=30)
        for slot in self._slots.values():
            if slot.actor is not None:
                with contextlib.suppress(Exception):
                    ray.kill(slot.actor)
        self._data.clear()
        if self._mine:
            ray.shutdown()

    def is_full(self) -> bool:
        """Whether others hold every core and every GPU of the cluster."""
        import ray

        free = ray.available_resources()
        return free.get("CPU", 0.0) < 1.0 and free.get("GPU", 0.0) < 1.0

    def nodes(self) -> list[dict[str, Any]]:
        """The living nodes as Ray describes them."""
        import ray

        return [node for node in ray.nodes() if node["Alive"]]

    def _watch(self) -> None:
        """Keep one actor in every slot of every living node, and do what has come in."""
        looked = -NODE_POLL_SECONDS
        while not self._closing.is_set():
            if time.monotonic() - looked >= NODE_POLL_SECONDS:
                looked = time.monotonic()
                with contextlib.suppress(Exception):
                    self._reconcile(self.nodes())
                    self._drain(self._draining_nodes())
            try:
                work = self._inbox.get(timeout=max(0.0, looked + NODE_POLL_SECONDS - time.monotonic()))
            except Empty:
                continue
            try:
                work()
            except Exception:  # this thread must live: without it nobody would hear of any worker again
                logging.getLogger("sweeper").exception("the pool could not do what came in")

    def _reconcile(self, nodes: list[dict[str, Any]]) -> None:
        alive = {node["NodeID"] for node in nodes}
        for slot in [s for s in self._slots.values() if s.node not in alive]:
            self._lose(slot, slot.actor, "its node left the cluster")
        with self._lock:
            self._slots = {name: slot for name, slot in self._slots.items() if slot.node in alive}
            for node in nodes:
                gpus, cpus = int(node["Resources"].get("GPU", 0)), int(node["Resources"].get("CPU", 0))
                device, places = ("cuda", gpus) if gpus else ("cpu", cpus)
                for place in range(places):
                    name = f"{node['NodeID'][:6]}-{place}"
                    full = self._limit is not None and len(self._slots) >= self._limit
                    if name not in self._slots and not full:
                        self._slots[name] = _Slot(name, node["NodeID"], device, max(1, cpus // max(1, places)))
        for slot in self._slots.values():
            if slot.info is None and time.monotonic() - slot.asked_at > JOIN_SECONDS:
                self._lose(slot, slot.actor, f"it did not come up within {JOIN_SECONDS:.0f} s")
            if slot.actor is None and not slot.draining:
                self._spawn(slot)

    def _draining_nodes(self) -> set[str]:
        """The nodes that are about to leave (``ray drain-node``, a spot machine's notice, the autoscaler)."""
        from ray._private import worker

        client: Any = worker.global_worker
        return set(client.gcs_client.get_draining_nodes(timeout=5))

    def _drain(self, leaving: set[str]) -> None:
        """Workers of leaving nodes get no more legs; they go when their last one has been answered."""
        for slot in list(self._slots.values()):
            if slot.draining and slot.leg is None:
                self._lose(slot, slot.actor, "its node is leaving")
            elif slot.node in leaving and not slot.draining and slot.info is not None:
                slot.draining = True
                self._post(WorkerDraining(slot.name))

    def _spawn(self, slot: _Slot) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        takes: dict[str, Any] = {"num_gpus": 1} if slot.device == "cuda" else {"num_cpus": 1}
        if self._apart:
            shown = {"CUDA_VISIBLE_DEVICES": slot.name.rpartition("-")[2]} if slot.device == "cuda" else {}
            takes = {"runtime_env": {"env_vars": shown}} if shown else {}
        remote: Any = ray.remote(  # type: ignore[call-overload]
            **{"num_cpus": 0, "num_gpus": 0, **takes},
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(slot.node, soft=False),
        )(_Actor)
        slot.actor = remote.remote(slot.device, slot.cores)
        slot.loaded, slot.info, slot.leg, slot.asked_at = None, None, None, time.monotonic()
        actor = slot.actor
        future: Future[Device] = actor.device.remote().future()
        future.add_done_callback(lambda done: self._inbox.put(lambda: self._spawned(slot, actor, done)))

    def _spawned(self, slot: _Slot, actor: Any, done: Future[Device]) -> None:
        if slot.actor is not actor or self._closing.is_set():
            return
        if (error := done.exception()) is not None:
            self._lose(slot, actor, describe(error))
            return
        slot.info = done.result()
        self._post(slot.info.joined(slot.name))

    def _leg_ended(self, slot: _Slot, actor: Any, leg: int, done: Future[LegResult]) -> None:
        from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

        error = done.exception()
        if slot.actor is actor:
            slot.leg = None
        if error is None:
            self._post(LegReturned(slot.name, done.result()))
            return
        cause = getattr(error, "cause", None) or error
        if isinstance(error, RayTaskError) and not isinstance(error, RayActorError):
            kind: Literal["oom", "error"] = "oom" if is_out_of_memory(cause) else "error"
            self._post(LegRaised(slot.name, leg, kind, describe(cause)))
            return
        if isinstance(error, OutOfMemoryError):
            self._post(LegRaised(slot.name, leg, "oom", describe(error)))
        self._lose(slot, actor, "its process died")

    def _lose(self, slot: _Slot, actor: Any, reason: str) -> None:
        """Give up an actor once; the slot is filled again when the nodes are next looked at."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        with self._lock:
            if actor is None or slot.actor is not actor or self._closing.is_set():
                return
            slot.actor, info = None, slot.info
        self._post(WorkerLost(slot.name, reason))
        with contextlib.suppress(Exception):
            ray.kill(actor)
            if info is not None:  # a process that is stuck does not hear Ray, and would keep its place
                here = NodeAffinitySchedulingStrategy(slot.node, soft=False)
                ray.remote(_end_process).options(num_cpus=0, scheduling_strategy=here).remote(info.pid)
