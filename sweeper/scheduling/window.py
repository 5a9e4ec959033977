"""Which results a suggestion may see, and which batch may be asked: the fixed window of a deterministic search.

Trials are asked in batches of ``batch`` numbers, batch j being ``[j * batch, (j + 1) * batch)``. With a window of
W >= batch trials, every suggestion of batch j sees exactly the results of the trials before ``(j + 1) * batch - W`` and
knows the trials from there up to its own number as pending. At most W trials are therefore unfinished at any time,
and which results a suggestion sees depends on its number alone: not on timing, on the number of workers, nor on how
many trials were requested in all.
"""

from __future__ import annotations


def batch_start(number: int, batch: int) -> int:
    """The first number of the batch that trial ``number`` belongs to."""
    return number // batch * batch


def told_before(number: int, window: int, batch: int) -> int:
    """k: the suggestion of trial ``number`` sees exactly the results of trials 0..k-1.

    Raises:
        ValueError: ``batch`` is below 1 or above ``window``.
    """
    if not 1 <= batch <= window:
        raise ValueError(f"batch is {batch}: it must be at least 1 and at most the window of {window}")
    return max(0, batch_start(number, batch) + batch - window)
