"""What runs in the process of its own in which a worker runs the trials of an objective, one after another."""

from __future__ import annotations

import faulthandler
import math
import os
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from sweeper.spec.user_code import UserFunction
from sweeper.training.child import end_with_parent
from sweeper.training.objective_words import Answer, Ended, Run, Said

TRACE_LINES = 12


def main(fd: int) -> None:
    """Run the trials that come in over the socket ``fd`` until it is closed."""
    end_with_parent()
    connection: Connection[Any, Any] = Connection(fd)
    while True:
        try:
            order = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(_run(order, connection))


def _run(order: Run, connection: Connection[Any, Any]) -> Ended:
    """One trial, with what it prints in its log."""
    with open(order.log, "ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    faulthandler.enable()
    try:
        ended = _call(order, connection)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    return ended


def _call(order: Run, connection: Connection[Any, Any]) -> Ended:
    from sweeper.training.objective_trial import ObjectiveTrial, TrialPruned

    function = order.function
    folder = os.path.dirname(function.file)
    if folder and folder not in sys.path:
        sys.path.insert(0, folder)  # as if the file were run as a script

    def say(said: Said) -> None:
        connection.send(said)

    def hear() -> Answer:
        answer: Answer = connection.recv()
        return answer

    try:
        trial = ObjectiveTrial(order.start, order.prunes, say, hear)
        return _judged(function, function(trial))
    except TrialPruned as error:
        return Ended("pruned", reason=" ".join(str(error).split())[:300])
    except BaseException as error:
        traceback.print_exc()
        return Ended("failed", reason=_in_words(function, error), trace=_last_lines(error))


def _judged(function: UserFunction, value: Any) -> Ended:
    """What the function has returned as the trial's end."""
    where = f"{function.file_name}: {function.function}"
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    try:
        number = float(value)
    except (TypeError, ValueError):
        return Ended("failed", reason=f"{where} returned {repr(value)[:60]}, which is no number")
    if math.isnan(number):
        return Ended("failed", reason=f"{where} returned NaN")
    return Ended("complete", number)


def _in_words(function: UserFunction, error: BaseException) -> str:
    if isinstance(error, SystemExit):
        line = function.line_of(error)
        where = function.file_name if line is None else f"{function.file_name}, line {line}"
        return f"{where}: the function ended its process with exit code {error.code!r}"[:300]
    return function.happened(error)


def _last_lines(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
    return "\n".join(lines[-TRACE_LINES:])[-4000:]
