"""Kinds of `reach.py` from which there is no way back to gradients: each must end in one line that names it."""

from __future__ import annotations

import json
import pickle
import zipfile
from functools import partial
from pathlib import Path

import torch

from reach_corpus import Kind
from reach_torch import Small, small_state


def _bytes(name: str, content: bytes, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def _archive(name: str, entries: dict[str, bytes], folder: Path) -> Path:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
    return folder / name


def _torchscript(folder: Path) -> Path:
    torch.jit.save(torch.jit.trace(Small(), torch.rand(1, 3, 32, 32)), folder / "net.pt")
    return folder / "net.pt"


def _whole_module(folder: Path) -> Path:
    torch.save(Small(), folder / "whole.pth")
    return folder / "whole.pth"


def _exported(folder: Path) -> Path:
    torch.export.save(torch.export.export(Small().eval(), (torch.rand(2, 3, 32, 32),)), folder / "net.pt2")
    return folder / "net.pt2"


def _saved_model(folder: Path) -> Path:
    path = folder / "saved_model"
    (path / "variables").mkdir(parents=True, exist_ok=True)
    (path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    return path


def _openvino(folder: Path) -> Path:
    (folder / "net.bin").write_bytes(b"\0" * 64)
    return _bytes("net.xml", b'<?xml version="1.0"?><net name="net" version="11"><layers></layers></net>', folder)


def _core_ml_package(folder: Path) -> Path:
    path = folder / "net.mlpackage"
    path.mkdir(exist_ok=True)
    (path / "Manifest.json").write_text(json.dumps({"fileFormatVersion": "1.0.0"}))
    return path


def _goodnet(folder: Path) -> Path:
    path = folder / "goodnet"
    path.mkdir(exist_ok=True)
    (path / "goodnet.json").write_text("{}")
    return path


def _ultralytics(folder: Path) -> Path:
    """A checkpoint whose pickle names classes of ultralytics."""
    content = b"\x80\x02cultralytics.nn.tasks\nClassificationModel\nq\x00)\x81q\x01."
    return _archive("best.pt", {"best/data.pkl": content, "best/version": b"3\n", "best/byteorder": b"little"}, folder)


def _fastai(folder: Path) -> Path:
    content = b"\x80\x02cfastai.learner\nLearner\nq\x00)\x81q\x01."
    return _archive("export.pkl", {"export/data.pkl": content, "export/version": b"3\n"}, folder)


def refused_kinds() -> list[Kind]:
    """Return the kinds of this module."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    tflite = b"\x1c\x00\x00\x00TFL3" + b"\0" * 64
    core_ml = b"\x08\x04\x12\x20\x0a\x05image" + b"\0" * 64
    of = partial(Kind, "Refused")
    return [
        of("Git LFS pointer", partial(_bytes, "model.safetensors", pointer), ("Git LFS", "git lfs pull")),
        of("TorchScript", _torchscript, ("TorchScript", "state_dict")),
        of("torch.save of a whole module", _whole_module, ("Small", "state_dict")),
        of("torch.export .pt2", _exported, ("torch.export", "state_dict")),
        of("TFLite", partial(_bytes, "net.tflite", tflite), ("TFLite", "Keras")),
        of("Core ML .mlmodel", partial(_bytes, "net.mlmodel", core_ml), ("Core ML",)),
        of("Core ML .mlpackage", _core_ml_package, ("Core ML",)),
        of("OpenVINO", _openvino, ("OpenVINO",)),
        of("TensorFlow SavedModel", _saved_model, ("SavedModel", "tf2onnx")),
        of("fastai export.pkl", _fastai, ("fastai", "state_dict")),
        of("Ultralytics .pt", _ultralytics, ("Ultralytics", "onnx")),
        of("GoodNet folder", _goodnet, ("GoodNet", "original")),
        of("bare pickle", partial(_bytes, "net.pkl", pickle.dumps({"a": 1})), ("pickle", "state_dict")),
        of("tar archive", _tar, ("tar",)),
        of("PyTorch weights without a name of their network", _without_architecture, ("--architecture",)),
    ]


def _tar(folder: Path) -> Path:
    import tarfile

    with tarfile.open(folder / "net.tar", "w") as archive:
        archive.add(__file__, "net.py")
    return folder / "net.tar"


def _without_architecture(folder: Path) -> Path:
    torch.save(small_state(), folder / "net.pth")
    return folder / "net.pth"
