"""Functions of the user's own that go to a server: whether it takes them, and tried here before they are sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sweeper.errors import SpecError
from sweeper.search_spaces import SpaceError
from sweeper.spec.own_code import code_of
from sweeper.spec.parse import SweepSpec

_HERE = "run the sweep here: --server ''"


def checked_for_server(spec: SweepSpec, takes_code: Callable[[], bool]) -> SweepSpec:
    """The spec as it is sent: what is wrong with its data, or with a function of the user's own, is told before.

    ``takes_code`` asks the server whether it runs code of this user.

    Raises:
        SpecError: the server does not, the data cannot be used, or a function cannot.
    """
    code = code_of(spec.to_json())
    if code and not takes_code():
        key = next(iter(code))
        problem = "this function cannot be sent to the server, which runs no code of its users"
        yaml = "Write the space as YAML, ask" if key == "space" else "Ask"
        raise SpecError(problem, key=key, remedy=f"{yaml} its administrator for --allow-code, or {_HERE}")
    if "space" in code:
        spec = _with_text(spec)
    if not code and spec.dataset.path is None:
        return spec
    from sweeper.data.loading import load

    dataset = load(spec)
    if spec.search.own_sampler is not None:
        from sweeper.search.own_sampler import maker

        maker(spec.search.own_sampler)
    if spec.model is not None:
        from sweeper.training.own_checks import examined

        return examined(spec, dataset)
    return spec


def _with_text(spec: SweepSpec) -> SweepSpec:
    """With the text of the file in which the space's function lies."""
    function = spec.space.function
    assert function is not None
    if function.pickled:
        remedy = "Put the function into a file and name it file.py:function"
        raise SpecError("a pickled function has no text that others could read", key="space", remedy=remedy)
    try:
        return spec.model_copy(update={"space": replace(spec.space, function=function.with_text())})
    except SpaceError as error:
        raise SpecError(error.problem, file=error.file, key="space", remedy=error.remedy) from error
