"""What a file of torch.save would take memory for, found by a reading that makes nothing.

torch calls what a checkpoint's pickle names: with numbers of the file's choice, some of that takes any amount of memory, or
makes a tensor larger than the storage that its values lie in. So the pickle is gone through first, with stand-ins that
take note of sizes and do nothing.

Source: torch.serialization, torch._utils and torch._weights_only_unpickler of PyTorch 2.13; the older layout, in which
pickles follow one another, is that of PyTorch before 1.6.
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from goodnet.core.errors import UnreadableModel
from goodnet.formats.declared_sizes import require_held
from goodnet.formats.one_reading import ZIP_BEGINNINGS
from goodnet.formats.pickle_reader import BoundedUnpickler
from goodnet.formats.shown_paths import show_path
from goodnet.formats.zip_archives import unpacked_size

#: Bytes of a number in each kind of storage.
_BYTES = {
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Char", "Byte", "Bool", "QInt8", "QUInt8", "QUInt4x2", "QUInt2x4", "Untyped"), 1),
    "ComplexDouble": 16,
}
#: What torch's reader would call with a size of the file's choice. No state dict holds them.
_TAKE_MEMORY = frozenset(
    (
        *(f"{kind.__module__}.{kind.__name__}" for kind in torch._tensor_classes),
        *("torch.Tensor", "torch.storage.TypedStorage", "builtins.bytearray", "__builtin__.bytearray"),
    )
)
#: Of these a storage may be; called with a number they take as many bytes.
_UNTYPED = "torch.storage.UntypedStorage"
#: The pickles that come before that of the content in the older layout: a mark, a version, facts of the system.
_BEFORE = 3


class _TooLarge(ValueError):
    """Something is made larger than what the file holds for it."""


class _Inert:
    """Stands for whatever a pickle names: it can be called, filled and changed, and does nothing."""

    name = ""

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, _: Any, __: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        """Take no note."""

    add = extend = append


class _Stored(_Inert):
    """A storage: `size` bytes of `width` for each number."""

    size = 0
    width = 1


class _Uncallable(_Inert):
    def __new__(cls, *_: Any, **__: Any) -> Any:
        raise _TooLarge


class _Tensor(_Inert):
    """A tensor, or a parameter. Its state would put it anew, elsewhere in a storage."""

    def __setstate__(self, _: Any) -> None:
        raise _TooLarge


class _RebuiltTensor(_Tensor):
    def __new__(cls, storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], *rest: Any) -> Any:
        if not isinstance(storage, _Stored) or len(size) != len(stride) or min((offset, *size, *stride)) < 0:
            raise _TooLarge
        width = _width_of_type(rest[2]) if cls.name.endswith("_v3") else storage.width
        last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
        if min(size, default=1) and (last + 1) * width > storage.size:
            raise _TooLarge
        return object.__new__(cls)


class _RebuiltByType(_Inert):
    def __new__(cls, function: Callable[..., Any], _: Any, values: Sequence[Any], *__: Any) -> Any:
        return function(*values)


def _width_of_type(kind: Any) -> int:
    return int(getattr(torch, kind.name.rpartition(".")[2]).itemsize)


_STANDS_FOR: dict[str, type[_Inert]] = {
    "torch._utils._rebuild_tensor": _RebuiltTensor,
    "torch._utils._rebuild_tensor_v2": _RebuiltTensor,
    "torch._utils._rebuild_tensor_v3": _RebuiltTensor,
    "torch._utils._rebuild_qtensor": _RebuiltTensor,
    "torch._utils._rebuild_parameter": _Tensor,
    "torch._utils._rebuild_parameter_with_state": _Tensor,
    "torch.nn.parameter.Parameter": _Tensor,
    "torch._tensor._rebuild_from_type_v2": _RebuiltByType,
    _UNTYPED: _Uncallable,
    **dict.fromkeys(_TAKE_MEMORY, _Uncallable),
}


class _Reader(BoundedUnpickler):
    """Goes through a pickle and calls nothing that it names.

    Args:
        stream: the pickle.
        room: the bytes that there are for a storage, by its key.
    """

    def __init__(self, stream: IO[bytes] | mmap.mmap, room: Callable[[str], int]) -> None:
        super().__init__(stream, encoding="utf-8")
        self.sizes: dict[str, int] = {}
        self._room = room
        self._kinds: dict[str, type[_Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in."""
        full = f"{module}.{name}"
        return self._kinds.setdefault(full, type("Kind", (_STANDS_FOR.get(full, _Inert),), {"name": full}))

    def persistent_load(self, pid: Any) -> _Inert:
        """Return the stand-in of a storage.

        Raises:
            _TooLarge: there is less of it than the pickle says.
        """
        if pid[0] == "module":  # a class, with its source, in files before torch 1.6
            return pid[1]  # type: ignore[no-any-return]
        what, kind, key, _, count = pid[:5]
        if what != "storage":
            raise ValueError("no storage")
        stored = _Stored()
        stored.width = _BYTES[kind.name.rpartition(".")[2].removesuffix("Storage")]
        stored.size = stored.width * count
        if not 0 <= stored.size <= self._room(str(key)):
            raise _TooLarge
        self.sizes[str(key)] = stored.size
        return stored


def require_room(path: Path) -> None:
    """Check that nothing in a file of torch.save takes more memory than the file has for it.

    Raises:
        UnreadableModel: it does, or the file says so of two contents.
        Exception: of any kind, where the file is damaged.
    """
    shown, held = show_path(path), path.stat().st_size
    with path.open("rb") as stream:
        try:
            if stream.read(4) in ZIP_BEGINNINGS:
                _go_through_zip(stream, shown, held)
            else:
                _go_through_pickles(stream, held)
        except _TooLarge as error:
            raise UnreadableModel(
                f"{shown}: refused, a tensor's declared size exceeds the data stored for it; save the state dict alone where it "
                "was made: torch.save(net.state_dict(), path)"
            ) from error


def _go_through_zip(stream: IO[bytes], shown: str, held: int) -> None:
    with zipfile.ZipFile(stream) as archive:
        require_held(shown, unpacked_size(archive), held, UnreadableModel)
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        folder = next(iter(sizes)).partition("/")[0]
        with archive.open(f"{folder}/data.pkl") as content:
            _Reader(content, lambda key: sizes[f"{folder}/data/{key}"]).load()


def _go_through_pickles(stream: IO[bytes], held: int) -> None:
    # A mapped file gives no more bytes than it has, whatever number is asked for.
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for _ in range(_BEFORE):
            _Reader(mapped, lambda _: 0).load()
        reader = _Reader(mapped, lambda _: held)
        reader.load()
        _Reader(mapped, lambda _: 0).load()  # the storages' names in the order in which their bytes follow
    if sum(reader.sizes.values()) > held:
        raise _TooLarge
