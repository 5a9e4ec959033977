"""How raw columns become a network's inputs: the record that a sweep file, a space and a shape key share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

SCALED_ONLY = ("standard", "minmax", "none")  # what a linear model and a tree are given, too


@dataclass(frozen=True)
class Inputs:
    """What one trial does with its columns; ``bins`` is 0 and ``binning`` is empty where there are no bins.

    Trials of equal inputs see the same numbers, so that they can share a cohort. The settings are those of the
    section ``inputs`` of a sweep file, and its ``normalize``.
    """

    normalize: str = "standard"
    missing_indicator: bool = False
    numeric_embedding: str = "none"
    bins: int = 0
    binning: str = ""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Inputs:
        """What settings by name stand for; what has no effect among them is dropped."""
        found = cls(**{name: settings[name] for name in NAMES})
        if found.numeric_embedding != "piecewise_linear":  # plr and pbld are layers of the network
            return cls(found.normalize, found.missing_indicator)
        return found

    @property
    def in_words(self) -> str:
        """For people: ``standard normalisation, numbers in up to 16 bins (quantile)``."""
        words = f"{self.normalize} normalisation" if self.normalize != "none" else "no normalisation"
        if self.bins:
            words += f", numbers in up to {self.bins} bins ({self.binning})"
        return f"{words}, inputs that say which numbers are missing" if self.missing_indicator else words

    @property
    def plain(self) -> Inputs:
        """The same without what only a network needs: each column stays one input, shifted and scaled at most."""
        return Inputs(self.normalize if self.normalize in SCALED_ONLY else "standard")


PLAIN = Inputs()
NAMES = tuple(field.name for field in fields(Inputs))
LAYERS = (
    *("numeric_embedding", "frequencies", "embedding_size", "frequency_scale"),
    *("category_embedding", "max_one_hot"),
)  # what the section ``inputs`` says of a network, see ``sweeper.models.TrialConfig``


def as_layers(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings without an encoding of numbers that is no layer of the network."""
    encoded = settings.get("numeric_embedding") == "piecewise_linear"
    return {**settings, **({"numeric_embedding": "none"} if encoded else {})}
