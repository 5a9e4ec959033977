"""A lease is respected while its owner lives, and taken over when it is gone."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from sweeper.errors import SweepBusy
from sweeper.ledger.memory import MemoryLedger
from sweeper.running.custody import holder, own_name, wait_until_free


def leased(owner: str, ttl: float = 60.0) -> tuple[MemoryLedger, str]:
    ledger = MemoryLedger()
    sweep = ledger.create_sweep("s", {}, 1).sweep
    assert ledger.acquire_lease(sweep, owner, ttl)
    return ledger, sweep


def test_a_living_owner_keeps_the_sweep() -> None:
    ledger, sweep = leased(own_name())
    assert holder(ledger, sweep) == own_name()
    with pytest.raises(SweepBusy, match="is run by"):
        wait_until_free(ledger, sweep)


@pytest.mark.parametrize("reaped", [True, False], ids=["gone", "zombie"])
def test_a_dead_process_of_this_host_loses_it_at_once(reaped: bool) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()
    if reaped:
        process.wait()
    else:
        time.sleep(0.2)
    ledger, sweep = leased(f"{own_name().rpartition(':')[0]}:{process.pid}")
    wait_until_free(ledger, sweep)
    assert ledger.lease(sweep) is None
    assert ledger.acquire_lease(sweep, "another", 60.0)
    process.wait()
    process.stdout.close()


def test_an_owner_on_another_host_is_waited_for_until_its_lease_runs_out() -> None:
    ledger, sweep = leased("elsewhere:1", ttl=0.5)
    wait_until_free(ledger, sweep)
    assert ledger.lease(sweep) is None


def test_an_owner_on_another_host_that_renews_is_alive() -> None:
    ledger, sweep = leased("elsewhere:1", ttl=30.0)
    real = ledger.lease
    calls = []

    def renewing(ref: str) -> object:
        calls.append(ref)
        if len(calls) == 2:
            assert ledger.renew_lease(sweep, "elsewhere:1", 60.0)
        return real(ref)

    ledger.lease = renewing  # type: ignore[method-assign,assignment]
    with pytest.raises(SweepBusy, match="elsewhere"):
        wait_until_free(ledger, sweep)
