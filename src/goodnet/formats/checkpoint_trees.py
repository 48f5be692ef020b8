"""Checkpoints from the notes that a confined reader took of their pickles (`pickle_trees.py`).

Tensors, plain containers, and the inert objects of `inert_objects.py` are made; anything else that the pickle names ends
the reading, whether or not it is called.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from goodnet.formats.inert_objects import INERT

#: Calls within calls and containers within containers: more than any checkpoint has.
DEEPEST = 200
_UTILS = "torch._utils._rebuild"


class TooDeep(ValueError):
    """A checkpoint is nested without end."""


def build_checkpoint(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """Return what a checkpoint holds.

    Args:
        record: "notes" of its pickle, "names" that it names, "storages": their kinds by key.
        tensors: the storages as bytes, "storage KEY".

    Raises:
        UnpicklingError: it names an object that is not allowed; the message has the form of torch's, "GLOBAL name".
        TooDeep: it is nested too deeply.
        Exception: of any kind, where it is damaged.
    """
    for name in record["names"]:
        if not is_made(name):
            raise UnpicklingError(f"GLOBAL {name}")
    return _Builder(record["notes"], record["storages"], tensors).make(0)


def is_made(name: str) -> bool:
    """Whether a name in a pickle can be rebuilt: it is known, or a type of torch's."""
    return name in _KNOWN or name in _STORAGES or _is_constant(name)


def _is_constant(name: str) -> bool:
    return isinstance(_constant(name), torch.dtype | torch.layout | torch.qscheme)


def _constant(name: str) -> object:
    module, _, word = name.rpartition(".")
    return getattr(torch, word, None) if module == "torch" else None


class _Builder:
    """Makes objects from notes, each once: what the pickle had in two places is one object again."""

    def __init__(
        self, notes: Sequence[Sequence[Any]], storages: Mapping[str, str], tensors: Mapping[str, Tensor]
    ) -> None:
        self.notes, self.storages, self.tensors = notes, storages, tensors
        self.made: dict[int, Any] = {}
        self.depth = 0

    def make(self, number: int) -> Any:
        if number in self.made:
            return self.made[number]
        if self.depth > DEEPEST:
            raise TooDeep
        self.depth += 1
        kind, *rest = self.notes[number]
        self.made[number] = value = getattr(self, f"_make_{kind}")(number, *rest)
        self.depth -= 1
        return value

    def _all(self, numbers: Sequence[int]) -> list[Any]:
        return [self.make(number) for number in numbers]

    def _make_value(self, _: int, value: Any) -> Any:
        return value

    _make_text = _make_value

    def _make_bytes(self, _: int, text: str) -> bytes:
        return text.encode("latin-1")

    def _make_bytearray(self, _: int, text: str) -> bytearray:
        return bytearray(text, "latin-1")

    def _make_list(self, number: int, numbers: Sequence[int]) -> list[Any]:
        made = self.made[number] = list[Any]()  # It may hold itself.
        made += self._all(numbers)
        return made

    def _make_tuple(self, _: int, numbers: Sequence[int]) -> tuple[Any, ...]:
        return tuple(self._all(numbers))

    def _make_set(self, _: int, numbers: Sequence[int]) -> set[Any]:
        return set(self._all(numbers))

    def _make_frozenset(self, _: int, numbers: Sequence[int]) -> frozenset[Any]:
        return frozenset(self._all(numbers))

    def _make_dict(self, number: int, pairs: Sequence[tuple[int, int]]) -> dict[Any, Any]:
        made = self.made[number] = dict[Any, Any]()
        self._fill(made, pairs)
        return made

    def _fill(self, made: Any, pairs: Sequence[tuple[int, int]]) -> None:
        for key, value in pairs:
            made[self.make(key)] = self.make(value)

    def _make_storage(self, _: int, key: str) -> Tensor:
        kind = self.storages[key]
        content = self.tensors[f"storage {key}"]
        return content.view(_STORAGES[kind]) if content.numel() else torch.empty(0, dtype=_STORAGES[kind])

    def _make_name(self, _: int, name: str) -> Any:
        return _constant(name) if _is_constant(name) else _KNOWN[name]

    def _make_made(
        self, number: int, name: str, called: bool, arguments: Sequence[int], state: Sequence[int], items: Sequence[Any]
    ) -> Any:
        make, given = _KNOWN[name], self._all(arguments)
        made = make(*given) if called or not isinstance(make, type) else make.__new__(make, *given)
        self.made[number] = made
        if items:
            if type(made) not in (OrderedDict, Counter):
                raise ValueError(f"{name} holds no items")
            self._fill(made, items)
        for part in self._all(state):
            _set_state(made, part)
        return made


