"""The command line on a server: the same answers as on this machine, and sweeps that survive what happens between."""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sweeper.cli import app
from sweeper.ledger.opening import open_ledger
from sweeper.spec.parse import load_spec
from tests.faults import CLEARED, INLINE, Site, check_promise, outcomes, wait_until
from tests.ports import own_port
from tests.served import LONG, SMALL, Served, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MIXED: dict[str, Any] = {  # some trials are complete, some pruned, some diverge
    "name": "mixed",
    "dataset": {"name": "iris"},
    "space": {"learning_rate": {"float": [1e-3, 1e6], "log": True}, "hidden_layers": [8]},
    "training": {"epochs": 12, "clip_norm": None},
    "search": {"trials": 20, "sampler": "random", "pruner": "median", "window": 4},
}
TABLE_SWEEP: dict[str, Any] = {
    "space": {
        "learning_rate": {"float": [1e-4, 1e5], "log": True},
        "activation": {"choice": ["relu", "tanh"]},
        "hidden_layers": {"choice": [[32, 32]]},
    },
    "training": {"epochs": 150, "batch_size": 8, "clip_norm": None},
    "search": {"trials": 24, "seed": 3},
}


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object that it printed."""
        assert self.code == 0, self.err
        return json.loads(self.out)


Call = Callable[..., Said]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("client") / "home", dataset_bytes=20_000) as served:
        yield served


@pytest.fixture(scope="module")
def mixed(served: Served) -> str:
    sweep = served.submit("ada", MIXED)
    served.wait(sweep, "complete")
    return sweep


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """The command line in this process, with the environment variables ``env``."""

    def run(*words: str, **env: str) -> Said:
        with monkeypatch.context() as patch:
            for name in CLEARED:
                patch.delenv(name, raising=False)
            patch.setenv("SWEEPER_HOME", str(tmp_path / "home-of-the-client"))
            for name, value in env.items():
                patch.setenv(name, value)
            patch.setattr("sys.argv", ["sweeper", *words])
            capsys.readouterr()
            with pytest.raises(SystemExit) as end:
                app.main()
            code = end.value.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert "internal error" not in err, err
        return Said(code if isinstance(code, int) else 0, out, err)

    return run


@pytest.fixture
def remote(call: Call, served: Served) -> Call:
    """The command line on the server, as a user of it."""

    def run(*words: str, user: str = "ada") -> Said:
        return call(*words, SWEEPER_SERVER=served.url, SWEEPER_TOKEN=served.tokens[user])

    return run


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 flowers of three kinds, with a text column and a constant one."""
    draw, path = random.Random(0), tmp_path_factory.mktemp("table") / "flowers.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["length", "width", "place", "planet", "kind"])
        for number in range(300):
            kind = number % 3
            values = f"{draw.gauss(3 + kind, 0.4):.2f}", f"{draw.gauss(1 + kind / 2, 0.3):.2f}"
            rows.writerow([*values, draw.choice("NSEW"), "earth", "abc"[kind]])
    return path


