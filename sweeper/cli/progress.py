"""What a person sees while a sweep runs: a live panel on a terminal, one line per event otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from sweeper.cli import streams
from sweeper.insight.winner_again import WinnerAgain
from sweeper.states import TrialState
from sweeper.text import number

Fields = Mapping[str, Any]
REFUSED = "MLflow refused {what}: {reason}. It is safe in the ledger"
LEFT_OUT = "worker {worker} gets no trials: it computes in {arithmetic}, and this sweep's values in {wanted}"
NO_BASELINES = "the winner could not be compared with simple models ({kind}: {reason}); all results are safe"
NOT_KEPT = {
    "winner.refit_failed": "{reason}. The mean of the folds' networks is kept instead",
    "winner.ensemble_failed": "no ensemble could be made ({reason}). The best trial's model is kept instead",
}
NO_REPORT = "the report could not be written ({kind}: {reason}); all results are safe"

NO_MODEL = "MLflow has no model of the winner: torch cannot export it ({reason}). `sweeper export --model` writes it"


def short(params: Mapping[str, Any], constants: frozenset[str] = frozenset()) -> str:
    """Parameters in one line, with commas between them only; ``constants`` are left out."""
    return ", ".join(
        f"{k}={number(v).replace(',', '')}" if isinstance(v, float) else f"{k}={v}"
        for k, v in params.items()
        if k not in constants
    )


def constants_of(spec: Mapping[str, Any]) -> frozenset[str]:
    """The parameters of a stored sweep's space that have one value for all trials."""
    parameters = (spec.get("space") or {}).get("parameters", [])
    return frozenset(given["name"] for given in parameters if "value" in given or len(given.get("choice", "..")) == 1)


class Tally:
    """Counts and rates of one sweep, from its events."""

    def __init__(
        self, requested: int, done: Mapping[str, int] | None = None, constants: frozenset[str] = frozenset()
    ) -> None:
        self.requested, self.constants = requested, constants
        self.ended: dict[str, int] = {str(s): (done or {}).get(str(s), 0) for s in TrialState if s.terminal}
        self.running: set[int] = set()
        self.began = time.monotonic()
        self.fresh = 0
        self.workers = 0
        self.best: tuple[int, float, Mapping[str, Any]] | None = None

    def take(self, action: str, fields: Fields) -> None:
        """Count one event."""
        match action:
            case "sweep.opened":  # by this controller, or by the one that follows another
                self.running.clear()
                self.workers = 0
            case "trial.started":
                self.running.add(fields["trial"])
            case "trial.requeued":
                self.running.discard(fields["trial"])
            case "trial.ended":
                self.running.discard(fields["trial"])
                self.ended[fields["state"]] += 1
                self.fresh += fields["state"] != TrialState.STOPPED
                if fields["improved"]:
                    self.best = (fields["trial"], fields["value"], fields["params"])
            case "worker.joined":
                self.workers += 1
            case "worker.lost":
                self.workers -= 1

    def described(self, params: Mapping[str, Any]) -> str:
        """What of a trial's parameters can differ from another's, in one line."""
        return short(params, self.constants)

    @property
    def done(self) -> int:
        """Trials that have come to their own end."""
        return sum(self.ended.values()) - self.stopped

    @property
    def stopped(self) -> int:
        """Trials that the end of the search, or a user, has stopped: most of them never started."""
        return self.ended[TrialState.STOPPED]

    @property
    def left(self) -> int:
        """Trials that are still to end."""
        return self.requested - self.done - self.stopped

    @property
    def per_minute(self) -> float:
        """Trials ended per minute in this process."""
        return 60 * self.fresh / max(1e-9, time.monotonic() - self.began)

    @property
    def eta(self) -> str:
        """Time to the end at the present rate."""
        if not self.fresh:
            return "-"
        left = 60 * self.left / self.per_minute
        return f"{int(left // 60)}:{int(left % 60):02d}"

    def line(self) -> str:
        """Everything in one line."""
        waiting = self.left - len(self.running)
        failed = self.ended["failed"]
        text = f"{self.done}/{self.requested} done, {len(self.running)} running, {waiting} waiting, {failed} failed"
        text += f", {self.stopped} stopped" if self.stopped else ""
        return f"{text}, {self.per_minute:.0f} trials/min, ETA {self.eta}"