def _set_state(made: Any, state: Any) -> None:
    if isinstance(made, Tensor):
        raise ValueError("a tensor whose storage is changed")
    # As pickle does: what knows its state takes it, of what has attributes they are set.
    take: Callable[[Any], None] = getattr(made, "__setstate__", None) or made.__dict__.update
    take(state)


def _tensor(
    storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], requires_grad: bool, *_: Any
) -> Tensor:
    """Return a tensor in a storage; torch checks that it lies inside."""
    made = torch.as_strided(storage, tuple(size), tuple(stride), offset)
    return made.requires_grad_(requires_grad)


def _tensor_without_gradient(
    storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
) -> Tensor:
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


def _tensor_of_type(
    storage: Tensor,
    offset: int,
    size: Sequence[int],
    stride: Sequence[int],
    requires_grad: bool,
    _: Any,
    dtype: torch.dtype,
    *__: Any,
) -> Tensor:
    return _tensor(storage.view(dtype), offset, size, stride, requires_grad)


def _parameter(data: Tensor, requires_grad: bool, *_: Any) -> nn.Parameter:
    return nn.Parameter(data, requires_grad)


def _sparse(layout: torch.layout, data: Sequence[Any]) -> Tensor:
    if layout is not torch.sparse_coo:
        raise ValueError(f"a tensor of layout {layout}")
    indices, values, size, *rest = data
    return torch.sparse_coo_tensor(indices, values, size, is_coalesced=rest[0] if rest else None, check_invariants=True)


def _encode(text: str, alphabet: str) -> bytes:
    if alphabet not in ("latin1", "latin-1"):
        raise ValueError(f"bytes in {alphabet}")
    return text.encode("latin-1")


def _changeable_bytes(text: str = "", alphabet: str = "latin-1") -> bytearray:
    return bytearray(_encode(text, alphabet))


def _layout(name: str) -> torch.layout:
    found = getattr(torch, name.removeprefix("torch."))
    if not isinstance(found, torch.layout):
        raise ValueError(f"{name} is no layout")
    return found


_KNOWN: dict[str, Any] = {
    **{name: call for call, name in INERT},  # type: ignore[misc]
    f"{_UTILS}_tensor": _tensor_without_gradient,
    f"{_UTILS}_tensor_v2": _tensor,
    f"{_UTILS}_tensor_v3": _tensor_of_type,
    f"{_UTILS}_parameter": _parameter,
    f"{_UTILS}_sparse_tensor": _sparse,
    "torch.nn.parameter.Parameter": nn.Parameter,
    "torch.serialization._get_layout": _layout,
    "torch.Size": torch.Size,
    "torch.device": torch.device,
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": Counter,
    "_codecs.encode": _encode,
    "bytearray": _changeable_bytes,
    "complex": complex,
    "set": set,
}
_STORAGES = {
    **{
        f"torch.{kind}Storage": dtype
        for kind, dtype in (
            *(
                ("Double", torch.float64),
                ("Float", torch.float32),
                ("Half", torch.float16),
                ("BFloat16", torch.bfloat16),
            ),
            *(("Long", torch.int64), ("Int", torch.int32), ("Short", torch.int16), ("Char", torch.int8)),
            *(("Byte", torch.uint8), ("Bool", torch.bool)),
            *(("ComplexFloat", torch.complex64), ("ComplexDouble", torch.complex128)),
        )
    },
    "torch.storage.UntypedStorage": torch.uint8,
}
