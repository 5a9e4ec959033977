"""Sweep and space files as plain data: YAML 1.2 scalars, and limits that no hostile file passes."""

import pytest

from sweeper.search_spaces.yaml_file import ReadError, parse_json, parse_yaml, read_file


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "1.e-4", "1.0e-04", "+1e-4", ".0001", "0.0001"])
def test_every_way_to_write_a_number_is_a_number(number):
    assert parse_yaml(f"a: {number}") == {"a": 1e-4}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("0x1F", 31), ("0o17", 15), ("-3", -3), ("1:30", "1:30"), ("1_000", "1_000"), ("no", "no"),
        ("on", "on"), ("true", True), ("2020-01-01", "2020-01-01"), ("~", None), ("", None), ("'5'", "5"),
        (".inf", float("inf")), ("1.5", 1.5), ("1e3", 1000.0), ("[a, {b: 1}]", ["a", {"b": 1}]), ("!!str 5", "5"),
        ("!!float 5", 5.0), ("<<: x", {"<<": "x"}),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text, value):
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("a: 1\na: 2", "'a' is written twice"),
        ("{a: {b: 1, b: 1}}", "'b' is written twice"),
        ("!!python/object/apply:os.system ['true']", "tag"),
        ("!!binary aGk=", "tag"),
        ("a: !!int x", "not a valid int"),
        ("1: 2", "'1' is not text"),
        ("? [a]\n: b", "cannot be a key"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: [1", "not valid YAML (line"),
        ("[" * 200 + "]" * 200, "nested deeper"),
        ("&a [*a]", "nested deeper"),
        ("a: *b", "undefined alias"),
        ('"\\ud800"', "not text"),
        ("x: " + "9" * 5000, "is not a valid int"),
        ("a" * 1_000_001, "larger than 1 MB"),
        ("[" + "1," * 6_000 + "]", "more than 5,000 values"),
    ],
)
def test_a_hostile_text_is_refused(text, needle):
    with pytest.raises(ReadError) as caught:
        parse_yaml(text)
    assert needle in str(caught.value)


def test_an_alias_bomb_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(ReadError, match=r"more than 5,000 values"):
        parse_yaml("\n".join(lines))


def test_a_plain_alias_is_read():
    assert parse_yaml("a: &r [1, 2]\nb: *r") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("text", "needle"),
    [('{"a": 1, "a": 2}', "written twice"), ("{", "not valid JSON (line 1"), ("[" * 5000, "not valid JSON"),
     ("[" * 100 + "]" * 100, "nested deeper"), ('"\\ud800"', "not text"), ("[" + "1," * 6_000 + "1]", "5,000")],
)  # fmt: skip
def test_a_hostile_json_text_is_refused(text, needle):
    with pytest.raises(ReadError) as caught:
        parse_json(text)
    assert needle in str(caught.value)


@pytest.mark.parametrize(
    ("content", "needle"), [(b"\xff\xfea: 1", "not UTF-8"), (b"# " + b"x" * 1_000_001, "larger than 1 MB")]
)
def test_a_file_that_is_not_text_or_too_large_is_refused_with_its_name(tmp_path, content, needle):
    path = tmp_path / "space.yaml"
    path.write_bytes(content)
    with pytest.raises(ReadError, match=r"space\.yaml: it is .*" + needle):
        read_file(path)


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_bytes(b"\xef\xbb\xbfdepth: 2\n")
    assert read_file(path) == {"depth": 2}
