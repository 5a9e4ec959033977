"""Which sweep a worker serves, and how many of its trials: priority, fair share and what the device has room for."""

from __future__ import annotations

from collections import Counter

from sweeper.scheduling.board import NO_LIMIT, Board, Sweep, Worker
from sweeper.scheduling.events import Shape
from sweeper.states import SweepState, TrialState

MAX_LOST = 3  # attempts that may be lost with a worker before the trial fails
LEAD_SECONDS, LEAD = 10.0, 0.05  # of workers' time: who is further ahead, also in proportion, gives one of them away


def choose(board: Board, worker: Worker) -> None:
    """Give a free worker to a sweep, if any has a trial to start.

    Highest priority; then the owner with the fewest workers, of those the one who has had them for the shortest time,
    or else waits longest; then the same among the owner's sweeps.
    """
    candidates = list(board.candidates(worker))
    if not candidates:
        return
    (by_sweep, by_owner), used = board.held(), board.used()
    turn: dict[str, int] = {}  # when each owner last got a worker
    for s in board.sweeps.values():
        turn[s.plan.owner] = max(s.served, turn.get(s.plan.owner, 0))

    def order(s: Sweep) -> tuple[float, ...]:
        owner = s.plan.owner
        of_owner = by_owner[owner], used[owner], turn[owner]
        return (-s.plan.priority, *of_owner, by_sweep[s.plan.sweep], s.used, s.served)

    best = min(candidates, key=order)
    board.turn += 1
    best.served = worker.cohort = board.turn
    worker.drop, worker.yielding = set(), False
    board.serve(worker, best.plan.sweep)
    shape = worker.key(best.waiting.shape(best.waiting.first()))
    worker.shape = None if worker.mixes and best.plan.mixed else shape
    worker.width = min(_most(board, worker, best, shape), max(1, _spread(best, 1)))


def is_due(board: Board, worker: Worker) -> bool:
    """Whether another sweep has a better claim to the worker than its own: by priority, or by the workers held.

    So has one of another process, when more workers are held here than this process may.
    """
    if board.room < 0:
        return True
    sweep = board.sweeps[worker.sweep or ""]
    for other in board.candidates(worker):
        if other is sweep or other.plan.priority < sweep.plan.priority:
            continue
        if other.plan.priority > sweep.plan.priority:
            return True
        mine, theirs = _workers(board, sweep, other)
        if theirs < max(1, mine - 1):
            return True
    return False


def may_refill(board: Board, worker: Worker) -> bool:
    """Whether the worker may take more of its sweep, or must drain because another one is due.

    What is left over when workers are divided goes around: one worker of an owner drains for another owner, or one of
    a sweep for another sweep of its owner, who has one worker less and has had clearly less of them.
    """
    if is_due(board, worker):
        return False
    sweep = board.sweeps[worker.sweep or ""]
    for other in board.candidates(worker):
        if other is sweep or other.plan.priority < sweep.plan.priority:
            continue
        mine, theirs = _workers(board, sweep, other)
        if theirs == mine - 1 and _is_ahead(board, sweep, other) and not _one_drains(board, worker, sweep, other):
            board.rotating.add(worker.name)
            return False
    board.rotating.discard(worker.name)
    return True


def _workers(board: Board, sweep: Sweep, other: Sweep) -> tuple[int, int]:
    """How many workers each of the two has: their owners, or the sweeps where one owner has both."""
    by_sweep, by_owner = board.held()
    if other.plan.owner == sweep.plan.owner:
        return by_sweep[sweep.plan.sweep], by_sweep[other.plan.sweep]
    return by_owner[sweep.plan.owner], by_owner[other.plan.owner]


def _is_ahead(board: Board, sweep: Sweep, other: Sweep) -> bool:
    """Whether the first of the two has had clearly more of the workers' time, in the same sense."""
    mine, theirs = sweep.used, other.used
    if other.plan.owner != sweep.plan.owner:
        used = board.used()
        mine, theirs = used[sweep.plan.owner], used[other.plan.owner]
    return mine - theirs > max(LEAD_SECONDS, LEAD * mine)


def _one_drains(board: Board, worker: Worker, sweep: Sweep, other: Sweep) -> bool:
    """Whether another worker than this one drains already, of the same owner or of the same sweep."""
    serving = (board.sweeps[board.workers[name].sweep or ""] for name in board.rotating if name != worker.name)
    if other.plan.owner == sweep.plan.owner:
        return any(s is sweep for s in serving)
    return any(s.plan.owner == sweep.plan.owner for s in serving)


