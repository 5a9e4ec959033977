"""A sampler of the user's own: a function in a file that makes one of Optuna's kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import optuna

from sweeper.errors import SpecError
from sweeper.spec.user_code import UserFunction

KEY = "search.sampler"


def maker(function: UserFunction) -> Callable[[int], optuna.samplers.BaseSampler]:
    """What makes the sampler for a seed: ``make(seed)``, or ``make()`` of a function without arguments.

    Raises:
        SpecError: the file cannot be imported, the function takes other arguments, or it makes something else.
    """

    def make(seed: int) -> optuna.samplers.BaseSampler:
        try:
            found = function.load()
            made = found(seed) if inspect.signature(found).parameters else found()
        except (Exception, SystemExit) as error:
            raise SpecError(function.happened(error), file=function.file, key=KEY) from error
        if not isinstance(made, optuna.samplers.BaseSampler):
            problem = f"{function.function} returned {type(made).__name__}, which is no sampler"
            raise SpecError(problem, file=function.file, key=KEY, remedy="Return an optuna.samplers.BaseSampler")
        return made

    make(0)
    return make
