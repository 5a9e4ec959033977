"""What verbs print with --json is what their published schemas say; programs drive sweeps through MCP."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sweeper.cli import app
from sweeper.cli.mcp_server import TOOLS, make_server
from sweeper.cli.schemas import ANSWERS, schema_of

SPEC: dict[str, Any] = {
    "name": "shown",
    "dataset": {"name": "iris"},
    "space": {"learning_rate": {"float": [1e-3, 1e6], "log": True}, "hidden_layers": {"value": [4]}},
    "training": {"epochs": 3, "clip_norm": None},
    "search": {"trials": 5, "sampler": "random"},
    "finals": {"top": 2, "seeds": 2},
    "winner": "ensemble",
}
DRIVEN: dict[str, Any] = {
    "name": "driven",
    "dataset": {"name": "iris"},
    "space": {"learning_rate": {"value": 0.01}, "hidden_layers": {"value": [4]}},
    "training": {"epochs": 2},
    "search": {"trials": 1},
}
Ask = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("schemas")
    (folder / "sweep.json").write_text(json.dumps(SPEC))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_HOME", str(folder / "home"))
        for name in ("MLFLOW_TRACKING_URI", "SWEEPER_DATABASE_URL", "RAY_ADDRESS", "SWEEPER_SERVER"):
            patch.delenv(name, raising=False)
        yield folder


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """The object that a verb prints, checked against the verb's schema."""

    def run(verb: str, *words: str) -> Any:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["sweeper", verb, *words, "--json"])
        with pytest.raises(SystemExit) as end:
            app.main()
        out, err = capsys.readouterr()
        assert end.value.code in (0, None), err
        found = json.loads(out)
        jsonschema.validate(found, schema_of(verb))
        return found

    return run


def test_every_verb_prints_what_its_schema_says(ask: Ask, home: Path) -> None:
    summary = ask("run", str(home / "sweep.json"), "--workers", "inline")
    assert {"finals", "ensemble", "baselines", "test", "best"} <= set(summary)
    trials = ask("trials", "shown")["trials"]
    assert {trial["state"] for trial in trials} == {"complete", "failed"}
    for trial in trials:
        ask("why", "shown", str(trial["number"]))
    (home / "other.json").write_text(json.dumps(DRIVEN))
    other = ask("run", str(home / "other.json"), "--workers", "inline", "--name", "other")
    ask("compare", "shown", "other")
    for words in (
        ["plan", str(home / "sweep.json")],
        ["resume", "shown", "--workers", "inline"],
        ["list", "--sort", "best"],
        ["status", "shown"],
        ["best", "shown", "-k", "2"],
        ["trials", "shown", "--limit", "1", "--offset", "1"],
        ["report", "shown"],
        ["tag", "shown", "a"],
        ["note", "shown", "b"],
        ["archive", "other"],
        ["stop", "shown"],
        ["export", "shown", "--model", str(home / "model")],
        ["export", "shown", "--optuna", f"sqlite:///{home / 'optuna.db'}"],
        ["spaces"],
        ["datasets"],
        ["delete", other["sweep"], "--yes"],
    ):
        ask(*words)


def test_a_schema_refuses_what_the_verb_does_not_print() -> None:
    for verb in ANSWERS:
        jsonschema.Draft202012Validator.check_schema(schema_of(verb))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"sweep": "s", "tags": "a"}, schema_of("tag"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"sweeps": [], "more": 1}, schema_of("list"))


def test_tools_answer_as_the_verbs_do_and_errors_are_told(ask: Ask, home: Path) -> None:
    from mcp import Client

    async def drive() -> None:
        async with Client(make_server()) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert names == {tool.__name__ for tool in TOOLS}
            found = await client.call_tool("sweep_status", {"sweep": "tools"})
            assert not found.is_error
            assert found.structured_content == status
            wrong = await client.call_tool("best_trials", {"sweep": "nope"})
            assert wrong.is_error
            assert "there is no sweep 'nope'" in wrong.content[0].text
            typo = await client.call_tool("run_sweep", {"sweep_file": {"dataset": {"name": "iriss"}}})
            assert typo.is_error
            assert "iris" in typo.content[0].text

    (home / "tools.json").write_text(json.dumps(DRIVEN))
    ask("run", str(home / "tools.json"), "--workers", "inline", "--name", "tools")
    status = ask("status", "tools")
    asyncio.run(drive())


def test_a_program_runs_a_sweep_over_stdin_and_stdout(tmp_path: Path) -> None:
    from mcp import Client, StdioServerParameters, stdio_client

    async def drive() -> dict[str, Any]:
        server = StdioServerParameters(command=sys.executable, args=["-m", "sweeper", "mcp"], env=environment)
        async with Client(stdio_client(server, errlog=log)) as client:
            begun = await client.call_tool("run_sweep", {"sweep_file": DRIVEN, "workers": "inline"})
            assert not begun.is_error, begun.content
            for _ in range(60):
                found = await client.call_tool("sweep_status", {"sweep": begun.structured_content["sweep"]})
                if found.structured_content["state"] == "complete":
                    break
                await asyncio.sleep(0.5)
            return dict(found.structured_content)

    environment = dict(os.environ)
    with (tmp_path / "stderr").open("w") as log:
        assert asyncio.run(drive())["complete"] == 1
