"""An owner is dead only when its own kernel and namespace say so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sweeper.running import owners
from sweeper.running.owners import Owner, has_ended, new_owner, shown

TELL = "from sweeper.running.owners import new_owner; print(new_owner(), flush=True)"
linux = pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="needs /proc")


def owner_of(text: str) -> Owner:
    known = Owner.of(text)
    assert known is not None
    return known


def told_by(*command: str) -> str:
    run = subprocess.run([*command, sys.executable, "-c", TELL], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_a_process_is_a_new_owner_each_time_and_people_see_host_and_pid() -> None:
    first, second = new_owner(), new_owner()
    assert first != second
    assert replace(owner_of(first), mark="") == replace(owner_of(second), mark="")
    assert str(owner_of(first)) == first
    assert shown(first).endswith(f":{os.getpid()}")
    assert not has_ended(first)


@linux
def test_a_process_that_has_ended_is_dead() -> None:
    assert has_ended(told_by())


@linux
def test_a_zombie_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", TELL], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        process.stdout.read()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(owner)


@linux
def test_another_process_that_has_got_the_same_id_is_not_the_owner() -> None:
    here = owner_of(new_owner())
    assert has_ended(str(replace(here, started=str(int(here.started) - 1))))


@linux
@pytest.mark.parametrize("changed", ["host", "boot", "namespace"])
def test_of_another_machine_boot_or_namespace_nothing_is_known(changed: str) -> None:
    dead = owner_of(told_by())
    assert has_ended(str(dead))
    assert not has_ended(str(replace(dead, **{changed: "another"})))


@pytest.mark.parametrize("text", ["", "elsewhere:1", "a:b c/d/e/f", "host:1 /boot/namespace"])
def test_of_an_owner_written_otherwise_nothing_is_known(text: str) -> None:
    assert Owner.of(text) is None
    assert not has_ended(text)


@linux
def test_without_a_proc_of_its_own_a_process_is_never_called_dead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dead = owner_of(told_by())
    monkeypatch.setattr(owners, "PROC", tmp_path)
    here = owner_of(new_owner())
    assert (here.boot, here.namespace, here.started) == ("", "", "")
    assert not has_ended(str(dead))
    assert not has_ended(str(replace(here, pid=dead.pid)))


@linux
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")
class TestNamespaces:
    def test_pid_1_of_an_ended_namespace_is_neither_dead_nor_alive_from_here(self) -> None:
        inside = owner_of(told_by("unshare", "--pid", "--fork", "--mount-proc"))
        assert inside.pid == 1
        assert inside.boot == owner_of(new_owner()).boot
        assert not has_ended(str(inside))

    def test_a_living_process_of_out_here_is_not_dead_in_there_where_its_id_is_unknown(self) -> None:
        code = "import sys; from sweeper.running.owners import has_ended; print(has_ended(sys.argv[1]))"
        command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code, new_owner()]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"

    def test_a_namespace_whose_proc_shows_other_ids_is_not_trusted(self) -> None:
        inside = owner_of(told_by("unshare", "--pid", "--fork"))
        assert (inside.pid, inside.boot, inside.started) == (1, "", "")

    def test_a_container_that_is_started_again_as_pid_1_knows_that_it_was_not_the_one_before(self) -> None:
        one, two = (owner_of(told_by("unshare", "--pid", "--fork", "--mount-proc")) for _ in range(2))
        assert (one.host, one.pid, one.boot) == (two.host, two.pid, two.boot)
        assert one.started != two.started
