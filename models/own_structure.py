"""Whether two modules of the user's do the same operations on weights of the same shapes: equal texts say so."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.models.own_layers import RowDropout

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, range)
OF_MODULES = frozenset(vars(nn.Module()))  # what every module has
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Unlike(ValueError):
    """A module cannot be compared with others; the message says what of it cannot."""


def structure(module: nn.Module) -> str:
    """A text that two modules have in common where they differ in nothing but the values of parameters and buffers.

    Rates of dropout may differ, too.

    Raises:
        Unlike: it has something that cannot be compared.
    """
    digest = hashlib.sha256()
    for part in _parts(module):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def _parts(module: nn.Module) -> Iterator[str]:
    if isinstance(module, torch.jit.ScriptModule):
        raise Unlike("it is a TorchScript module")
    shared: dict[int, str] = {}
    for name, tensor in (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ):
        first = shared.setdefault(id(tensor), name)
        trained = isinstance(tensor, nn.Parameter) and tensor.requires_grad
        values = "" if trained or not isinstance(tensor, nn.Parameter) else _tensor(tensor)
        yield f"{name} {first} {tuple(tensor.shape)} {tensor.dtype} {trained} {values}"
    for name, child in module.named_modules(remove_duplicate=False):
        yield f"{name} {_class(type(child))}"
        if any(getattr(child, hook, None) for hook in HOOKS):
            raise Unlike(f"{name or type(child).__name__} has hooks")
        if isinstance(child, RowDropout):
            yield str((child.place, child.channels))
            continue
        for key in sorted(set(vars(child)) - OF_MODULES):
            yield f"{key}={_value(vars(child)[key], f'{type(child).__name__}.{key}')}"


def _value(value: Any, where: str) -> str:
    if isinstance(value, PLAIN):
        return f"{type(value).__name__}:{value!r}"
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, list | tuple | set | frozenset):
        items = [_value(item, where) for item in value]
        return f"{type(value).__name__}[{','.join(sorted(items) if isinstance(value, set | frozenset) else items)}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_value(k, where)}:{_value(v, where)}' for k, v in value.items())}}}"
    if isinstance(value, type):
        return _class(value)
    if isinstance(value, functools.partial):
        return f"partial({_value(value.func, where)},{_value(value.args, where)},{_value(value.keywords, where)})"
    if isinstance(value, types.MethodType) and isinstance(value.__self__, nn.Module):
        return f"method {value.__func__.__qualname__}"
    if isinstance(value, types.FunctionType):
        return _function(value, where)
    if isinstance(value, types.BuiltinFunctionType) or type(value).__module__ == "torch":
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', repr(value))}"
    if isinstance(value, nn.Module):
        raise Unlike(f"{where} holds a module outside nn.ModuleList or nn.ModuleDict")
    raise Unlike(f"{where} is of type {type(value).__name__}, which cannot be compared")


def _tensor(tensor: Tensor) -> str:
    values = tensor.detach().cpu().contiguous()
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(values.view(-1).numpy().tobytes()).hexdigest()}"


def _class(kind: type) -> str:
    """A class by its name; one that was made inside a function also by what its functions do and reach."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if "<locals>" not in kind.__qualname__:
        return name
    inside = [_function(f, name) for _, f in sorted(vars(kind).items()) if isinstance(f, types.FunctionType)]
    return f"{name}({','.join(_class(base) for base in kind.__bases__)})[{','.join(inside)}]"


def _function(function: types.FunctionType, where: str) -> str:
    name = f"{function.__module__}.{function.__qualname__}"
    if "<locals>" not in function.__qualname__ and function.__name__ != "<lambda>":
        return name
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    own = [f"class {cell.__qualname__}" if isinstance(cell, type) else _value(cell, where) for cell in cells]
    return f"{name}{function.__code__.co_firstlineno}:{_value(function.__defaults__, where)}:{','.join(own)}"
