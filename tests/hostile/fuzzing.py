"""Damaged files, made from small sound ones by seeded mutation, for every reader.

What a reader may do with one is to take it or to refuse it with an error of goodnet's own. All else is a crash: another
exception, more than five seconds, more memory than the limit, the end of the process.
"""

from __future__ import annotations

import functools
import json
import random
import re
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from goodnet.core.reading import Reading
from tests.hostile import (
    goodnet_folders,
    network_files,
    npz_files,
    onnx_files,
    pictures,
    records,
    sound_keras,
    torch_files,
    zips,
)

#: Numbers that readers stumble over.
_NUMBERS = (0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_WORDS = (
    *(b"-1", b"1e999", b"nan", b"null", b"[]", b"{}", b'""', b"9" * 400, b"true", b"'"),
    *(b"\xff", b"\x00", b"../../x", b"\x1b[2J"),
)


def mutate(rng: random.Random, content: bytes) -> bytes:
    """Return bytes with one to eight changes: bits, numbers, words, parts that are gone, doubled or moved."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        rng.choice(_CHANGES)(rng, data)
    return bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.05 else data)


def _flip(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))


def _number(rng: random.Random, data: bytearray) -> None:
    place, kind = rng.randrange(len(data) + 1), rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(kind)
    data[place : place + size] = struct.pack(kind, rng.choice(_NUMBERS) % (1 << (8 * size)))


def _word(rng: random.Random, data: bytearray) -> None:
    """Put something else in place of a number or a word of a text."""
    found = list(re.finditer(rb"-?[0-9]+|\"[^\"]*\"|[a-z_]+", bytes(data[:20_000])))
    if found:
        start, end = rng.choice(found).span()
        data[start:end] = rng.choice((*_WORDS, str(rng.choice(_NUMBERS)).encode(), bytes(data[start:end]) * 2))


def _cut(rng: random.Random, data: bytearray) -> None:
    place = rng.randrange(len(data) + 1)
    del data[place : place + rng.choice((1, 2, 8, 64))]


def _double(rng: random.Random, data: bytearray) -> None:
    place, size = rng.randrange(len(data) + 1), rng.choice((1, 8, 64, 512))
    data[place:place] = data[place : place + size]


def _move(rng: random.Random, data: bytearray) -> None:
    place, other, size = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1), rng.choice((1, 4, 16))
    data[place : place + size] = data[other : other + size]


def _insert(rng: random.Random, data: bytearray) -> None:
    place = rng.randrange(len(data) + 1)
    data[place:place] = rng.choice((rng.randbytes(rng.choice((1, 4, 32))), rng.choice(_WORDS)))


_CHANGES = (_flip, _flip, _set, _set, _number, _number, _word, _word, _cut, _double, _move, _insert)


def mutate_archive(rng: random.Random, content: bytes) -> bytes:
    """Return an archive of which a member is changed and packed anew, now and then the archive itself."""
    if rng.random() < 0.3:
        return mutate(rng, content)
    with zipfile.ZipFile(BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    if rng.random() < 0.1:
        del members[name]
    else:
        members[name] = mutate(rng, members[name])
    return zips.pack(members, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


@dataclass(frozen=True)
class Reader:
    """A reader: sound files, how they are damaged, and what reads the bytes, given a folder for files."""

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], object]
    mutate: Callable[[random.Random, bytes], bytes] = mutate
    #: Inputs of a test run; fewer where one takes long.
    in_tests: int = 500


def make_input(reader: Reader, number: int) -> bytes:
    """Return the damaged file of a number: the same in every run."""
    rng = random.Random(number)
    return reader.mutate(rng, rng.choice(_seeds(reader)))


@functools.cache
def _seeds(reader: Reader) -> list[bytes]:
    return reader.seeds()


def _file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    def through_a_file(content: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(content)
        return read(path)

    return through_a_file


def _model(path: Path) -> object:
    from goodnet import api

    return api.load_classifier(path, reading=Reading(confine=False))


def _weights(path: Path) -> object:
    from goodnet import api

    return api.load_classifier(
        path, reading=Reading(architecture="tests.small_networks:tiny", image_shape=(3, 12, 12), confine=False)
    )


def _data(path: Path) -> object:
    from goodnet import api

    return [batch.images.sum() for batch in api.load_dataset(path).batches()]


def _onnx(path: Path) -> object:
    from goodnet.pair.onnx import OnnxGoodNet

    return OnnxGoodNet(path, threads=1, confine=False)


def _policy(path: Path) -> object:
    from goodnet.reports.policy import Policy

    return Policy.read(path)


def _zoo_spec(path: Path) -> object:
    from goodnet.evaluation.zoo_spec import ZooSpec
    from goodnet.formats.toml_files import read_toml

    return read_toml(path, ZooSpec)


def _bench_spec(path: Path) -> object:
    from goodnet.evaluation.bench_spec import BenchSpec
    from goodnet.formats.toml_files import read_toml

    return read_toml(path, BenchSpec)


def _report(path: Path) -> object:
    from goodnet.reports.html import html_report
    from goodnet.reports.run_folders import find_runs

    return html_report(find_runs([path.parent]))


def _backdoors(path: Path) -> object:
    from goodnet.formats.triggers import read_backdoors

    return read_backdoors(path)


def _pickle(path: Path) -> object:
    from goodnet.formats.plain_pickles import read_plain_pickle

    return read_plain_pickle(path)


def _idx(path: Path) -> object:
    from goodnet.formats.layouts import read_mnist

    for name in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (path.parent / name).write_bytes(_IDX_LABELS if "labels" in name else _IDX_IMAGES)
    return read_mnist(path.parent)


_IDX_IMAGES = b"\0\0\x08\x03" + struct.pack(">3I", 2, 5, 5) + bytes(50)
_IDX_LABELS = b"\0\0\x08\x01" + struct.pack(">I", 2) + b"\0\1"


def _goodnet(content: bytes, folder: Path) -> object:
    from goodnet.pair.goodnet import GoodNet

    for name in ("original.pt", "repaired.pt"):
        (folder / name).write_bytes(goodnet_folders.network())
    (folder / "goodnet.json").write_bytes(content)
    return GoodNet.load(folder, confine=False)


def _form(content: bytes, _: Path) -> object:
    from goodnet.serve.bodies import split_form

    return split_form(content, b"BOUND", 8)


def _array(content: bytes, _: Path) -> object:
    from goodnet.serve.pixel_arrays import split_array

    return split_array(content, 8)


def _served_picture(content: bytes, _: Path) -> object:
    from goodnet.serve.pictures import read_picture

    return read_picture(content, (3, 12, 12), max_pixels=1_000_000, resize=True)


def _hdf5_seeds() -> list[bytes]:
    import h5py
    import numpy as np

    seeds = []
    for options in ({}, {"compression": "gzip", "chunks": (2, 3, 6, 6)}):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.h5"
            with h5py.File(path, "w") as file:
                file.create_dataset("data", data=np.zeros((4, 3, 6, 6), np.uint8), **options)
                file["label"] = np.arange(4)
            seeds.append(path.read_bytes())
    return seeds


def _state() -> dict[str, Any]:
    import torch

    from tests.small_networks import tiny

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dict(tiny().state_dict())


def _weight_seeds(*, old: bool) -> list[bytes]:
    import torch

    checkpoint = {"state_dict": _state(), "epoch": torch.tensor(3), "notes": [1, "x"]}
    return [torch_files.save(_state(), old=old), torch_files.save(checkpoint, old=old)]


def _safetensors_seeds() -> list[bytes]:
    from safetensors.torch import save

    return [save(_state()), save(_state(), {"note": "x"})]


def _records() -> list[bytes]:
    rate = {"value": 0.5, "n": 10, "low": 0.2, "high": 0.8}
    row = {"name": "original", "metrics": {"clean_accuracy": rate, "attack_success_rate": {"x": rate}}}
    scan = {
        "verdict": "backdoored",
        "suspected": [{"target": 1, "sources": None, "score": 2.0, "trigger_size": 3.0}],
        **{"reason": "x; y", "threshold": 1.0, "unscanned": [2], "scores": [0.5, 2.0, None]},
        **{"evidence": {"margin": [0.5, 2.0, None]}, "clean_accuracy": rate, "notes": ["z"]},
    }
    network = {"file": "repaired.pt", "name": "r", "accuracy": rate, "changes": {"method": "m", "epochs": 3}}
    repair = {
        **{"input_range": "0..1", "input_range_reason": "x", "accuracy_before": rate, "networks": [network]},
        **{
            "recommended": "r",
            "goodnet": "goodnet",
            "targets": [0],
            "trace": {"diff": {"agreement": rate, "per_class": []}},
        },
    }
    guard = {
        **{"method": "ensemble", "targets": [0], "threshold": 1.0, "false_refusals": None, "goodnet": None},
        **{"refused_clean": rate, "surrogates": [{"target": 0, "surrogate": "x", "success": rate, "refused": rate}]},
    }
    metrics = {"clean_accuracy": rate, "attack_success_rate": {"x": rate}, "robust_accuracy": {}}
    results = {
        "scan": scan,
        "evaluate": {"rows": [row, row], "input_range": "0..1", "input_range_reason": "x"},
        "repair": repair,
        "guard": guard,
        "attack": {"truth": "backdoor.json", "metrics": metrics},
    }
    return [json.dumps(records.RUN | {"verb": verb, "result": result}).encode() for verb, result in results.items()]


def _npy_bodies() -> list[bytes]:
    import numpy as np

    return [npz_files.npy(np.zeros(shape, np.uint8)) for shape in ((2, 6, 8, 3), (2, 6, 8))]


def _form_bodies() -> list[bytes]:
    part = b'--BOUND\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n%s\r\n'
    return [part % pictures.encoded("PNG") * count + b"--BOUND--\r\n" for count in (1, 3)]


def _text(text: str) -> Callable[[], list[bytes]]:
    return lambda: [text.encode()]


def _zoo_text() -> list[bytes]:
    from tests.micro_zoo import ZOO

    return [ZOO.encode()]


def _bench_text() -> list[bytes]:
    from tests.micro_zoo import BENCH

    return [BENCH.encode()]


_POLICY = "fail_on_backdoored = true\nfail_on_inconclusive = false\nleast_clean_accuracy = 0.5\n"
_PICKLE = b"\x80\x02}q\x00(U\x04dataq\x01]q\x02(K\x01K\x02eU\x06labelsq\x03(K\x00K\x01tU\x04nameq\x04X\x01\0\0\0xu."
_KINDS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP", "GIF")

READERS: dict[str, Reader] = {
    "keras-h5": Reader(lambda: [sound_keras.sound(".h5")], _file("net.h5", _model), in_tests=120),
    "keras-zip": Reader(
        lambda: [sound_keras.sound(".keras")], _file("net.keras", _model), mutate_archive, in_tests=120
    ),
    "torch": Reader(lambda: _weight_seeds(old=False), _file("net.pt", _weights), mutate_archive),
    "torch-old": Reader(lambda: _weight_seeds(old=True), _file("net.pt", _weights)),
    "safetensors": Reader(_safetensors_seeds, _file("net.safetensors", _weights)),
    "keras-2": Reader(network_files.keras_2_networks, _file("net.h5", _model), in_tests=120),
    "onnx-network": Reader(network_files.onnx_networks, network_files.read_onnx),
    "onnx": Reader(lambda: [onnx_files.sound()], _file("net.onnx", _onnx)),
    "hdf5-data": Reader(_hdf5_seeds, _file("data.h5", _data)),
    "npz-data": Reader(lambda: [zips.pack(npz_files.sound())], _file("data.npz", _data), mutate_archive),
    "pictures": Reader(lambda: [pictures.encoded(kind) for kind in _KINDS], _file("picture.png", _data)),
    "goodnet": Reader(_text(json.dumps(goodnet_folders.CARD)), _goodnet),
    "zoo-spec": Reader(_zoo_text, _file("spec.toml", _zoo_spec)),
    "bench-spec": Reader(_bench_text, _file("spec.toml", _bench_spec)),
    "policy": Reader(_text(_POLICY), _file("policy.toml", _policy)),
    "records": Reader(_records, _file("run.json", _report), in_tests=300),
    "backdoors": Reader(lambda: [zips.pack(records.backdoors())], _file("suspected.npz", _backdoors), mutate_archive),
    "cifar-pickle": Reader(lambda: [_PICKLE], _file("batch", _pickle)),
    "mnist": Reader(lambda: [_IDX_IMAGES], _file("train-images-idx3-ubyte", _idx)),
    "http-form": Reader(_form_bodies, _form),
    "http-array": Reader(_npy_bodies, _array),
    "http-picture": Reader(lambda: [pictures.encoded(kind) for kind in _KINDS[:4]], _served_picture),
}


def refusals() -> tuple[type[Exception], ...]:
    """Return what a reader may raise."""
    from goodnet.core.errors import GoodnetError
    from goodnet.serve.rejections import Rejected

    return (GoodnetError, Rejected)


def chain(error: BaseException | None) -> list[BaseException]:
    """Return an exception and those that it came from."""
    found: list[BaseException] = []
    while error is not None and len(found) < 20:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