def free_slots(board: Board, worker: Worker, sweep: Sweep) -> int:
    """Slots to fill now: of what the cohort has room for, half of the window spread over the workers, a fair share."""
    waiting = sweep.waiting.count(worker.shape)
    if not waiting:
        return 0
    idle = sum(not w.rows and sweep.takes(w) for w in board.resting.values())
    idle = min(idle, 1 + max(0, board.room))  # this worker has been chosen already
    share = -(-waiting // max(1, idle))
    width = min(worker.width, max(1, _spread(sweep, board.n_workers(sweep))))
    return max(0, min(width - len(worker.rows), share, waiting, board.allowed(sweep)))


def may_join(board: Board, worker: Worker, sweep: Sweep, number: int) -> bool:
    """Whether the device has memory for one more trial beside the worker's rows, and the trial is safe company.

    A trial that may be killing its workers runs alone.
    """
    if not worker.rows:
        return True
    if any(sweep.trials[n].lost == MAX_LOST - 1 for n in (*worker.rows, number)):
        return False
    known = (sweep.trials[n].shape for n in (*worker.rows, number))
    shapes = Counter(worker.key(shape) for shape in known if shape is not None)
    return sum(n / _fits(board, worker, sweep, shape) for shape, n in shapes.items()) <= 1 + 1e-9


def _most(board: Board, worker: Worker, sweep: Sweep, shape: Shape) -> int:
    """Trials that a new cohort has room for: of its one shape, or of shapes of which ``may_join`` adds up the memory.

    Half of what the worker ran out of memory with, where it did.
    """
    known = board.widths.get((worker.name, sweep.plan.sweep, worker.shape))
    return known or (NO_LIMIT if worker.shape is None else _fits(board, worker, sweep, shape))


def _fits(board: Board, worker: Worker, sweep: Sweep, shape: Shape) -> int:
    """Trials of one shape that fit the worker's device."""
    return max(1, board.width_of(worker.name, sweep.plan.sweep, shape) // sweep.plan.rows_per_trial)


def _spread(sweep: Sweep, workers: int) -> int:
    """Half of the window, spread over so many workers: the other half is asked for meanwhile."""
    return -(-min(sweep.plan.window, sweep.plan.requested) // (2 * workers))


def why_waiting(board: Board, me: Sweep) -> str:
    """What keeps the trials of a sweep from starting, in one phrase (empty: all are suggested, and none waits)."""
    if not board.workers:
        return "waiting: no worker has joined yet"
    if not me.n_ready():
        if me.asking:
            return "waiting: the sampler is suggesting the next trials"
        if me.asked < me.plan.requested and not me.exhausted:
            return f"waiting: the next suggestion needs the result of trial {me.needs() - 1}"
        return ""
    if board.allowed(me) <= 0:
        who = me.plan.owner or "this user"
        return f"waiting: {who} already runs {board.user_limit} trials, the most that one user may run at once"
    if board.room <= 0:
        most = board.shares.workers
        return f"waiting: {most} workers are its share beside sweeps that run in other processes of the service"
    free, workers = sum(me.takes(w) for w in board.resting.values()), board.n_workers(me)
    others = [s for s in board.sweeps.values() if s is not me and s.state is SweepState.RUNNING]
    ahead = [s for s in others if s.n_ready() + s.counts[TrialState.RUNNING] > 0]
    trials = sum(s.n_ready() + s.counts[TrialState.RUNNING] for s in ahead)
    return f"waiting: {trials} trials of {len(ahead)} sweeps ahead, {free} of {workers} workers free"


def counts(sweep: Sweep) -> tuple[int, int]:
    """The sweep's trials that are not over, and how many of these run."""
    over = sum(n for state, n in sweep.counts.items() if state.terminal)
    return sweep.plan.requested - over, sweep.counts[TrialState.RUNNING]


def why_left_out(board: Board, me: Sweep) -> str:
    """Why some workers get no trials of a sweep, in one phrase (empty: all may)."""
    names = [me.arithmetic_in(worker) for worker in board.workers.values() if not me.takes(worker)]
    if not names:
        return ""
    others = ", ".join(f"{names.count(name)} in {name}" for name in sorted(set(names)))
    return f"its trials are computed in {me.plan.arithmetic}, so workers of another arithmetic get none ({others})"
