"""What lies between a network's inputs and its first Linear: the record of its hyperparameters, and its layout.

Dimensions: D inputs, N of them numbers, M categories of a text column. Needs no torch.

Inputs are numbers, flags and other inputs that go on as they are, and the one-hot inputs of text columns. Numbers may
be embedded each by itself (``embeddings.py``), and the one-hot inputs of a column with many categories become few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any

KINDS = ("none", "plr", "pbld")  # of the embeddings of numbers that are layers of a network
NUMBER, OTHER = 0, -1  # what an input is; above 0 it is one category of the text column of this number


@dataclass(frozen=True)
class Embedding:
    """How inputs are embedded. Numbers by ``kind`` with so many ``frequencies`` become ``size`` each.

    The one-hot inputs of a text column with more than ``max_one_hot`` categories become ``category_size``; with 0 they
    stay as they are, as they do in a column with fewer.
    """

    kind: str = "none"
    frequencies: int = 0
    size: int = 0
    category_size: int = 0
    max_one_hot: int = 0

    @property
    def in_words(self) -> str:
        """For people: ``plr embeddings of numbers in size 24 with 48 frequencies``."""
        words = []
        if self.kind != "none":
            words.append(f"{self.kind} embeddings of numbers in size {self.size} with {self.frequencies} frequencies")
        if self.category_size:
            words.append(f"embeddings in size {self.category_size} of texts with over {self.max_one_hot} values")
        return ", ".join(words)


@dataclass(frozen=True)
class EmbeddingLayout:
    """An embedding of D = ``n_inputs`` inputs: the positions of ``numbers`` that it embeds and those it ``passes`` on.

    ``categories`` are start and end of the one-hot inputs of each text column that it embeds. Its outputs are those of
    all numbers in turn, then what it passes on, then those of the text columns.
    """

    embedding: Embedding
    n_inputs: int
    numbers: tuple[int, ...]
    passed: tuple[int, ...]
    categories: tuple[tuple[int, int], ...]

    @property
    def kind(self) -> str:
        """Of the embedding of numbers."""
        return self.embedding.kind

    @property
    def embedded(self) -> int:
        """Outputs of all numbers together."""
        return len(self.numbers) * self.embedding.size

    @property
    def width(self) -> int:
        """All outputs."""
        return self.embedded + len(self.passed) + len(self.categories) * self.embedding.category_size

    @property
    def waves(self) -> int:
        """F: cosines, and with plr as many sines, of each number."""
        return self.embedding.frequencies * (2 if self.kind == "plr" else 1)

    @property
    def made(self) -> int:
        """Outputs of each number that are learned: with pbld the number itself is one more."""
        return self.embedding.size - (1 if self.kind == "pbld" else 0)

    @property
    def units(self) -> int:
        """Numbers that are kept of each example on the way to the outputs."""
        return len(self.numbers) * (self.embedding.frequencies + self.waves + self.made)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters by name, in their order."""
        n, found = len(self.numbers), dict[str, tuple[int, ...]]()
        if n:
            found["frequencies"] = (n, self.embedding.frequencies)
            if self.kind == "pbld":
                found["phases"] = (n, self.embedding.frequencies)
            found |= {"weight": (n, self.made, self.waves), "bias": (n, self.made)}
        for i, (start, stop) in enumerate(self.categories):
            found[f"categories.{i}"] = (stop - start, self.embedding.category_size)
        return found

    @property
    def parameters(self) -> int:
        """How many parameters these are."""
        return sum(prod(shape) for shape in self.shapes.values())


def layout_of(embedding: Embedding | None, columns: Sequence[int] | Any, n_inputs: int) -> EmbeddingLayout | None:
    """The layout for D inputs; ``columns (D,)`` says what each is (None: all are numbers). None: nothing to embed."""
    if embedding is None:
        return None
    kinds = [NUMBER] * n_inputs if columns is None else [int(kind) for kind in columns]
    numbers, passed, categories, start = list[int](), list[int](), list[tuple[int, int]](), 0
    for kind, group in groupby(kinds):
        stop = start + len(list(group))
        if kind == NUMBER and embedding.kind != "none":
            numbers += range(start, stop)
        elif kind > 0 and embedding.category_size and stop - start > embedding.max_one_hot:
            categories.append((start, stop))
        else:
            passed += range(start, stop)
        start = stop
    if not numbers and not categories:
        return None
    return EmbeddingLayout(embedding, n_inputs, tuple(numbers), tuple(passed), tuple(categories))
