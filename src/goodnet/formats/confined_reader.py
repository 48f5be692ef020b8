"""What the confined child does with a model file: it finds what the file is, and takes plain data out of it.

Nothing here imports torch or Keras: the child would wait for them longer than for the file.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import pickle
import zipfile
import zlib
from typing import Any, BinaryIO

import h5py
import safetensors

from goodnet.confinement.answers import Answer, Blob
from goodnet.core.errors import UnreadableModel
from goodnet.core.one_line import one_line
from goodnet.formats.declared_sizes import require_held
from goodnet.formats.file_kinds import Kind, kind_of_content
from goodnet.formats.hdf5_files import require_own_content
from goodnet.formats.hdf5_trees import take_tree
from goodnet.formats.json_texts import read_json
from goodnet.formats.one_reading import refuse_second_reading
from goodnet.formats.pickle_trees import PROGRAMS_BEFORE, PickleReader, find_program, list_names, take_notes
from goodnet.formats.shown_paths import show_path
from goodnet.formats.zip_archives import unpacked_size

#: Kinds of models that are read whole; of others it is enough to know what they are.
READ: tuple[Kind, ...] = ("keras", "keras weights", "torch", "safetensors")
#: What the libraries raise on bytes that are no such file.
_DAMAGE = (
    *(OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError, EOFError, StopIteration),
    *(ImportError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, pickle.UnpicklingError, safetensors.SafetensorError),
)
#: The protocol in which torch.save writes its pickles.
_PROTOCOL = b"\x80\x02"
#: Bytes of a number in each kind of storage.
_WIDTHS = {
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short", "ComplexHalf"), 2),
    **dict.fromkeys(("Char", "Byte", "Bool", "QInt8", "QUInt8", "QUInt4x2", "QUInt2x4", "Untyped"), 1),
    "ComplexDouble": 16,
}


def read_model(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    """Return a model file as plain data; `goodnet.confinement.child.Reader`.

    A model is copied first, and read from the copy: the hash is that of what was read, whoever changes the file meanwhile.

    Returns:
        The record: "kind", and of what is read "sha256" and the content; of a pickle "names", all that it names. Of a file
        that is damaged "damage" instead of the content, in the library's words.

    Raises:
        UnreadableModel: the file refers to other files, can be read in two ways, says that it unpacks to far more than it is
            large, or holds what is neither numbers nor text.
    """
    kind = kind_of_content(source)
    if kind == "pickle":
        return Answer({"kind": kind, "names": list_names(source)})
    if kind not in READ:
        return Answer({"kind": kind})
    digest = copy_stream(source, copy)
    kind = kind_of_content(copy)
    about = {"kind": kind, "sha256": digest}
    refuse_second_reading(copy, name, UnreadableModel)
    try:
        record, arrays = _take(kind, copy, name, held=copy.seek(0, 2))
    except _DAMAGE as error:
        return Answer({**about, "damage": one_line(str(error))})
    return Answer({**about, **record}, arrays)


def copy_stream(source: BinaryIO, copy: BinaryIO) -> str:
    """Copy what is open, from its beginning, and return the SHA-256 of the copy."""
    source.seek(0)
    digest = hashlib.sha256()
    while block := source.read(1 << 20):
        digest.update(block)
        copy.write(block)
    copy.flush()
    return digest.hexdigest()


def _take(kind: Kind, stream: BinaryIO, name: str, held: int) -> tuple[dict[str, Any], dict[str, Blob]]:
    """Take a model out of an open file of `held` bytes."""
    stream.seek(0)
    if kind == "safetensors":
        return _take_safetensors(stream)
    if stream.read(2) == b"PK":
        with zipfile.ZipFile(stream) as archive:
            require_held(show_path(name), unpacked_size(archive), held, UnreadableModel)
            return _take_torch_zip(archive) if kind == "torch" else _take_keras_zip(archive, name, held)
    stream.seek(0)
    if kind == "torch":
        return _take_old_torch(stream)
    with h5py.File(stream, "r") as file:
        require_own_content(file, show_path(name), held, UnreadableModel)
        if kind == "keras weights":
            return take_tree(file, name)
        about = {"config": _text(file.attrs["model_config"]), "version": _text(file.attrs.get("keras_version", ""))}
        record, arrays = take_tree(file["model_weights"], name)
    return {**about, **record}, arrays


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _take_keras_zip(archive: zipfile.ZipFile, name: str, held: int) -> tuple[dict[str, Any], dict[str, Blob]]:
    about = {part: archive.read(f"{part}.json").decode() for part in ("config", "metadata")}
    with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
        require_own_content(file, show_path(name), held, UnreadableModel)
        record, arrays = take_tree(file, name)
    return {**about, **record}, arrays


def _take_safetensors(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Blob]]:
    content = stream.read()
    header = read_json(content[8 : 8 + int.from_bytes(content[:8], "little")])
    arrays = {
        name: Blob(found["dtype"], tuple(found["shape"]), found["data"])
        for name, found in safetensors.deserialize(content)  # type: ignore[no-untyped-call]
    }
    # By the names of the file, which may be those of our own answer.
    names = sorted(arrays)
    return {"names": names, "metadata": header.get("__metadata__")}, {
        f"tensor {number}": arrays[name] for number, name in enumerate(names)
    }


def _take_torch_zip(archive: zipfile.ZipFile) -> tuple[dict[str, Any], dict[str, Blob]]:
    folder = find_program(archive).removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("numbers in another machine's order of bytes")
    program = archive.read(f"{folder}data.pkl")
    if not program.startswith(_PROTOCOL):
        raise ValueError("expected pickle protocol 2")
    reader = PickleReader(io.BytesIO(program))
    notes = take_notes(reader.load())
    contents = {key: archive.read(f"{folder}data/{key}") for key in reader.storages}
    return _torch_record(reader, notes, contents)


def _take_old_torch(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Blob]]:
    for _ in range(PROGRAMS_BEFORE):
        PickleReader(stream).load()
    reader = PickleReader(stream)
    notes = take_notes(reader.load())
    keys = PickleReader(stream).load()
    contents = {}
    for key in keys:
        kind, _ = reader.storages[key]
        stored = int.from_bytes(stream.read(8), "little")
        contents[key] = stream.read(stored * _width(kind))
    return _torch_record(reader, notes, contents)


def _width(kind: str) -> int:
    return _WIDTHS[kind.rpartition(".")[2].removesuffix("Storage")]


def _torch_record(
    reader: PickleReader, notes: list[list[Any]], contents: dict[str, bytes]
) -> tuple[dict[str, Any], dict[str, Blob]]:
    """Return the notes of a pickle, and its storages as bytes; each must hold what the pickle says of it."""
    storages, arrays = {}, {}
    for key, (kind, count) in reader.storages.items():
        if len(contents[key]) < count * _width(kind) or count < 0:
            raise ValueError("a storage is smaller than the file says")
        storages[key] = kind
        arrays[f"storage {key}"] = Blob(
            "U8", (count * _width(kind),), memoryview(contents[key])[: count * _width(kind)]
        )
    return {"names": reader.names, "notes": notes, "storages": storages}, arrays
