"""Dropout masks from a counter-based generator: a trial's are the same whatever trains beside it.

Dimensions: A rows, H units of a layer, B examples of a minibatch.

The generator is Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011): it turns a counter of
four and a key of two 32 bit numbers into four random 32 bit numbers, the words. The word of unit h (from 0) and example
b (position in the minibatch, from 0) behind hidden layer l (from 0), in a row's optimizer step t (from 0 over the whole
training), is

    word number b % 4 of philox(counter = (h, b // 4, t, l), key = (seed % 2^32, seed // 2^32 % 2^32))

with the trial's seed. The unit is kept where word >= p 2^32, that is u >= p with u = word / 2^32, and kept ones are
divided by 1 - p:  h <- h * mask,  mask = (u >= p) / (1 - p),  and backwards dh <- dh * mask.

Neighbouring units have neighbouring counters, and the four words of a counter belong to neighbouring examples of one
unit: vector code needs to shuffle nothing, whether units or examples lie side by side in memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW = 0xFFFFFFFF


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """The four words for counters and keys of shapes that broadcast; all are int64 and hold 32 bit numbers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # the low 64 bits of a product are right in int64, and the shift's copies of the sign are masked away
        left, right = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c2 = ((right >> 32) ^ c1 ^ k0) & LOW, ((left >> 32) ^ c3 ^ k1) & LOW
        c1, c3 = right & LOW, left & LOW
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return c0, c1, c2, c3


def words(seeds: Tensor, steps: Tensor, layer: int, units: int, examples: int) -> Tensor:
    """The words ``(A, H, B)`` int64 behind hidden layer ``layer`` of rows with ``seeds (A,)`` in ``steps (A,)``."""
    device, (seeds, steps) = seeds.device, (each.view(-1, 1, 1) for each in (seeds, steps))
    unit = torch.arange(units, device=device)[None, :, None]
    block = torch.arange(-(-examples // 4), device=device)[None, None, :]
    where = torch.full_like(unit, layer)
    four = philox((unit, block, steps & LOW, where), (seeds & LOW, (seeds >> 32) & LOW))  # (A, H, B / 4) each
    return torch.stack(four, dim=3).flatten(2)[:, :, :examples]


def threshold(rates: Tensor) -> Tensor:
    """The smallest word that is kept, int64, for ``rates`` p in [0, 1) float64."""
    return (rates * 2.0**32).ceil().to(torch.int64)