class LineProgress:
    """One line per event on a stream that is no terminal."""

    INTERVAL = 5.0

    def __init__(self, tally: Tally, stream: TextIO | None = None) -> None:
        self._tally, self._stream, self._next = tally, stream or sys.stderr, 0.0

    def __call__(self, action: str, fields: Fields) -> None:
        """Print the events that a person wants to know of."""
        self._tally.take(action, fields)
        if action in TEXTS:
            self._say(TEXTS[action](fields))
        match action:
            case "data.warning":
                self._say(f"sweeper: warning: {fields['text']}")
            case "data.task" | "search.warm_start":
                self._say(fields["text"])
            case "sweep.opened":
                self._say(f"sweep {fields['sweep']} ({fields['name']}): {fields['requested']} trials")
            case "trial.ended" if fields["improved"]:
                varied = self._tally.described(fields["params"])
                self._say(f"trial {fields['trial']}: best so far {fields['value']:.6g} ({varied})")
            case "worker.lost":
                self._say(f"worker {fields['worker']} lost: {fields['reason']}; its trials go back to waiting")
            case "leg.failed":
                self._say(f"training on worker {fields['worker']} failed ({fields['kind']}): {fields['detail']}")
            case "tracker.down":
                self._say(
                    f"MLflow cannot be reached ({fields['reason']}). Training continues; results are written later"
                )
            case "sweep.changed":
                self._say(f"sweep {fields['sweep']} is {fields['state']}: {fields['reason']}")
            case "finals.sweep.opened":
                self._say(f"finals: the best trials are trained again on fresh seeds ({fields['requested']} runs)")
            case "sweep.finishing" if self._tally.best is not None:
                number, value, _ = self._tally.best
                self._say(f"best: trial {number}, {value:.6g}. Writing the model, the report and the last results ...")
            case "report.written" if Path(fields["file"]).is_file():  # it may be on a server
                self._say(f"report: {fields['file']}")
            case "sweep.given_up":
                self._say(f"the service had a problem and tries again: {fields['reason']}")
            case "sweep.waiting":
                self._say(f"sweep {fields['sweep']} is {fields['reason']}")
            case "server.lost":
                self._say(f"{fields['reason']}. The sweep continues there; reconnecting ...")
            case "server.back":
                self._say("the server answers again")
        if action in ("leg.done", "trial.ended") and time.monotonic() >= self._next:
            self._next = time.monotonic() + self.INTERVAL
            self._say(self._tally.line())

    def close(self) -> None:
        """Nothing to tidy up."""

    def _say(self, text: str) -> None:
        streams.tell(text, self._stream)


def differs(fields: Fields) -> str:
    """What training the winner again has shown."""
    return (
        "sweeper: warning: "
        + WinnerAgain(fields["trial"], fields["recorded"], fields["again"], fields["arithmetic"]).sentence
    )


def registered(fields: Fields) -> str:
    """What became of the winner in the model registry."""
    state = "is champion" if fields["champion"] else "is registered"
    return f"model {fields['model']} version {fields['version']} {state}: {fields['reason']}"


def repaired(fields: Fields) -> str:
    """What had been deleted in MLflow since the sweep was last shown there."""
    lost = [f"{fields['trials']} runs of trials"] if fields["trials"] else []
    lost += ["the sweep's own run"] if fields["parent"] else []
    return f"MLflow no longer had {' and '.join(lost)}: written again from the ledger"


TEXTS: Mapping[str, Callable[[Fields], str]] = {  # said the same way on a terminal and elsewhere
    "worker.left_out": lambda fields: LEFT_OUT.format(**fields),
    "winner.differs": differs,
    **{action: text.format_map for action, text in NOT_KEPT.items()},
    "tracker.refused": lambda fields: REFUSED.format(**fields),
    "tracker.repaired": repaired,
    "tracker.registered": registered,
    "tracker.left_out": lambda fields: NO_MODEL.format(**fields),
    "model.fused": lambda fields: f"your model: {fields['text']}",
    "report.failed": lambda fields: NO_REPORT.format(**fields),
    "baselines.failed": lambda fields: NO_BASELINES.format(**fields),
}


class LiveProgress:
    """A panel that is redrawn in place: bar, counts, rate, best trial so far."""

    def __init__(self, tally: Tally, name: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self._tally, self._name, self._note = tally, name, "starting workers ..."
        self._live = Live(console=Console(stderr=True), get_renderable=self._panel, refresh_per_second=4)
        self._live.start()

    def __call__(self, action: str, fields: Fields) -> None:
        """Take an event in; the panel redraws itself."""
        self._tally.take(action, fields)
        if action in TEXTS:
            self._live.console.print(TEXTS[action](fields), markup=False, highlight=False)
        match action:
            case "data.warning":
                self._live.console.print(f"warning: {fields['text']}", markup=False, highlight=False)
            case "data.task" | "search.warm_start":
                self._live.console.print(fields["text"], markup=False, highlight=False)
            case "worker.joined":
                self._note = f"{self._tally.workers} workers"
            case "worker.lost":
                self._note = f"worker {fields['worker']} lost: {fields['reason']}"
            case "tracker.down":
                self._note = f"MLflow cannot be reached ({fields['reason']}): results are written later"
            case "finals.sweep.opened":
                self._note = f"finals: the best trials again on fresh seeds ({fields['requested']} runs)"
            case "sweep.changed":
                self._note = f"{fields['state']}: {fields['reason']}"
            case "sweep.finishing":
                self._note = "writing the winner's model, the report and the last results to MLflow ..."
            case "report.written" if Path(fields["file"]).is_file():
                self._live.console.print(f"report: {fields['file']}", markup=False, highlight=False, soft_wrap=True)
            case "sweep.given_up":
                self._note = f"the service had a problem and tries again: {fields['reason']}"
            case "sweep.waiting":
                self._note = str(fields["reason"])
            case "server.lost":
                self._note = f"{fields['reason']}. The sweep continues there; reconnecting ..."
            case "server.back":
                self._note = "the server answers again"

    def close(self) -> None:
        """Draw the last state and release the terminal."""
        self._live.stop()

    def _panel(self) -> Any:
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        tally = self._tally
        bar = ProgressBar(total=max(1, tally.requested - tally.stopped), completed=tally.done, width=60)
        rows: list[Any] = [bar, Text(tally.line())]
        if tally.best is not None:
            number, value, params = tally.best
            rows.append(Text(f"best: trial {number}, {value:.6g}  ({tally.described(params)})"))
        rows.append(Text(self._note, style="dim"))
        lines = Table.grid()
        for row in rows:
            lines.add_row(row)
        return Panel(lines, title=self._name, title_align="left")
