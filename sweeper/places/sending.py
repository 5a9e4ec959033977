"""Functions of the user's own that go to a server: whether it takes them, and tried here before they are sent."""

from __future__ import annotations

from collections.abc import Callable

from sweeper.errors import SpecError
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
    if "space" in code:
        problem = "a space that is a Python function cannot be sent to a server: it runs no code of its users"
        raise SpecError(problem, key="space", remedy=f"Write the space as YAML, or {_HERE}")
    if code and not takes_code():
        key = next(iter(code))
        problem = "this function cannot be sent to the server, which runs no code of its users"
        raise SpecError(problem, key=key, remedy=f"Ask its administrator for --allow-code, or {_HERE}")
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
