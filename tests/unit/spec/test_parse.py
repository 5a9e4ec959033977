"""The sweep file: defaults, options, overrides, and what is refused with file, key, value and nearest name."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.search_spaces import load_space
from sweeper.spec.parse import DATASETS, DatasetSpec, SearchSpec, SweepSpec, load_spec, spec_from_options

MINIMAL = {"dataset": {"name": "digits"}}

WHOLE = """
name: digits-mlp
dataset: {name: digits}
split: {validation: 0.25, test: 0.1, seed: 7}
normalize: minmax
space: mlp
training: {epochs: 5, batch_size: full, clip_norm: null, plateau: {factor: 0.1, min_lr: 1e-5}, replicates: 2}
objective: {metric: val_accuracy}
search: {sampler: random, pruner: median, trials: 12, timeout: 1h30m, seed: 3, window: 6, deterministic: false}
finals: {top: 2, seeds: 3}
tracking: {experiment: mine, register_model: digits}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a table, a space, and a sweep file in a folder below that uses both."""
    monkeypatch.chdir(tmp_path)
    below = tmp_path / "below"
    below.mkdir()
    (below / "data.csv").write_text("a,label\n1,x\n")
    (below / "mine.yaml").write_text("learning_rate: {float: [1e-4, 1e-1], log: true}\n")
    (below / "sweep.yaml").write_text("dataset: {path: data.csv, target: label}\nspace: mine.yaml\n")
    return tmp_path


def refused(source, *needles, overrides=(), **options):
    """The spec is refused with exit code 2 and a message that holds every needle."""
    with pytest.raises(SpecError) as caught:
        load_spec(source, overrides, **options)
    assert caught.value.exit_code == 2
    for needle in needles:
        assert needle in str(caught.value), str(caught.value)
    return caught.value


# Defaults and round trips


def test_the_defaults_are_those_of_the_design():
    spec = load_spec(MINIMAL)
    assert spec.to_json() == {
        "name": "digits-mlp",
        "dataset": {
            "name": "digits",
            "path": None,
            "target": None,
            "task": None,
            "validation": None,
            "test": None,
            "drop": [],
            "weight": None,
        },
        "split": {
            "validation": 0.2,
            "test": 0.2,
            "seed": 0,
            "folds": None,
            "group": None,
            "time": None,
            "column": None,
        },
        "normalize": "standard",
        "inputs": {
            "missing_indicator": False,
            "numeric_embedding": "none",
            "bins": 16,
            "binning": "quantile",
            "frequencies": 48,
            "embedding_size": 24,
            "frequency_scale": 0.01,
            "category_embedding": 0,
            "max_one_hot": 9,
        },
        "training": {
            "epochs": 20,
            "batch_size": 64,
            "clip_norm": 1.0,
            "schedule": "plateau",
            "warmup_epochs": 0.0,
            "plateau": {"factor": 0.5, "patience": 3, "min_lr": 1e-6, "threshold": 1e-4, "cooldown": 0},
            "replicates": 1,
            "gradient_flow": 1,
            "keep": "best",
            "patience": None,
            "class_weights": None,
        },
        "objective": {"metric": "val_loss", "direction": "minimize"},
        "constraints": [],
        "metrics": [],
        "model": None,
        "search": {
            "sampler": "tpe",
            "pruner": "none",
            "trials": 256,
            "timeout": None,
            "seed": 0,
            "window": None,
            "deterministic": True,
            "enqueue": None,
            "from": None,
            "warm": None,
            "stop": None,
        },
        "finals": None,
        "winner": None,
        "tracking": {"experiment": None, "register_model": None, "trials": 2000},
        "notify": [],
        "space": load_space("mlp").to_json(),
    }


def test_the_contracts_sweep_file_is_read(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(WHOLE)
    spec = load_spec(path)
    assert spec.training.batch_size == "full"
    assert spec.training.clip_norm is None
    assert spec.training.plateau.min_lr == 1e-5
    assert spec.objective.direction == "maximize"
    assert spec.search.timeout == 5400.0
    assert spec.finals.top == 2
    assert spec.tracking.register_model == "digits"


def test_a_spec_survives_json_exactly(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(WHOLE)
    spec = load_spec(path)
    data = json.loads(json.dumps(spec.to_json(), sort_keys=True))
    assert SweepSpec.from_json(data) == spec
    assert SweepSpec.from_json(data).to_json() == spec.to_json()
    assert load_spec(data) == spec
    assert load_spec(spec) == spec


def test_a_json_file_says_the_same_as_a_yaml_file(tmp_path):
    (tmp_path / "sweep.yaml").write_text(WHOLE)
    spec = load_spec(tmp_path / "sweep.yaml")
    (tmp_path / "sweep.json").write_text(json.dumps(spec.to_json()))
    assert load_spec(tmp_path / "sweep.json") == spec


def test_a_stored_spec_is_read_when_its_data_file_is_gone(folder):
    spec = load_spec("below/sweep.yaml")
    data = spec.to_json()
    (folder / "below" / "data.csv").unlink()
    assert SweepSpec.from_json(data) == spec


def test_a_stored_spec_that_is_damaged_is_a_spec_error():
    data = load_spec(MINIMAL).to_json()
    for damaged in ({}, {**data, "space": 5}, {**data, "space": {}}, {**data, "search": 5}, {**data, "new": 1}):
        with pytest.raises(SpecError, match="stored spec"):
            SweepSpec.from_json(damaged)


def test_empty_sections_have_their_defaults():
    assert load_spec({**MINIMAL, "search": None, "training": {}}) == load_spec(MINIMAL)


def test_finals_without_keys_have_their_defaults():
    defaults = {"top": 5, "seeds": 10, "folds": None, "repeats": 1}
    assert load_spec({**MINIMAL, "finals": {}}).finals.model_dump() == defaults


def test_reading_a_mapping_does_not_change_it():
    mapping = {"dataset": {"name": "digits"}, "search": {"trials": 3}}
    load_spec(mapping, ["search.trials=5", "training.epochs=2"], seed=4)
    assert mapping == {"dataset": {"name": "digits"}, "search": {"trials": 3}}


@pytest.mark.parametrize(
    ("space", "name"),
    [("wide", "digits-wide"), ({"learning_rate": {"float": [0.1, 1.0]}}, "digits-inline"), (None, "digits-mlp")],
)
def test_the_name_follows_from_dataset_and_space(space, name):
    assert load_spec({**MINIMAL, **({"space": space} if space else {})}).name == name


def test_a_default_name_has_allowed_characters_only(tmp_path):
    (tmp_path / "größe & co.csv").write_text("a,b\n1,2\n")
    spec = spec_from_options(str(tmp_path / "größe & co.csv"), sets=["dataset.target=b"])
    assert spec.name == "größe - co-mlp"


def test_a_name_or_target_that_reads_as_a_number_is_text(tmp_path):
    (tmp_path / "x.csv").write_text("0,1\n")
    spec = load_spec({"dataset": {"path": tmp_path / "x.csv", "target": 1}}, ["name=2024"])
    assert (spec.name, spec.dataset.target) == ("2024", "1")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (600, 600),
        (0.5, 0.5),
        ("600", 600),
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("2h", 7200),
        ("1m 30s", 90),
        ("10min", 600),
    ],
)
def test_a_timeout_is_seconds_or_a_duration(written, seconds):
    assert load_spec({**MINIMAL, "search": {"timeout": written}}).search.timeout == seconds
    assert load_spec(MINIMAL, timeout=written).search.timeout == seconds


# Paths


def test_paths_in_a_sweep_file_start_at_its_folder(folder):
    spec = load_spec("below/sweep.yaml")
    assert spec.dataset.path == str(folder / "below" / "data.csv")
    assert spec.space.name == "mine"
    assert spec.name == "data-mine"


def test_paths_on_the_command_line_start_at_the_working_directory(folder):
    (folder / "other.csv").write_text("a,label\n1,x\n")
    assert load_spec("below/sweep.yaml", ["dataset.path=other.csv"]).dataset.path == str(folder / "other.csv")
    assert load_spec("below/sweep.yaml", ["space=below/mine.yaml"]).space.name == "mine"


def test_a_function_space_is_found_beside_the_sweep_file_and_survives_json(folder):
    source = "def mine(trial):\n    trial.suggest_float('learning_rate', 0.1, 1.0)\n"
    (folder / "below" / "my_space.py").write_text(source)
    (folder / "below" / "sweep.yaml").write_text("dataset: {name: iris}\nspace: my_space.py:mine\n")
    spec = load_spec("below/sweep.yaml")
    assert spec.space.is_function
    assert spec.name == "iris-mine"
    assert SweepSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_function_space_that_suggests_nonsense_is_refused_before_the_sweep(folder):
    (folder / "my_space.py").write_text("def mine(trial):\n    return {'learning_rte': 1}\n")
    refused(
        {**MINIMAL, "space": "my_space.py:mine"}, "space: my_space.py: learning_rte", "Did you mean 'learning_rate'"
    )


# Options and overrides


def test_a_sweep_without_a_file_comes_from_options():
    spec = spec_from_options("iris", "wide", trials=8, seed=5, name="a b", timeout="2m", sets=["training.epochs=3"])
    assert (spec.dataset.name, spec.space.name, spec.name) == ("iris", "wide", "a b")
    assert (spec.search.trials, spec.search.seed, spec.search.timeout) == (8, 5, 120)
    assert spec.training.epochs == 3


def test_a_data_file_on_the_command_line_takes_its_target_from_set(folder):
    spec = spec_from_options("below/data.csv", sets=["dataset.target=label"])
    assert spec.dataset == DatasetSpec(path=str(folder / "below" / "data.csv"), target="label")


def test_overrides_are_yaml_values_applied_last():
    overrides = ["training.epochs=5", "training.plateau=null", "finals.top=2", "space={learning_rate: 1e-3}"]
    spec = load_spec({**MINIMAL, "training": {"epochs": 9}, "finals": None}, overrides)
    assert spec.training.epochs == 5
    assert spec.training.plateau is None
    assert spec.finals.top == 2
    assert spec.space.active({}) == {"learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("override", "needle"),
    [
        ("training.epoch=5", "training.epoch: unknown key. Did you mean 'epochs'?"),
        ("training.plateau.patienc=5", "Did you mean 'patience'"),
        ("training=5", "training: 5 is not a section"),
        ("training.epochs", "'training.epochs' is not key=value"),
        ("=5", "is not key=value"),
        ("training..epochs=5", "is not key=value"),
        ("training.epochs=[", "training.epochs: '[': it is not valid YAML"),
        ("normalize.x=1", "normalize: {'x': 1} is not valid"),
        ("space.learning_rate=1", "not a hyperparameter"),
    ],
)
def test_a_wrong_override_is_refused(override, needle):
    if override.startswith("space."):
        refused(
            {**MINIMAL, "space": "mlp"}, "space is 'mlp', which has no 'learning_rate' to set", overrides=[override]
        )
    else:
        refused(MINIMAL, needle, overrides=[override])


# What is refused


@pytest.mark.parametrize(
    ("change", "needles"),
    [
        ({"trainig": {}}, ["trainig: unknown key", "Did you mean 'training'"]),
        ({"dataset": {"nam": "digits"}}, ["dataset.nam: unknown key", "Did you mean 'name'"]),
        ({"dataset": {"name": "digit"}}, ["dataset.name", "'digit'", "Did you mean 'digits'"]),
        ({"dataset": "digits"}, ["dataset: 'digits' is not a section", "{name: digits}"]),
        ({"dataset": {}}, ["neither name nor path"]),
        ({"dataset": {"name": "iris", "path": "x.csv"}}, ["both name and path"]),
        ({"dataset": {"name": "iris", "target": "x"}}, ["dataset.target"]),
        ({"dataset": {"name": "iris", "task": "regression"}}, ["dataset.task", "iris is a classification dataset"]),
        ({"dataset": {"path": "x.csv"}}, ["dataset.target: it is missing"]),
        ({"dataset": {"path": "x.xlsx", "target": "y"}}, ["dataset.path", ".parquet"]),
        ({"dataset": {"path": "", "target": "y"}}, ["dataset.path"]),
        ({"dataset": {"path": "x\0.csv", "target": "y"}}, ["dataset.path", "not text"]),
        ({"dataset": {"path": "x\udc80.csv", "target": "y"}}, ["dataset.path", "not text"]),
        ({"dataset": {"path": "x.csv", "target": "\ud800"}}, ["dataset.target", "not text"]),
        ({"space": "x\udc80.yaml"}, ["space", "not text"]),
        ({"split": {"validation": 0.6, "test": 0.5}}, ["split: ", "1.1", "below 1"]),
        ({"split": {"validation": 0}}, ["split.validation: 0 is not valid", "greater than 0"]),
        ({"split": {"seed": -1}}, ["split.seed"]),
        ({"normalize": "standart"}, ["normalize: 'standart'", "Did you mean 'standard'"]),
        ({"training": {"epochs": 0}}, ["training.epochs: 0 is not valid"]),
        ({"training": {"epochs": "5"}}, ["training.epochs: '5' is not valid", "integer"]),
        ({"training": {"epochs": True}}, ["training.epochs: True is not valid"]),
        ({"training": {"epochs": 2.5}}, ["training.epochs: 2.5"]),
        ({"training": {"batch_size": "ful"}}, ["training.batch_size", "'ful'", '"full"']),
        ({"training": {"batch_size": 0}}, ["training.batch_size"]),
        ({"training": {"clip_norm": 0}}, ["training.clip_norm", "null turns it off"]),
        ({"training": {"clip_norm": float("nan")}}, ["training.clip_norm: nan"]),
        ({"training": {"plateau": {"factor": 1}}}, ["training.plateau.factor: 1"]),
        ({"training": {"schedule": "cosin"}}, ["training.schedule: 'cosin'", "Did you mean 'cosine'"]),
        ({"training": {"warmup_epochs": 20}}, ["training.warmup_epochs: a warm-up of 20 epochs leaves none of the 20"]),
        ({"space": {"warmup_epochs": {"float": [0, 25]}}}, ["space.warmup_epochs: a warm-up of 25 epochs leaves none"]),
        (
            {"space": {"schedule": {"choice": ["plateau", "cosine"]}}, "training": {"plateau": None}},
            ["space.schedule", "training.plateau, which is null", "Use constant instead"],
        ),
        ({"space": {"dropout": {"float": [0, 1]}}}, ["space.dropout.float", "at least 0 and below 1"]),
        (
            {"space": {"hidden_layers": [8], "shape": "funnel"}},
            ["space.shape", "cannot be combined with hidden_layers"],
        ),
        ({"training": {"gradient_flow": 0}}, ["training.gradient_flow: 0", "null turns it off"]),
        (
            {"training": {"gradient_flow": None}, "search": {"pruner": "gradient_flow"}},
            ["training.gradient_flow: the pruner gradient_flow needs it"],
        ),
        ({"training": {"plateau": {"paitence": 1}}}, ["training.plateau.paitence", "Did you mean 'patience'"]),
        ({"objective": {"metric": "val_los"}}, ["objective.metric: 'val_los'", "Did you mean 'val_loss'"]),
        ({"objective": {"metric": "val_rmse"}}, ["a classification has no val_rmse", "val_accuracy"]),
        ({"objective": {"direction": "minimise"}}, ["objective.direction", "Did you mean 'minimize'"]),
        ({"search": {"sampler": "tpee"}}, ["search.sampler: 'tpee'", "Did you mean 'tpe'"]),
        ({"search": {"pruner": None}}, ["search.pruner: None", "Did you mean 'none'"]),
        ({"search": {"trials": 0}}, ["search.trials: 0"]),
        ({"search": {"trials": -3}}, ["search.trials: -3"]),
        ({"search": {"trials": 1_000_001}}, ["search.trials"]),
        ({"search": {"trials": 10**400}}, ["search.trials"]),
        ({"search": {"timeout": "soon"}}, ["search.timeout: 'soon' is not a duration", "1h30m"]),
        ({"search": {"timeout": ""}}, ["search.timeout"]),
        ({"search": {"timeout": 0}}, ["search.timeout"]),
        ({"search": {"timeout": 10**400}}, ["search.timeout"]),
        ({"search": {"window": 0}}, ["search.window"]),
        ({"search": {"stop": {}}}, ["search.stop: it says neither patience nor regret", "{patience: 50}"]),
        ({"search": {"stop": 50}}, ["search.stop: 50 is not a section"]),
        ({"search": {"stop": {"patience": 0}}}, ["search.stop.patience: 0 is not valid"]),
        ({"search": {"stop": {"regret": -1}}}, ["search.stop.regret: -1 is not valid"]),
        ({"search": {"stop": {"patients": 5}}}, ["search.stop.patients: unknown key", "Did you mean 'patience'"]),
        (
            {"search": {"stop": {"patience": 9}}, "objectives": [{"metric": "val_loss"}, {"metric": "parameters"}]},
            ["search.stop: a front has no best value", "keep one objective"],
        ),
        ({"search": {"deterministic": 1}}, ["search.deterministic: 1"]),
        ({"search": []}, ["search: [] is not a section"]),
        ({"finals": {"top": 0}}, ["finals.top"]),
        ({"finals": {"tops": 1}}, ["finals.tops: unknown key", "Did you mean 'top'"]),
        ({"finals": 5}, ["finals: 5 is not a section"]),
        ({"tracking": {"register_model": "a/b"}}, ["tracking.register_model"]),
        ({"tracking": {"register_model": ".."}}, ["tracking.register_model"]),
        ({"tracking": {"experiment": ""}}, ["tracking.experiment"]),
        ({"tracking": {"experiment": "/"}}, ["tracking.experiment"]),
        ({"tracking": {"experiment": "a\n"}}, ["tracking.experiment"]),
        ({"name": "../x"}, ["name: '../x' is not a name"]),
        ({"name": ".."}, ["name"]),
        ({"name": "a\n"}, ["name"]),
        ({"name": "a" * 101}, ["name"]),
        ({"name": ""}, ["name"]),
        ({"name": "-x"}, ["name: '-x' is not a name"]),
        ({"name": "a/b"}, ["name: 'a/b' is not a name"]),
        ({"name": 1.5}, ["name: '1.5' is not a name"]),
        ({"space": "mpl"}, ["space: there is no space 'mpl'", "Did you mean 'mlp'"]),
        ({"space": {"optimizer": "adamm"}}, ["space.optimizer: 'adamm'", "Did you mean 'adam'"]),
        ({"space": {"learning_rate": {"float": [1, 0.1]}}}, ["space.learning_rate.float", "reversed"]),
        ({"space": None}, ["space"]),
        ({"space": 5}, ["space: 5 is not a space"]),
        ({"space": []}, ["space"]),
        ({"search": {"sampler": "grid"}}, ["space.learning_rate", "continuous", "grid"]),
    ],
)
def test_a_wrong_value_is_refused_with_key_value_and_nearest_name(change, needles):
    refused({**MINIMAL, **change}, *needles)


def test_a_name_has_letters_of_every_script_and_one_form():
    wanted = "Größe 日本 हिन्दी v1.2"
    assert load_spec({**MINIMAL, "name": unicodedata.normalize("NFD", wanted)}).name == wanted
    experiment = "/Users/me@example.com/a:b"
    assert load_spec({**MINIMAL, "tracking": {"experiment": experiment}}).tracking.experiment == experiment


def test_a_sweep_needs_a_dataset():
    refused({}, "dataset: it is missing", "{name: digits}")


def test_all_problems_are_reported_in_one_message(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("dataset: {name: digit}\nspace: {optimizer: adamm}\nsearch: {trials: 0, sampler: tpee}\nnam: x\n")
    error = refused(path, "sweep.yaml: 5 problems")
    assert len(str(error).splitlines()) == 6


def test_a_missing_sweep_file_is_refused_with_the_nearest_name(folder):
    refused("below/sweeps.yaml", "below/sweeps.yaml: there is no such file", "Did you mean 'sweep.yaml'")


@pytest.mark.parametrize(
    "text", ["5", "[1]", "just text", "a: 1\na: 2", "\t{", "&a [*a]", "x: !!python/name:os.system"]
)
def test_a_file_that_is_no_mapping_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    refused(path, "sweep.yaml: ")


def test_a_missing_data_file_is_refused_with_the_nearest_name(folder):
    (folder / "below" / "sweep.yaml").write_text("dataset: {path: dta.csv, target: label}\n")
    refused("below/sweep.yaml", "dataset.path: there is no file", "Did you mean 'data.csv'")


def test_a_problem_in_a_space_file_names_both_files(folder):
    (folder / "below" / "mine.yaml").write_text("optimizer: adamm\n")
    refused("below/sweep.yaml", "below/sweep.yaml: space: mine.yaml: optimizer: 'adamm'", "Did you mean 'adam'")


def test_a_misspelt_dataset_on_the_command_line_is_refused():
    with pytest.raises(SpecError, match="Did you mean 'digits'"):
        spec_from_options("digit")


# Grids, objectives, windows, configurations

GRID = {"optimizer": {"choice": ["sgd", "adam"]}, "depth": {"int": [1, 3]}}


def test_a_grid_search_without_a_number_of_trials_is_the_whole_grid():
    assert load_spec({**MINIMAL, "space": GRID, "search": {"sampler": "grid"}}).search.trials == 6


def test_a_grid_search_may_be_a_part_of_the_grid_but_no_more_than_all_of_it():
    assert load_spec({**MINIMAL, "space": GRID, "search": {"sampler": "grid", "trials": 4}}).search.trials == 4
    refused({**MINIMAL, "space": GRID, "search": {"sampler": "grid"}}, "7 is more than the 6 points", trials=7)


def test_an_objective_is_checked_against_a_task_that_is_known_later(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n")
    table = {"path": str(tmp_path / "x.csv"), "target": "b"}
    spec = load_spec({"dataset": table, "objective": {"metric": "val_accuracy"}})
    spec.check_task("classification")
    with pytest.raises(SpecError, match="a regression has no val_accuracy"):
        spec.check_task("regression")
    refused({"dataset": {**table, "task": "regression"}, "objective": {"metric": "val_accuracy"}}, "no val_accuracy")
    smoothed = {"learning_rate": 0.1, "label_smoothing": {"float": [0, 0.2]}}
    needle = "space.label_smoothing: a regression has no labels to smooth"
    refused({"dataset": {**table, "task": "regression"}, "space": smoothed}, needle)


def test_a_direction_against_the_metric_is_allowed_with_a_warning():
    spec = load_spec({**MINIMAL, "objective": {"metric": "val_accuracy", "direction": "minimize"}})
    assert spec.objective.direction == "minimize"
    assert any("minimize val_accuracy" in warning for warning in spec.warnings)
    assert load_spec(MINIMAL).warnings == []


def test_a_warm_up_that_no_schedule_takes_is_advised_against():
    rising = {"schedule": {"choice": ["cosine", "one_cycle"]}, "warmup_epochs": {"float": [0, 2]}}
    [warning] = load_spec({**MINIMAL, "space": rising}).warnings
    assert warning.startswith("space.warmup_epochs: it has no effect with one_cycle")
    rising["warmup_epochs"] = {"float": [0, 2], "when": {"schedule": ["cosine"]}}
    assert load_spec({**MINIMAL, "space": rising}).warnings == []


@pytest.mark.parametrize(
    ("trials", "rows", "window"),
    [
        (256, None, 64),
        (64, None, 16),
        (16, None, 8),
        (4, None, 8),
        (10_000, 100, 128),
        (10_000, 1, 16),
        (10_000, 12, 48),
    ],
)
def test_the_default_window_follows_from_rows_and_trials(trials, rows, window):
    assert SearchSpec(trials=trials).default_window(rows) == window


def test_a_window_in_the_file_wins_and_a_batch_is_a_quarter_of_it():
    assert SearchSpec(window=30).default_window(5) == 30
    assert SearchSpec(window=30).batch == 7
    assert SearchSpec(window=1).batch == 1


def test_the_training_rules_take_the_batch_size_of_the_trial():
    spec = load_spec({**MINIMAL, "training": {"epochs": 3, "clip_norm": None, "plateau": {"patience": 7}}})
    config = spec.train_config("regression", {"batch_size": 32})
    assert (config.epochs, config.batch_size, config.clip_norm, config.task) == (3, 32, None, "regression")
    assert config.plateau.patience == 7
    assert spec.train_config("classification", {}).batch_size == 64


def test_a_trials_parameters_become_its_configuration():
    spec = load_spec(MINIMAL)
    assert spec.trial_config({"depth": 2, "width": 8, "learning_rate": 0.1}).hidden_layers == (8, 8)
    with pytest.raises(SpecError):
        spec.trial_config({"learning_rte": 0.1})


def test_importing_the_spec_loads_no_heavy_library():
    code = (
        "import sys, sweeper.spec.parse as s\n"
        "s.load_spec({'dataset': {'name': 'digits'}}).to_json()\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'sklearn', 'pandas', 'sqlalchemy', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"


def test_the_built_in_datasets_are_the_promised_ones():
    assert sorted(DATASETS) == ["breast_cancer", "diabetes", "digits", "iris", "wine"]
    assert all(load_spec({"dataset": {"name": name}}).dataset.known_task == DATASETS[name] for name in DATASETS)


def test_reading_a_spec_writes_nothing(folder):
    before = sorted(os.walk(folder))
    load_spec("below/sweep.yaml")
    refused("below/sweep.yaml", overrides=["search.trials=0"])
    assert sorted(os.walk(folder)) == before


# Names as people have them

NAMES = [
    "#class",
    "[y]",
    "class: y/n",
    "quality [0-10]",
    " income",
    "1.5",
    "null",
    "{a}",
    "a,b",
    'say "hi"',
    "it's",
    "-",
    "*x",
]


@pytest.mark.parametrize("name", [*NAMES, "yes", "2020-01-01", "日本", "a=b", "x.y", "t\tb"])
def test_the_file_that_init_writes_names_any_column(name, tmp_path, monkeypatch):
    from sweeper.cli.commands import init

    table = tmp_path / "my data"
    table.mkdir()
    monkeypatch.chdir(table)
    (table / "d.csv").write_text("a,b\n1,2\n")
    (tmp_path / "elsewhere").mkdir()
    init("../elsewhere/sweep.yaml", "d.csv", name)
    monkeypatch.chdir(tmp_path)
    spec = load_spec("elsewhere/sweep.yaml")
    assert (spec.dataset.target, spec.dataset.path) == (name, str(table / "d.csv"))


@pytest.mark.parametrize("name", [name for name in NAMES if name.strip() == name and name != "null"])
def test_an_override_of_a_text_is_taken_as_it_stands(name, tmp_path):
    (tmp_path / "d.csv").write_text("a,b\n1,2\n")
    source = {"dataset": {"path": str(tmp_path / "d.csv"), "target": "a"}}
    quoted = f"dataset.target={name}"
    assert load_spec(source, [quoted]).dataset.target == name
    assert load_spec(source, ['dataset.target="null"']).dataset.target == "null"


def test_files_of_one_sweep_are_absolute_and_of_one_kind(folder):
    for name in ("test.csv", "test.parquet"):
        (folder / "below" / name).write_text("a,label\n1,x\n")
    table = {"path": "below/data.csv", "target": "label"}
    spec = load_spec({"dataset": {**table, "test": "below/test.csv", "drop": "a"}})
    assert spec.dataset.files() == {key: str(folder / "below" / f"{key}.csv") for key in ("path", "test")} | {
        "path": str(folder / "below" / "data.csv")
    }
    assert spec.dataset.drop == ("a",)
    assert SweepSpec.from_json(spec.to_json()) == spec
    refused({"dataset": {**table, "test": "below/tset.csv"}}, "dataset.test: there is no file", "'test.csv'")
    refused({"dataset": {**table, "test": "below/test.parquet"}}, "dataset.test", "another kind of file", ".csv")
    refused({"dataset": {**table, "test": "below/data.csv"}}, "dataset.test", "named twice")
    refused({"dataset": {"name": "iris", "test": "below/test.csv"}}, "dataset.test", "built-in iris")


@pytest.mark.parametrize(
    ("dataset", "split", "needles"),
    [
        ({"drop": ["label"]}, {}, ["dataset.drop", "'label' is the target"]),
        ({"weight": "label"}, {}, ["dataset.weight", "'label' is the target"]),
        ({}, {"group": "label"}, ["split.group", "'label' is the target"]),
        ({"weight": "a"}, {"time": "a"}, ["dataset.weight", "another use"]),
        ({}, {"group": "a", "column": "a"}, ["split", "both group and column", "Keep one"]),
        ({}, {"groups": "a"}, ["split.groups", "unknown key", "'group'"]),
        ({"wieght": "a"}, {}, ["dataset.wieght", "unknown key", "'weight'"]),
        ({}, {"validation": 0.6, "test": 0.5}, ["split", "validation and test together take 1.1"]),
        ({}, {"folds": 1}, ["split.folds", "'1' is no number of folds", "from 2 to 100"]),
        ({}, {"folds": "five"}, ["split.folds", "'five'"]),
        ({}, {"folds": 101}, ["split.folds", "'101' is no number of folds", "from 2 to 100"]),
        ({"validation": "below/data2.csv"}, {"folds": 3}, ["dataset.validation", "folds have no validation file"]),
    ],
)
def test_columns_and_splits_that_contradict_each_other_are_refused(folder, dataset, split, needles):
    table = {"path": "below/data.csv", "target": "label"}
    (folder / "below" / "data2.csv").write_text("a,label\n1,x\n")
    refused({"dataset": {**table, **dataset}, "split": split}, *needles)


def test_the_winner_of_folds_is_the_mean_of_their_networks():
    iris = {"dataset": {"name": "iris"}}
    assert load_spec({**iris, "split": {"folds": 5}, "winner": "folds"}).winner == "folds"
    assert load_spec({**iris, "winner": "best"}).winner == "best"
    assert load_spec({**iris, "split": {"folds": 5}, "winner": "ensemble"}).winner == "ensemble"
    refused({**iris, "winner": "folds"}, "winner", "no folds", "split.folds")
    refused({**iris, "split": {"folds": 5}, "winner": "best"}, "winner", "5 networks", "Use folds")
    refused({**iris, "winner": "fold"}, "winner", "'folds'")


def test_a_share_that_does_not_apply_is_not_counted(folder):
    (folder / "below" / "test.csv").write_text("a,label\n1,x\n")
    table = {"path": "below/data.csv", "target": "label", "test": "below/test.csv"}
    assert load_spec({"dataset": table, "split": {"validation": 0.9}}).split.validation == 0.9


def test_a_sweep_knows_whether_the_compiled_path_can_train_all_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(space, **training):
        return load_spec({**MINIMAL, "space": space, "training": training}).is_compiled

    (tmp_path / "own.py").write_text("def space(trial):\n    return {'learning_rate': 0.1}\n")
    spaces = ("mlp", "wide", "tabular", "tabm_mlp", "lcbench")
    assert all(compiled(space) for space in spaces)
    assert compiled("mlp", schedule="cosine", warmup_epochs=1)
    assert compiled(own := f"{tmp_path}/own.py:space")
    for name, several in {"numeric_embedding": ["piecewise_linear", "plr"], "category_embedding": [0, 8]}.items():
        assert compiled({"learning_rate": 0.1, name: {"choice": several}})
    monkeypatch.setattr("sweeper.spec.schedules.DECIDING", ("schedule", "normalization"))
    monkeypatch.setattr("sweeper.models.compiled.trains", lambda c: c.schedule != "cosine" and c.normalized == "none")
    assert [space for space in spaces if not compiled(space)] == ["tabular", "lcbench"]
    assert not compiled(own), "a function may return anything"
    assert not compiled({"learning_rate": 0.1, "normalization": {"choice": ["none", "layer"]}})
    assert not compiled("mlp", schedule="cosine")


def test_layers_and_optimizers_that_cannot_be_are_refused_and_those_without_effect_advised_against() -> None:
    batch = {"learning_rate": 0.1, "normalization": {"choice": ["layer", "batch"]}}
    sizes = {"choice": [1, 32]}
    apart = {**sizes, "when": {"normalization": ["layer"]}}
    refused({**MINIMAL, "space": batch, "training": {"batch_size": 1}}, "training.batch_size", "1 row", "Use 2 or more")
    refused({**MINIMAL, "space": {**batch, "batch_size": sizes}}, "space.batch_size", "1 row", "normalization: layer")
    load_spec({**MINIMAL, "space": {**batch, "batch_size": apart}})
    lion = {"learning_rate": 0.1, "optimizer": "lion", "beta2": {"float": [0.0, 0.9]}}
    refused({**MINIMAL, "space": lion}, "space.beta2", "no memory", "0.99")

    def warnings(**space):
        return " ".join(load_spec({**MINIMAL, "space": {"learning_rate": 0.1, **space}}).warnings)

    assert "space.momentum: it has no effect without optimizer: momentum" in warnings(momentum=0.5, optimizer="adam")
    assert warnings(momentum=0.5, optimizer={"choice": ["adam", "momentum"]}) == ""
    assert "space.beta1" in warnings(beta1=0.5, optimizer="sgd")
    assert "space.dropout: it has no effect without hidden layers" in warnings(dropout=0.5, hidden_layers=[])
    assert "as wide as the one before" in warnings(residual=True, hidden_layers={"choice": [[8], [8, 4]]})
    assert warnings(residual=True, hidden_layers={"choice": [[8], [8, 8]]}) == ""
    assert "funnel" in warnings(residual=True, depth=3, width=8, shape="funnel")
