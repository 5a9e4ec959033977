"""A sweep file of a remote user, read without trusting it: no files of this server, code only where allowed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper.errors import SpecError, nearest
from sweeper.records import SweepRecord
from sweeper.search_spaces import ReadError, SpaceError, parse_json, parse_yaml, ready_made
from sweeper.search_spaces.function import FunctionSource
from sweeper.spec.dataset import DATA_SUFFIXES, FILES, data_files, upload_key
from sweeper.spec.own_code import FOLDER, code_of
from sweeper.spec.parse import SweepSpec, load_spec
from sweeper.spec.stored import sweep_file_of

UPLOAD_NAME = re.compile(rf"[0-9a-f]{{64}}({'|'.join(map(re.escape, DATA_SUFFIXES))})")


def parse_body(body: bytes, content_type: str) -> Any:
    """The data of a request's body: JSON, or YAML when the content type says so.

    Raises:
        SpecError: it is neither, or beyond the limits of a sweep file.
    """
    kind = content_type.partition(";")[0].strip().lower()
    try:
        text = body.decode("utf-8")
        return parse_yaml(text) if "yaml" in kind else parse_json(text)
    except UnicodeDecodeError as error:
        raise SpecError("the sweep file is not UTF-8 text") from error
    except ReadError as error:
        raise SpecError(error.problem, remedy=error.remedy) from error


def read_submission(data: Any, uploads: Path, allow_code: bool = False) -> SweepSpec:
    """The spec of a submitted sweep file; ``uploads`` is the folder of the files that this user has uploaded.

    With ``allow_code`` it may hold functions, with the text of their files; none of it is run here.

    Raises:
        SpecError: as ``load_spec``, and for paths and code, which only a sweep file on this machine may name.
    """
    if not isinstance(data, Mapping):
        raise SpecError("a sweep file is a mapping", remedy="Start with dataset: {name: digits}")
    spec = sweep_file_of(data)
    _check_space(spec.get("space", "mlp"), allow_code)
    if any(isinstance(address, str) and address.startswith("$") for address in spec.get("notify") or ()):
        remedy = "Write the address itself"
        raise SpecError("a variable of the server is not yours to name", key="notify", remedy=remedy)
    code = code_of(spec)
    if code and not allow_code:
        raise _no_code(*next(iter(code.items())))
    for key, function in code.items():
        _place(spec, key, _sent_space(function) if key == "space" else _sent(key, function))
    if isinstance(spec.get("dataset"), Mapping):
        spec["dataset"] = _dataset(spec["dataset"], uploads)
    try:
        return load_spec(spec)
    except SpecError as error:  # users must not learn paths of the server
        text = error.problem.replace(f"{uploads}/", "")
        raise SpecError(text, key=error.key, remedy=(error.remedy or "").replace(f"{uploads}/", "") or None) from error


def _check_space(space: Any, allow_code: bool) -> None:
    if "space" in code_of({"space": space}):
        if not allow_code:
            raise _no_space_function()
        return
    if not isinstance(space, str):
        return  # the parser says what is wrong with anything but a mapping
    if space not in ready_made():
        names = nearest(space, ready_made())
        problem = f"{space[:60]!r} is not a ready-made space, and a sweep cannot use files of the server"
        raise SpecError(problem, key="space", remedy=f"{names}. Or write the parameters into the sweep file")


def _no_space_function() -> SpecError:
    return SpecError(
        "this space is a Python function, and the server runs no code of its users",
        key="space",
        remedy="Write the space as parameters, run the sweep on your own machine without --server, "
        "or ask for `sweeper serve --allow-code`",
    )


def _no_code(key: str, function: Any) -> SpecError:
    what = key.partition(".")[0].rstrip("s") if not key.startswith("search") else "sampler"
    return SpecError(
        f"{'an' if what == 'objective' else 'a'} {what} of your own is code, and the server runs no code of its users",
        key=key,
        remedy="Run the sweep on your own machine without --server, or ask for `sweeper serve --allow-code`",
    )


def _sent(key: str, function: Any) -> dict[str, str]:
    """A function as it came, with its file in no folder of this server; it is parsed, not run."""
    known = ("file", "function", "text")
    rest = {name: value for name, value in function.items() if name != "fuse"} if isinstance(function, Mapping) else {}
    if not isinstance(function, Mapping) or not all(isinstance(rest.get(name), str) for name in known):
        remedy = "Send {file: my_code.py, function: NAME, text: the file's content}; `sweeper run --server` does"
        raise SpecError("a server takes the text of a file, not its path", key=key, remedy=remedy)
    name = re.split(r"[/\\\\]", rest["file"])[-1][-100:]
    if "pickled" in rest:
        remedy = "Put the function into a file and name it file.py:function"
        raise SpecError("a pickled function has no text that others could read", key=key, remedy=remedy)
    try:
        FunctionSource.parse(rest["text"].encode("utf-8"), name, rest["function"])
    except (SpaceError, UnicodeEncodeError) as error:
        problem = error.problem if isinstance(error, SpaceError) else "its text is not UTF-8"
        raise SpecError(f"{name}: {problem}", key=key) from error
    return {**function, "file": f"{FOLDER}/{name}"}


def _sent_space(space: Any) -> dict[str, str]:
    """The same of a function that is a space, in the form in which spaces are stored."""
    if isinstance(space, Mapping) and "file" not in space and isinstance(space.get("function"), str):
        file, _, function = space["function"].rpartition(":")
        space = {**space, "file": file, "function": function}
    sent = _sent("space", space)
    file, function, text = sent["file"], sent["function"], sent["text"]
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return {"name": function, "function": f"{file}:{function}", "sha256": digest, "text": text}


def _place(spec: dict[str, Any], key: str, function: Mapping[str, Any]) -> None:
    """Put a function where ``code_of`` found it."""
    section, _, rest = key.partition(".")
    if key in ("model", "space"):
        spec[key] = function
    elif key == "objective.function":
        spec["objective"] = {**spec["objective"], "function": function}
    elif key == "search.sampler":
        spec["search"] = {**spec["search"], "own_sampler": function}
    elif section == "metrics":
        spec["metrics"] = [function if i == int(rest) else one for i, one in enumerate(spec["metrics"])]
    else:
        raise SpecError("an objective of your own is the only one", key=key, remedy="Remove it")


def _dataset(dataset: Mapping[str, Any], uploads: Path) -> dict[str, Any]:
    table = {key: value for key, value in dataset.items() if value is not None}
    for key in FILES:
        if key in table:
            remedy = f"Upload the file and name it as dataset.{upload_key(key)}; `sweeper run --server` does both"
            raise SpecError("a sweep cannot use files of the server", key=f"dataset.{key}", remedy=remedy)
    if "name" in table and "upload" in table:
        raise SpecError("it has both name and upload", key="dataset", remedy="Keep one of the two")
    for key in FILES:
        name = table.pop(upload_key(key), None)
        if name is None:
            continue
        if not isinstance(name, str) or not UPLOAD_NAME.fullmatch(name):
            raise _no_upload(str(name), upload_key(key))
        check_upload(uploads / name, upload_key(key))
        table[key] = str(uploads / name)
    return table


def check_upload(file: Path, key: str = "upload") -> None:
    """See that an upload is there.

    Raises:
        SpecError: it is not, or not any more.
    """
    if not file.is_file():
        raise _no_upload(file.name, key)


def _no_upload(name: str, key: str) -> SpecError:
    remedy = "Upload it first: POST /api/v1/datasets?filename=data.csv"
    return SpecError(f"you have not uploaded a file {name[:80]!r}", key=f"dataset.{key}", remedy=remedy)


def hide_data_folder(record: SweepRecord, text: str) -> str:
    """A text without the folder in which this server keeps the sweep's data files."""
    for path in data_files(record.spec.get("dataset") or {}).values():
        text = text.replace(path, os.path.basename(path))
    return text
