"""Whatever is thrown at the parsers, a SweepSpec or a SpecError comes out."""

import copy
import json

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeper.errors import SpecError
from sweeper.search_spaces import ReadError, Space, SpaceError, load_space, parse_json, parse_yaml
from sweeper.spec.parse import SweepSpec, load_spec
from tests.tiny import FUZZ_FACTOR

QUICK = settings(
    max_examples=100 * FUZZ_FACTOR,
    deadline=None,
    derandomize=FUZZ_FACTOR == 1,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

SPACE = {
    "learning_rate": {"float": [1e-4, 1e-1], "log": True},
    "optimizer": {"choice": ["sgd", "momentum", "adam"]},
    "momentum": {"float": [0.5, 0.9], "step": 0.1, "when": {"optimizer": ["momentum"]}},
    "width": {"int": [8, 64], "log": True},
    "depth": {"int": [1, 3], "step": 1},
    "activation": "tanh",
    "enqueue": [{"learning_rate": 3e-4, "optimizer": "momentum", "momentum": 0.7}, {"width": 9}],
}
WARM = {
    "asked": "earlier",
    "sweep": "abc",
    "name": "earlier",
    "trials": 2,
    "comparable": True,
    "left_out": {"thinned out": 1},
    "points": [
        {
            "params": {"learning_rate": 0.1, "optimizer": "sgd", "width": 8, "depth": 1, "activation": "tanh"},
            "state": "complete",
            "epochs": 3,
            "metrics": {"val_loss": 0.5},
        }
    ],
}
SWEEP = {
    "name": "a sweep",
    "dataset": {"name": "digits"},
    "split": {"validation": 0.2, "test": 0.2, "seed": 0},
    "normalize": "standard",
    "space": SPACE,
    "training": {"epochs": 20, "batch_size": 64, "clip_norm": 1.0, "plateau": {"factor": 0.5, "patience": 3}},
    "objective": {"metric": "val_loss", "direction": "minimize"},
    "objectives": [{"metric": "val_loss", "direction": "minimize"}, {"metric": "parameters"}],
    "constraints": ["val_accuracy >= 0.9", "parameters <= 2e4"],
    "search": {
        "sampler": "tpe",
        "pruner": "none",
        "trials": 256,
        "timeout": "10m",
        "seed": 0,
        "window": 8,
        "enqueue": [{"learning_rate": 1e-3, "depth": 2}],
        "from": "earlier",
        "warm": WARM,
    },
    "finals": {"top": 5, "seeds": 10},
    "tracking": {"experiment": "x", "register_model": None},
}

WORDS = st.sampled_from(
    ["", "x", "adam", "full", "grid", "none", "null", "1e-4", "10m", "..", "/", "\0", "\ud800", "a.b", "mlp", "x.yaml",
     "x.py:f", "float", "choice", "int", "when", "value", "step", "path", "name", "target", "task", "ü" * 50]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, 10**400, -(10**400)]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=20),
    WORDS,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(WORDS, st.text(max_size=8)), inner, max_size=4)
    ),
    max_leaves=8,
)


def places(value, path=()):
    """Every place in nested plain data, as a tuple of keys and indices."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@st.composite
def mutations(draw, valid):
    """The valid data with one to three places replaced, removed, renamed or extended."""
    data = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(data))))
        if not path:
            continue
        holder = data
        for key in path[:-1]:
            holder = holder[key]
        action = draw(st.sampled_from(["replace", "remove", "rename", "extend"]))
        if action == "replace":
            holder[path[-1]] = draw(VALUES)
        elif action == "remove":
            del holder[path[-1]]
        elif action == "rename" and isinstance(holder, dict):
            holder[draw(st.one_of(WORDS, st.text(max_size=8)))] = holder.pop(path[-1])
        elif isinstance(holder, dict):
            holder[draw(WORDS)] = draw(VALUES)
        else:
            holder.append(draw(VALUES))
    return data


def parsed(source, overrides=()):
    """The spec, or None for a SpecError; anything else fails the test."""
    try:
        spec = load_spec(source, overrides)
    except SpecError:
        return None
    assert isinstance(spec, SweepSpec)
    return spec


@QUICK
@given(mutations(SWEEP))
def test_a_mutated_sweep_is_a_spec_or_a_spec_error(data):
    before = copy.deepcopy(data)
    spec = parsed(data)
    assert repr(data) == repr(before)
    if spec is not None:
        stored = json.loads(json.dumps(spec.to_json(), allow_nan=False))
        assert SweepSpec.from_json(stored) == spec


@QUICK
@given(mutations(SWEEP))
def test_a_mutated_sweep_file_is_a_spec_or_a_spec_error(tmp_path, data):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8", errors="replace")
    spec = parsed(path)
    assert spec is None or spec.to_json()


@QUICK
@given(mutations(SPACE))
def test_a_mutated_space_is_a_space_or_a_space_error(data):
    try:
        space = load_space(data)
    except SpaceError:
        return
    assert Space.from_json(json.loads(json.dumps(space.to_json(), allow_nan=False))) == space
    assert len(space.describe()) == len(set(data) - {"enqueue"})


@QUICK
@given(mutations(SPACE))
def test_every_grid_point_of_a_space_applies_as_it_is(data):
    try:
        space = load_space(data)
        points = space.grid()
    except SpaceError:
        return
    assert len({json.dumps(point) for point in points}) == len(points)
    for point in points[:20]:
        assert space.active(point) == point
        assert space.active(space.encode(point)) == point


@QUICK
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass"))))
def test_random_bytes_as_a_sweep_file_are_a_spec_error(tmp_path, content):
    for suffix in (".yaml", ".json"):
        path = tmp_path / f"sweep{suffix}"
        path.write_bytes(content)
        assert parsed(path) is None


@QUICK
@given(st.text(alphabet="[]{}:,-&*!|>'\"\\#%@`?~ \n\tab01.eEuUx<=", max_size=60))
def test_yaml_like_text_is_data_or_a_read_error(text):
    for parse in (parse_yaml, parse_json):
        try:
            value = parse(text)
        except ReadError:
            continue
        json.dumps(value)


KEYS = st.sampled_from(
    ["training.epochs", "search.trials", "space", "finals.top", "dataset", "dataset.path", "name", "a.b", "x", ""]
)
OVERRIDES = st.one_of(
    st.text(max_size=30),
    st.tuples(KEYS, st.one_of(WORDS, st.sampled_from(["5", "[", "{a: 1}", "&a [*a]"]))).map("=".join),
)


@QUICK
@given(st.lists(OVERRIDES, max_size=3))
def test_random_overrides_are_a_spec_or_a_spec_error(overrides):
    parsed({"dataset": {"name": "digits"}}, overrides)


@QUICK
@given(VALUES)
def test_any_value_as_a_sweep_is_a_spec_error(value):
    assert parsed(value if isinstance(value, dict) else {"dataset": value}) is None
