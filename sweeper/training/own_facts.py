"""What a model of the user's own is told of a sweep's data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sweeper.models.own_config import ModelData

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.spec.parse import SweepSpec


def facts_of(spec: SweepSpec, dataset: Dataset) -> Callable[[Mapping[str, Any]], ModelData]:
    """What a trial's parameters leave a model to fit. While a sweep is suggesting, inputs that the space searches are
    as many as they may become."""

    def facts(params: Mapping[str, Any]) -> ModelData:
        return ModelData.of(dataset.most_inputs(spec.inputs_of(params)), dataset.n_outputs)

    return facts
