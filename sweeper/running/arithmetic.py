"""What is checked before a sweep starts here: the compiled code fits its sources, and the sweep's arithmetic is had."""

from __future__ import annotations

from sweeper.errors import SweeperError
from sweeper.records import SweepRecord
from sweeper.scheduling.events import arithmetic_in
from sweeper.spec.stored import spec_of


def check_compiled() -> None:
    """Refuse compiled code that was built from other sources; needs no torch.

    Raises:
        SweeperError: it was; the message has the command that builds it again.
    """
    from sweeper.models.compiled import StaleBuildError, libraries

    try:
        libraries()
    except StaleBuildError as error:
        raise SweeperError(str(error)) from error


def check_same_arithmetic(*records: SweepRecord) -> None:
    """Refuse to train more of these sweeps, or finals, in another arithmetic than they began in.

    For where all workers are on this machine; elsewhere such a sweep waits for one that fits.

    Raises:
        SweeperError: this machine computes in another one.
    """
    from sweeper.training.pool import local_device

    for record in records:
        if not record.arithmetic:
            continue
        device = local_device()
        mine = arithmetic_in(device.arithmetic, device.eager, spec_of(record).is_compiled)
        if record.arithmetic != mine:
            raise SweeperError(
                f"the trials of sweep {record.sweep} are computed in {record.arithmetic}, and this machine computes in "
                f"{mine}: the rest would not compare with them. Resume it where it began, or start a new sweep"
            )
