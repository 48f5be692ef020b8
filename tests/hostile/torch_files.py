"""Files of torch.save that run code, take memory without end, or can be read in two ways."""

from __future__ import annotations

import io
import pickle
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.hostile import zips
from tests.hostile.corpus import Family, Place
from tests.hostile.keras_archives import _TWOFOLD

FAMILY = Family("torch")


def save(content: Any, *, old: bool = False) -> bytes:
    """Return the bytes of a file of torch.save."""
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not old)
    return stream.getvalue()


def sound() -> dict[str, bytes]:
    """Return the members of a small file of torch.save, uncompressed, in the folder `archive`."""
    stream = io.BytesIO(save({"weight": torch.zeros(4, 4)}))
    import zipfile

    with zipfile.ZipFile(stream) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_pickle(code: bytes, storage: bytes = bytes(64)) -> bytes:
    """Return a file of torch.save whose pickle is `code`, with one storage of its own."""
    return zips.pack(sound() | {"archive/data.pkl": code, "archive/data/0": storage})


class Calls:
    """Is a call of a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def named(name: str, *arguments: Any) -> bytes:
    """Return a pickle that calls a function by name; the module may contain anything."""
    module, _, function = name.rpartition(".")
    packed = pickle.dumps(arguments, 2)[2:-1]
    return b"\x80\x02c" + module.encode() + b"\n" + function.encode() + b"\n" + packed + b"R."


# --- code -------------------------------------------------------------------------------------------------------------

#: Functions that run what they are given; block lists of pickle scanners have missed most of them.
GADGETS: dict[str, Callable[[Place], tuple[Any, ...]]] = {
    "posix.system": lambda p: (p.command,),
    "os.system": lambda p: (p.command,),
    "builtins.eval": lambda p: (f"__import__('os').system({p.command!r})",),
    "builtins.exec": lambda p: (f"__import__('os').system({p.command!r})",),
    "subprocess.check_output": lambda p: (["bash", "-c", p.command],),
    "pydoc.pipepager": lambda p: ("x", p.command),
    "timeit.timeit": lambda p: (f"__import__('os').system({p.command!r})",),
    "runpy.run_path": lambda p: (str(p.secret),),
    "importlib.import_module": lambda p: ("antigravity",),
    "cProfile.run": lambda p: (f"__import__('os').system({p.command!r})",),
    "torch.utils.collect_env.run": lambda p: (p.command,),
    "numpy.testing._private.utils.runstring": lambda p: (f"__import__('os').system({p.command!r})", {}),
    "asyncio.unix_events._UnixSubprocessTransport._start": lambda p: ({}, p.command, True),
    "socket.create_connection": lambda p: (("127.0.0.1", p.port),),
    "builtins.open": lambda p: (str(p.secret),),
}
for _name, _arguments in GADGETS.items():

    def _calling(place: Place, name: str = _name, arguments: Any = _arguments) -> Path:
        path = place.folder / "net.pt"
        path.write_bytes(with_pickle(named(name, *arguments(place))))
        return path

    FAMILY.add("pickle that calls functions", "weights", "refused", _calling, f"calls {_name}", "picklescan and others")


def _payload(place: Place) -> Calls:
    import os

    return Calls(os.system, place.command)


WAYS: dict[str, tuple[str, Callable[[Any], bytes]]] = {
    "in a zip": ("net.pt", save),
    "in the older layout": ("net.pth", lambda payload: save(payload, old=True)),
    "beside weights": ("net.ckpt", lambda payload: save({"net": {"w": torch.zeros(2)}, "optimizer": payload})),
    "bare": ("net.pt", pickle.dumps),
    "bare, called safetensors": ("net.safetensors", lambda payload: pickle.dumps(payload, 2)),
    "bare, called Keras": ("net.h5", lambda payload: pickle.dumps(payload, 4)),
    "bare, before a sound archive": ("net.pt", lambda payload: pickle.dumps(payload, 2) + zips.pack(sound())),
}
for _name, (_file, _make) in WAYS.items():

    def _paid(place: Place, file: str = _file, make: Any = _make) -> Path:
        (place.folder / file).write_bytes(make(_payload(place)))
        return place.folder / file

    FAMILY.add("pickle with a payload", "weights", "refused", _paid, f"payload {_name}", "CVE-2025-32434")


@FAMILY.file("pickle with a payload", "weights", "tar archive", threat="CVE-2025-32434")
def a_tar_archive_that_begins_as_a_pickle(place: Place) -> Path:
    path = place.folder / "net.pt"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        content = pickle.dumps(_payload(place), 2)
        member = tarfile.TarInfo("x" * 40)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    body = bytearray(stream.getvalue())
    magic = save({}, old=True)[:24]
    body[: len(magic)] = magic
    body[148:156] = b" " * 8
    body[148:156] = b"%06o\0 " % sum(body[:512])
    path.write_bytes(bytes(body))
    return path


@FAMILY.file("program", "model", "TorchScript", threat="CVE-2022-45907")
def a_TorchScript_program(place: Place) -> Path:
    path = place.folder / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    return path


@FAMILY.file("program", "model", "torch.export", threat="CVE-2026-4538")
def an_exported_program(place: Place) -> Path:
    path = place.folder / "net.pt2"
    payload = pickle.dumps(_payload(place))
    path.write_bytes(
        zips.pack({"net/archive_format": b"pt2", "net/models/model.json": b"{}", "net/data/weights.pt": payload})
    )
    return path


# --- memory -----------------------------------------------------------------------------------------------------------


#: The storage 0 of floats on the CPU, without the number of them, in pickle's words.
_STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu"


def tensor(
    size: str, *, offset: int = 0, stride: str = "(J\x01\x00\x00\x00t", numel: int = 16, after: bytes = b""
) -> bytes:
    """Return a pickle {"weight": tensor} over the storage 0 of `numel` floats, in pickle's own words."""
    storage = _STORAGE + b"\x8a\x08" + numel.to_bytes(8, "little") + b"tQ"
    rebuilt = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"\x8a\x08" + offset.to_bytes(8, "little", signed=True)
    )
    rebuilt += size.encode("latin-1") + stride.encode("latin-1") + b"\x89ccollections\nOrderedDict\n)RtR" + after
    return b"\x80\x02}X\x06\0\0\0weight" + rebuilt + b"s."


