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
    _check(window, batch)
    return max(0, batch_start(number, batch) + batch - window)


def askable(asked: int, told_prefix: int, window: int, batch: int, requested: int) -> range | None:
    """The numbers that may be asked now, at most up to the end of one batch; None: wait, or nothing is left to ask.

    ``asked`` trials have parameters already (0..asked-1), every trial below ``told_prefix`` is terminal, and
    ``requested`` is the sweep's total, which may cut a batch short. Call again after asking: the next batch may be
    free too.

    Raises:
        ValueError: ``batch`` is below 1 or above ``window``.
    """
    if asked >= requested or told_prefix < told_before(asked, window, batch):
        return None
    return range(asked, min(batch_start(asked, batch) + batch, requested))


def _check(window: int, batch: int) -> None:
    if not 1 <= batch <= window:
        raise ValueError(f"batch is {batch}: it must be at least 1 and at most the window of {window}")