class TestTheSameAnswers:
    @pytest.mark.parametrize(
        "words",
        [
            "list --json",
            "list",
            "status {sweep} --json",
            "status mixed --watch",
            "trials {sweep} --json",
            "trials mixed --sort value --json",
            "trials mixed --sort -val_loss --state complete --json",
            "trials mixed --csv",
            "trials mixed",
            "trials mixed --sort -val_loss --state complete --limit 3 --offset 1 --json",
            "trials mixed --offset 15",
            "trials mixed --sort valu --limit 2",
            "best mixed -k 4 --json",
            "best mixed -k 5000 --json",
            "best mixed",
            "why mixed 0 --json",
            "why mixed 19",
            "report mixed --out {tmp}/report.html --json",
            "export mixed --csv -",
            "stop mixed --json",
            "pause mixed",
            "status nosuch",
            "status mixd",
            "why mixed 99",
            "trials mixed --sort valu",
            "trials mixed --state odd",
            "export mixed",
            "spaces --json",
        ],
    )
    def test_a_verb_says_the_same_of_the_same_ledger(
        self, words: str, call: Call, remote: Call, served: Served, mixed: str, tmp_path: Path
    ) -> None:
        command = words.format(sweep=mixed, tmp=tmp_path).split()
        there = remote(*command)
        here = call(*command, SWEEPER_HOME=str(served.settings.home))
        assert there == here
        assert there.out or there.code

    def test_every_kind_of_trial_was_compared(self, served: Served, mixed: str) -> None:
        counts = served.ledger.sweep(mixed).counts
        assert all(counts[state] > 0 for state in ("complete", "pruned", "failed")), counts

    def test_a_finished_sweep_is_resumed_to_the_same_summary(
        self, call: Call, remote: Call, served: Served, mixed: str
    ) -> None:
        there = remote("resume", mixed, "--json").json
        here = call("resume", mixed, "--json", SWEEPER_HOME=str(served.settings.home)).json
        assert there["mlflow"].pop("tracking_uri") == "http://mlflow.example"
        assert here["mlflow"].pop("tracking_uri").startswith("sqlite:")
        assert there == here

    def test_a_model_that_was_trained_there_is_the_one_that_is_trained_here(
        self, call: Call, remote: Call, served: Served, mixed: str, tmp_path: Path
    ) -> None:
        there = remote("export", mixed, "--model", str(tmp_path / "there"), "--json").json
        here = call(
            "export", mixed, "--model", str(tmp_path / "here"), "--json", SWEEPER_HOME=str(served.settings.home)
        ).json
        assert there.pop("model") == str(tmp_path / "there")
        assert here.pop("model") == str(tmp_path / "here")
        assert there == here
        names = sorted(path.name for path in (tmp_path / "here").iterdir())
        assert sorted(path.name for path in (tmp_path / "there").iterdir()) == names
        for name in ("weights.safetensors", "predict.py", "preprocessing.json"):
            assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
        assert remote("export", mixed, "--model", str(tmp_path / "there")).code == 2, "the folder is not empty"

    def test_the_report_is_the_servers_with_its_winners_predictions(
        self, remote: Call, served: Served, mixed: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "report.html"
        assert remote("report", mixed, "--out", str(file)).code == 0
        page = file.read_text(encoding="utf-8")
        assert page == (served.settings.home / "sweeps" / mixed / "report.html").read_text(encoding="utf-8")
        assert "on the validation split" in page

    def test_sweeps_are_compared_by_the_server_as_here(
        self, call: Call, remote: Call, served: Served, mixed: str, tmp_path: Path
    ) -> None:
        other = served.submit("ada", MIXED | {"name": "other", "search": MIXED["search"] | {"trials": 4}})
        served.wait(other, "complete")
        page = tmp_path / "page.html"
        there = remote("compare", mixed, other, "--seeds", "2", "--json", "--out", str(page)).json
        assert there.pop("page") == str(page)
        assert there["sentence"] in page.read_text(encoding="utf-8").replace("&#39;", "'")
        home = str(served.settings.home)
        assert there == call("compare", mixed, other, "--seeds", "2", "--json", SWEEPER_HOME=home).json
        assert remote("compare", mixed, "nope").code == 4

    def test_labels_are_written_there_and_found_by(self, remote: Call, mixed: str) -> None:
        assert remote("tag", mixed, "warm", "paper one", "--json").json["tags"] == ["warm", "paper one"]
        assert remote("note", mixed, "diverges above 1e5").out == "diverges above 1e5\n"
        [row] = remote("list", "--tag", "warm", "--sort", "-best", "--json").json["sweeps"]
        assert (row["sweep"], row["tags"], row["note"]) == (mixed, ["warm", "paper one"], "diverges above 1e5")
        assert remote("tag", mixed, "x" * 61).code == 2
        remote("archive", mixed)
        assert mixed not in remote("list").out
        assert mixed in remote("list", "--archived").out
        remote("archive", mixed, "--undo")
        assert remote("tag", mixed, "--remove", "warm", "--remove", "paper one", "--json").json["tags"] == []
        assert remote("note", mixed, "").out == f"sweep {mixed} has no note\n"
        assert remote("tag", mixed, "mine", user="bob").code in (2, 4)

    def test_a_study_is_written_here_from_the_records_there(self, remote: Call, mixed: str, tmp_path: Path) -> None:
        import optuna

        url = f"sqlite:///{tmp_path}/study.db"
        assert remote("export", mixed, "--optuna", url, "--json").json["trials"] == 20
        assert len(optuna.load_study(study_name=mixed, storage=url).trials) == 20

    def test_the_interface_of_the_servers_mlflow_is_named(self, remote: Call, mixed: str) -> None:
        shown = remote("ui", mixed, "--no-browser")
        assert shown.out.startswith("http://mlflow.example/#/experiments/")
        assert mixed in shown.out

    def test_failed_trials_run_again(self, remote: Call, served: Served) -> None:
        sweep = served.submit("ada", MIXED | {"name": "again"})
        before = served.wait(sweep, "complete")
        assert remote("retry", "again").code == 2
        after = remote("retry", "again", "--failed", "--json").json
        assert {key: after[key] for key in ("sweep", "complete", "failed", "pruned")} == {
            key: before[key] for key in ("sweep", "complete", "failed", "pruned")
        }
        attempts = {t["state"]: t["attempts"] for t in remote("trials", "again", "--json").json["trials"]}
        assert attempts == {"complete": 1, "pruned": 1, "failed": 2}


class TestASweepThatRuns:
    def test_it_is_left_watched_paused_taken_up_and_stopped(self, remote: Call, served: Served, tmp_path: Path) -> None:
        file = tmp_path / "long.json"
        file.write_text(json.dumps(LONG | {"name": "long"}))
        left = remote("run", str(file), "--detach", "--json").json
        assert left["name"] == "long"
        assert left["log"] == f"{served.url}/api/v1/sweeps/{left['sweep']}/events"
        wait_until(lambda: remote("status", "long", "--json").json["running"] > 0, 60)
        status = remote("status", "long", "--json").json
        assert status["state"] == "running"
        assert status["controller"]
        busy = remote("delete", "long", "--yes")
        assert (busy.code, busy.err) == (
            1, f"sweeper: sweep {left['sweep']} is running. Stop it first: sweeper stop {left['sweep']}\n",
        )  # fmt: skip
        assert remote("budget", "long", "--trials", "5", "--priority", "2", "--json").json["requested"] == 5
        assert (served.ledger.sweep("long").requested, served.ledger.sweep("long").priority) == (5, 2)
        assert remote("budget", "long").code == 2
        assert remote("pause", "long", "--json").json["state"] == "paused"

        site = Site(tmp_path / "client", {"SWEEPER_SERVER": served.url, "SWEEPER_TOKEN": served.tokens["ada"]})
        process = site.start("resume", "long")
        wait_until(lambda: remote("status", "long", "--json").json["running"] > 0, 60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130, err
        assert f"`sweeper status {left['sweep']} --watch`" in err
        assert f"`sweeper stop {left['sweep']}`" in err
        assert "Traceback" not in err
        assert remote("status", "long", "--json").json["state"] == "running", "Ctrl-C leaves it running"

        log = served.settings.home / "sweeps" / left["sweep"] / "events.jsonl"
        watching = site.start("resume", "long")
        wait_until(lambda: '"kind": "resume"' in log.read_text(), 60)  # a stop that comes first would be resumed
        assert remote("stop", "long", "--json").json["stopped"] == 5
        out, err = watching.communicate(timeout=240)
        found = remote("status", "long", "--json").json["best"]  # of the stopped trials, if one has done an epoch
        assert watching.returncode == (3 if found is None else 0), err
        assert "is stopped" in out
        assert remote("delete", "long", "--yes", "--json").json == {"deleted": left["sweep"]}
        assert remote("status", "long").code == 4
        site.close()

    def test_the_option_is_understood_before_and_after_the_verb(
        self, served: Served, mixed: str, tmp_path: Path
    ) -> None:
        site = Site(
            tmp_path / "client", {"SWEEPER_SERVER": "http://127.0.0.1:1", "SWEEPER_TOKEN": served.tokens["ada"]}
        )
        for words in (("--server", served.url, "status", mixed), ("status", mixed, f"--server={served.url}")):
            assert site.run(*words).returncode == 0
        assert site.run("list").returncode == 1
        assert json.loads(site.run("list", "--server", "", "--json").stdout) == {"sweeps": []}
        site.close()


def test_the_budget_of_a_sweep_that_nobody_runs_is_changed_here(call: Call, tmp_path: Path) -> None:
    home, ledger = str(tmp_path), open_ledger(None, tmp_path)
    sweep = ledger.create_sweep("waiting", load_spec(SMALL).to_json(), 6).sweep
    assert call("budget", "waiting", "--trials", "9", "--json", SWEEPER_HOME=home).json["requested"] == 9
    said = call("budget", "waiting", "--trials", "3", "--priority", "-1", SWEEPER_HOME=home)
    assert (said.code, said.out) == (0, f"sweep {sweep} has 3 trials and priority -1\n")
    assert len(ledger.trials(sweep)) == 3
    assert call("stop", "waiting", SWEEPER_HOME=home).code == 0
    ended = call("budget", "waiting", "--trials", "4", SWEEPER_HOME=home)
    assert (ended.code, "that has ended cannot be changed" in ended.err) == (1, True)
    more = call("resume", "waiting", "--trials", "4", "--workers", "inline", "--json", SWEEPER_HOME=home)
    assert (more.json["state"], more.json["requested"], more.json["complete"]) == ("complete", 4, 4)
    ledger.close()


def test_a_complete_sweep_of_a_server_goes_on_to_more_trials_and_is_followed(remote: Call, served: Served) -> None:
    ended = remote("run", "--dataset", "iris", "--trials", "3", "--set", "training.epochs=2", "--json").json
    again = remote("resume", ended["sweep"], "--trials", "5", "--json")
    assert (again.json["sweep"], again.json["requested"], again.json["complete"]) == (ended["sweep"], 5, 5)
    fewer = remote("resume", ended["sweep"], "--trials", "2")
    assert (fewer.code, "5 trials already, and 2 are fewer" in fewer.err) == (2, True)


class TestRefusals:
    def test_a_wrong_token_none_and_a_broken_one_are_told_apart(self, call: Call, served: Served) -> None:
        wrong = call("list", SWEEPER_SERVER=served.url, SWEEPER_TOKEN="swp_00000000_secret")
        assert wrong.code == 1
        assert "rejects the token in SWEEPER_TOKEN" in wrong.err
        assert "secret" not in wrong.err
        none = call("list", SWEEPER_SERVER=served.url)
        assert "requires a token. Set SWEEPER_TOKEN" in none.err
        assert call("list", SWEEPER_SERVER=served.url, SWEEPER_TOKEN="two lines\n").code == 2

    def test_the_sweep_of_another_user_is_not_there(self, remote: Call, mixed: str) -> None:
        for words in (("status", mixed), ("stop", mixed), ("delete", mixed, "--yes"), ("trials", "mixed")):
            there = remote(*words, user="bob")
            assert there.code == 4
            assert "there is no sweep" in there.err

    def test_a_viewer_looks_and_changes_nothing(self, remote: Call, mixed: str) -> None:
        assert remote("best", mixed, user="vic").code == 0
        for words in (("delete", mixed, "--yes"), ("run", "--dataset", "iris", "--detach")):
            refused = remote(*words, user="vic")
            assert refused.code == 1
            assert "vic is a viewer" in refused.err

    def test_a_typo_is_found_before_anything_is_sent(self, call: Call, remote: Call) -> None:
        words = ("run", "--dataset", "digits", "--set", "training.epoch=5")
        assert remote(*words) == call(*words)
        assert remote(*words).code == 2

    def test_data_that_cannot_be_used_is_found_before_it_is_sent(self, call: Call, remote: Call, table: Path) -> None:
        words = ("run", "--dataset", str(table), "--set", "dataset.target=knd")
        there = remote(*words)
        assert there == call(*words, *INLINE)
        assert there.code == 2
        assert "Did you mean 'kind'?" in there.err

    def test_code_is_refused_with_the_reason(self, remote: Call, tmp_path: Path) -> None:
        code = tmp_path / "mine.py"
        code.write_text(
            "def space(trial):\n    return {'learning_rate': trial.suggest_float('learning_rate', 0.1, 1)}\n"
        )
        refused = remote("run", "--dataset", "iris", "--space", f"{code}:space")
        assert refused.code == 2
        assert "runs no code of its users" in refused.err
        refused = remote("run", "--dataset", "iris", "--set", f"model={code}:space")
        assert refused.code == 2
        assert "model: this function cannot be sent to the server, which runs no code of its users" in refused.err

    def test_a_file_beyond_the_limit_is_refused_before_it_is_sent(self, remote: Call, tmp_path: Path) -> None:
        large = tmp_path / "large.csv"
        large.write_text("x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(5000)))
        refused = remote("run", "--dataset", str(large), "--set", "dataset.target=y")
        assert refused.code == 2
        assert "the server accepts at most 20 kB" in refused.err

    def test_workers_are_the_servers(self, remote: Call) -> None:
        refused = remote("run", "--dataset", "iris", *INLINE)
        assert (refused.code, "--workers" in refused.err) == (2, True)

    def test_a_server_that_is_not_there_is_told_at_once(self, call: Call) -> None:
        began = time.monotonic()
        gone = call("run", "--dataset", "iris", SWEEPER_SERVER="http://127.0.0.1:1", SWEEPER_TOKEN="t")
        assert gone.code == 1
        assert "cannot be reached (Connection refused)" in gone.err
        assert time.monotonic() - began < 20

    def test_the_doctor_looks_at_the_server(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        from sweeper.cli import doctor
        from sweeper.settings import Settings

        monkeypatch.setattr(doctor, "CHECKS", ())
        home = served.settings.home
        [well] = doctor.examine(Settings(home, server=served.url, token=served.tokens["bob"]))
        assert (well.name, well.state) == ("server", "ok")
        assert "you are bob (user)" in well.found
        [ill] = doctor.examine(Settings(home, server=served.url, token="swp_secret"))
        assert (ill.state, "secret" in ill.found + ill.fix) == ("failure", False)
        assert list(doctor.examine(Settings(home))) == []


def test_a_table_is_sent_once_and_a_service_that_is_killed_goes_on(table: Path, tmp_path: Path) -> None:
    """`kill -9` of the service in the middle of `run`: the client waits for the next one, and the promise holds."""
    spec = tmp_path / "sweep.json"
    spec.write_text(json.dumps(TABLE_SWEEP | {"dataset": {"path": str(table), "target": "kind"}}))
    here, there, client = (Site(tmp_path / name) for name in ("undisturbed", "server", "client"))
    undisturbed = outcomes(here.trials(here.answer("run", str(spec), *INLINE)["sweep"]))
    url = f"http://127.0.0.1:{own_port()}"
    token = there.answer("token", "create", "ann")["token"]
    client.env = {"SWEEPER_SERVER": url, "SWEEPER_TOKEN": token}
    service = _serve(there, url)
    run = client.start("run", str(spec), "--json", "--name", "flowers")
    there.wait_for_trials("flowers", 3, run)
    there.kill(service)
    service.wait()
    service = _serve(there, url)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert token not in out + err
    for words in ("uploading flowers.csv", "'planet'", "reconnecting", "the server answers again", "is complete"):
        assert words in err
    summary = json.loads(out)
    assert summary["state"] == "complete"
    check_promise(there, summary["sweep"], 24, undisturbed)
    again = client.run("run", str(spec), "--trials", "2", "--set", "training.epochs=1", "--name", "more")
    assert again.returncode == 0, again.stderr
    assert "flowers.csv is on the server already" in again.stderr
    assert "winner: trial" in again.stdout
    service.terminate()
    assert service.wait(60) == 0
    for site in (here, there, client):
        site.close()


def _serve(site: Site, url: str) -> subprocess.Popen[str]:
    service = site.start("serve", "--port", url.rpartition(":")[2], *INLINE)

    def answers() -> bool:
        assert service.poll() is None, service.communicate()[1]
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
                return answer.status == 200
        except OSError:  # it does not answer yet
            return False

    wait_until(answers, 60)
    return service


def test_a_sweep_is_submitted_with_its_priority_and_only_a_server_knows_priorities(
    call: Call, remote: Call, served: Served
) -> None:
    words = ("run", "--dataset", "iris", "--trials", "2", "--set", "training.epochs=1", "--priority", "5", "--json")
    sweep = remote(*words, "--name", "urgent").json["sweep"]
    assert served.ledger.sweep(sweep).priority == 5
    refused = call(*words, "--workers", "inline")
    assert (refused.code, "--priority" in refused.err) == (2, True)