def many(count: int) -> str:
    """Return the shape (count,) in pickle's words."""
    return "(\x8a\x08" + count.to_bytes(8, "little", signed=True).decode("latin-1") + "t"


STORAGE = "CVE-2026-24747"
SIZES: dict[str, bytes] = {
    "a tensor larger than its storage": with_pickle(tensor(many(1 << 34))),
    "a tensor that begins behind its storage": with_pickle(tensor(many(4), offset=1 << 40)),
    "a tensor that begins before its storage": with_pickle(tensor(many(4), offset=-64)),
    "a stride that leaves its storage": with_pickle(tensor(many(4), stride=many(1 << 33))),
    "a stride backwards": with_pickle(tensor(many(4), stride=many(-4))),
    "a storage larger than its bytes": with_pickle(tensor(many(4), numel=1 << 34)),
    "a tensor put anew by its state": with_pickle(
        tensor(
            many(4),
            after=b"(" + _STORAGE + b"K\x10tQK\0" + many(1 << 34).encode("latin-1") + b"(K\x01ttb",
        )
    ),
    "an array of bytes": with_pickle(named("__builtin__.bytearray", 1 << 34)),
    "a tensor by its size": with_pickle(named("torch.FloatTensor", 1 << 33)),
    "an untyped storage by its size": with_pickle(named("torch.storage.UntypedStorage", 1 << 34)),
}
for _name, _content in SIZES.items():

    def _sized(place: Place, content: bytes = _content) -> Path:
        (place.folder / "net.pt").write_bytes(content)
        return place.folder / "net.pt"

    FAMILY.add("tensor larger than its storage", "weights", "larger than what the file has", _sized, _name, STORAGE)


