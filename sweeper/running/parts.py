"""The parts that a sweep is put together from: the pool of workers, the study, and what shows its progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.errors import SpecError
from sweeper.scheduling.shares import SharesChanged
from sweeper.search.warm_start import earlier_of
from sweeper.spec.parse import SweepSpec
from sweeper.training.inline_pool import InlinePool
from sweeper.training.own_facts import facts_of
from sweeper.training.pool import Pool, Post
from sweeper.training.ray_pool import RayPool

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.search.objective_study import ObjectiveStudy
    from sweeper.search.study import Study

ADAPTIVE = ("tpe", "gp", "cmaes", "own")  # samplers whose suggestions depend on results


@dataclass(frozen=True)
class Apart:
    """A process that runs one sweep apart from those of a service, with workers on the same machines.

    ``listen`` posts each ``SharesChanged`` that the service tells, the first before it returns. ``user_limit`` bounds
    the trials that one user runs at once (None: no bound).
    """

    listen: Callable[[Callable[[SharesChanged], None]], None]
    user_limit: int | None = None


class ProgressSink:
    """What shows a running sweep; this one shows nothing."""

    def __call__(self, action: str, fields: Mapping[str, Any]) -> None:
        """Take one event."""

    def close(self) -> None:
        """The sweep is over."""


def parse_workers(workers: str | int) -> str | int:
    """``auto``, ``inline`` or a number of workers.

    Raises:
        SpecError: anything else.
    """
    if workers in ("auto", "inline"):
        return workers
    try:
        number = int(workers)
    except ValueError:
        number = 0
    if number < 1:
        raise SpecError(
            f"{workers!r} is not a number of workers", key="--workers", remedy="Use auto, inline, or 1 or more"
        )
    return number


def make_pool(workers: str | int, address: str | None, post: Post, apart: bool = False) -> Pool:
    """The pool that ``--workers`` names. ``apart``: it shares the cores and GPUs of Ray with those who hold them."""
    if workers == "inline":
        return InlinePool(post)
    return RayPool(post, address, None if workers == "auto" else int(workers), apart)


def make_study(spec: SweepSpec, dataset: Dataset) -> Study | ObjectiveStudy:
    """The study of a spec on its data."""
    from sweeper.search.own_sampler import maker
    from sweeper.search.study import Study

    window, batch = window_and_batch(spec, spec.search.trials)
    if spec.objective.function is not None:
        return _objective_study(spec, window, batch)
    warm = spec.search.warm
    return Study(
        spec.space_on(facts_of(spec, dataset)),
        spec.search,
        [objective.direction for objective in spec.objectives],
        batch=batch,
        window=window,
        first=spec.enqueue,
        earlier=earlier_of(spec),
        comparable=warm is None or warm.comparable,
        make=None if spec.search.own_sampler is None else maker(spec.search.own_sampler),
    )


def _objective_study(spec: SweepSpec, window: int, batch: int) -> ObjectiveStudy:
    from sweeper.search.objective_study import ObjectiveStudy
    from sweeper.search.optuna_samplers import gaussian_process
    from sweeper.search.own_sampler import maker

    search = spec.search
    own = None if search.own_sampler is None else maker(search.own_sampler)
    return ObjectiveStudy(
        search.sampler,
        search.seed,
        spec.objective.direction,
        batch,
        window,
        deterministic=search.deterministic,
        first=search.enqueue or (),
        make=gaussian_process if search.sampler == "gp" else own,
    )


def window_and_batch(spec: SweepSpec, requested: int) -> tuple[int, int]:
    """The search's window and batch. Where nothing is learnt from results, no trial waits for them."""
    if spec.search.sampler in ADAPTIVE or spec.search.pruner != "none" or spec.search.stop is not None:
        window = spec.default_window()
        return window, max(1, min(spec.batch, window))
    batch = max(1, min(64, requested))
    return requested + batch, batch