@FAMILY.file("tensor larger than its storage", "weights", "larger than what the file has", threat=STORAGE)
def a_storage_of_terabytes_in_the_older_layout(place: Place) -> Path:
    content = save({"weight": torch.zeros(4, 4)}, old=True)
    told = content.replace(b"cpuq\x06K\x10", b"cpuq\x06\x8a\x06" + (1 << 40).to_bytes(6, "little"), 1)
    assert told != content
    (place.folder / "net.pt").write_bytes(told)
    return place.folder / "net.pt"


@FAMILY.file("zip bomb", "weights", "far more than its size")
def a_packed_storage(place: Place) -> Path:
    import zipfile

    path = place.folder / "net.pt"
    path.write_bytes(zips.pack(sound() | {"archive/data/0": bytes(300 << 20)}, zipfile.ZIP_DEFLATED))
    return path


@FAMILY.file("checkpoint without end", "weights", "within one another")
def a_list_that_holds_itself(place: Place) -> Path:
    content: list[Any] = []
    content.append(content)
    (place.folder / "net.pt").write_bytes(save({"a": content}))
    return place.folder / "net.pt"


@FAMILY.file("checkpoint without end", "weights", "containers")
def a_list_of_lists_of_lists(place: Place) -> Path:
    content: list[Any] = ["x"]
    for _ in range(40):
        content = [content, content]
    (place.folder / "net.pt").write_bytes(save({"a": content}))
    return place.folder / "net.pt"


@FAMILY.file("checkpoint without end", "weights", "")
def one_number_repeated_10_12_times(place: Place) -> Path:
    (place.folder / "net.pt").write_bytes(with_pickle(tensor(many(10**12), stride="(K\0t", numel=16)))
    return place.folder / "net.pt"


@FAMILY.file("checkpoint without end", "weights", "")
def a_thousand_tensors_of_one_storage(place: Place) -> Path:
    base = torch.zeros(1 << 18)
    (place.folder / "net.pt").write_bytes(save({f"w{index}": base for index in range(4000)}))
    return place.folder / "net.pt"


# --- two readings -----------------------------------------------------------------------------------------------------


def _evil(place: Place) -> dict[str, bytes]:
    return sound() | {"archive/data.pkl": named("posix.system", place.command)}


for _name in (
    "two archives in one file",
    "a second directory in the comment",
    "a name twice",
    "another name in the header",
    "another size in the header",
    "a flag that says encrypted",
    "bytes before the archive",
    "bytes after the directory",
):

    def _twofold(place: Place, name: str = _name) -> Path:
        from tests.hostile.keras_archives import two_readings

        path = place.folder / "net.pt"
        path.write_bytes(two_readings(sound(), _evil(place), "archive/data.pkl")[name][0])
        return path

    FAMILY.add("ambiguous archive", "weights", _TWOFOLD.get(_name, "refused"), _twofold, _name, "picklescan and others")


@FAMILY.file("ambiguous archive", "weights", "", threat="picklescan and others")
def two_folders_in_one_archive(place: Place) -> Path:
    path = place.folder / "net.pt"
    other = {name.replace("archive/", "other/"): content for name, content in _evil(place).items()}
    path.write_bytes(zips.pack(sound() | other))
    return path


@FAMILY.file("ambiguous archive", "weights", "")
def a_Keras_model_and_a_checkpoint_in_one_archive(place: Place) -> Path:
    from tests.hostile.sound_keras import members

    path = place.folder / "net.pt"
    path.write_bytes(zips.pack(members() | _evil(place)))
    return path


@FAMILY.file("not a file", "weights", "found a folder without")
def a_folder_in_place_of_a_file(place: Place) -> Path:
    (place.folder / "net.pt").mkdir()
    return place.folder / "net.pt"


@FAMILY.file("not a file", "weights", "expected a file")
def a_pipe_called_net_pt(place: Place) -> Path:
    import os

    os.mkfifo(place.folder / "net.pt")
    return place.folder / "net.pt"


@FAMILY.file("not a file", "weights", "expected a file")
def a_link_to_a_device(place: Place) -> Path:
    (place.folder / "net.pt").symlink_to("/dev/zero")
    return place.folder / "net.pt"


@FAMILY.file("not a file", "weights", "expected a file")
def a_socket_called_net_pt(place: Place) -> Path:
    import socket

    path = place.folder / "net.pt"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    return path
