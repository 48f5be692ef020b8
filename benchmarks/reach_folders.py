"""Kinds of `reach.py`: folders of Hugging Face and timm."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reach_corpus import CLASSES, Held, Images, Kind, Outputs, normalised, run_torch, spread_predictions

HALF = ((0.5,) * 3, (0.5,) * 3)
_TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 32}
_TRANSFORMER = {**_TINY, "patch_size": 8}
_STAGES = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "image_size": 32, "patch_size": 4}
#: Small networks of each kind: the options of its configuration, and the size of its images.
_KINDS: dict[str, tuple[dict[str, Any], int]] = {
    "vit": (_TRANSFORMER, 32),
    "deit": (_TRANSFORMER, 32),
    "beit": (_TRANSFORMER, 32),
    "dinov2": ({**_TRANSFORMER, "mlp_ratio": 2}, 32),
    "vit_msn": (_TRANSFORMER, 32),
    "swin": (_STAGES, 32),
    "swinv2": (_STAGES, 32),
    "convnext": ({"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "image_size": 32}, 32),
    "convnextv2": ({"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "image_size": 32}, 32),
    "resnet": ({"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}, 64),
    "regnet": ({"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 4}, 64),
    "mobilenet_v1": ({"depth_multiplier": 0.25, "image_size": 64}, 64),
    "mobilenet_v2": ({"depth_multiplier": 0.35, "image_size": 64}, 64),
    "efficientnet": ({"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320, "image_size": 64}, 64),
    "poolformer": ({"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}, 64),
    "mobilevit": ({"hidden_sizes": [16, 16, 16], "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 16], "image_size": 64}, 64),
    "focalnet": (
        {
            "embed_dim": 8,
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "focal_levels": [1, 1],
            "focal_windows": [3, 3],
            "image_size": 32,
        },
        32,
    ),
    "levit": ({}, 224),
    "dinov2_with_registers": ({**_TRANSFORMER, "mlp_ratio": 2, "num_register_tokens": 2}, 32),
    "bit": ({"num_groups": 4, "embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]}, 64),
}


def make_model(kind: str, names: Sequence[str] = ("cat", "dog", "car", "ship")) -> tuple[Any, Any]:
    """Return the library and a small network of a kind with fresh weights, whose classes have these names."""
    from goodnet.formats.transformers_networks import _import

    transformers = _import()
    options, _ = _KINDS[kind]
    numbered = dict(enumerate(names))
    config = transformers.AutoConfig.for_model(
        kind, **options, id2label=numbered, label2id={v: k for k, v in numbered.items()}
    )
    maker = transformers.AutoModelForImageClassification._model_mapping[type(config)]
    config.architectures = [(maker[0] if isinstance(maker, tuple) else maker).__name__]
    torch.manual_seed(0)
    return transformers, transformers.AutoModelForImageClassification.from_config(config)


def _logits(model: Any, images: Tensor) -> Tensor:
    return model(pixel_values=images).logits


def _folder(kind: str, folder: Path, change: Any = None, save: Mapping[str, Any] | None = None) -> Held:
    transformers, model = make_model(kind)
    _, size = _KINDS[kind]
    shape = (3, size, size)
    model.eval()
    spread_predictions(model, partial(_logits, model), shape, lambda images: normalised(images.numpy(), *HALF))
    path = folder / kind
    model.to((save or {}).get("dtype", torch.float32))
    save_folder(model, size, path, **{key: value for key, value in (save or {}).items() if key != "dtype"})
    if change is not None:
        change(path)

    def outputs(place: Path, images: Images) -> Outputs:
        read = transformers.AutoModelForImageClassification.from_pretrained(place, dtype=torch.float32)
        with torch.no_grad():
            return _logits(read.eval(), normalised(images, *HALF)).numpy()

    return Held(path, outputs, shape)


def save_folder(model: Any, size: int, path: Path, **options: Any) -> None:
    """Write a network for images of -1..1 and of `size` x `size` pixels, and beside it how pictures become that."""
    model.save_pretrained(path, **options)
    rules = {
        "do_normalize": True,
        "image_mean": list(HALF[0]),
        "image_std": list(HALF[1]),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_resize": True,
        "resample": 3,
        "size": {"height": size, "width": size},
    }
    (path / "preprocessor_config.json").write_text(json.dumps(rules))


def _as_bin(path: Path) -> None:
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()


def _with_remote_code(path: Path) -> None:
    """Say that code of the folder's own is to be run; it is not, since the kind is one that the library has."""
    config = json.loads((path / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "somebody/else--code.Config"}
    config["_name_or_path"] = "somebody/else"
    (path / "config.json").write_text(json.dumps(config))


def _timm_folder(folder: Path) -> Held:
    from goodnet.architectures.libraries import find_in_library

    build, _ = find_in_library("timm:resnet10t")
    torch.manual_seed(0)
    shape, size = (3, 64, 64), 64
    module = build(num_classes=CLASSES, image_shape=shape)
    spread_predictions(module, module, shape, lambda images: normalised(images.numpy(), *HALF))
    path = folder / "timm"
    path.mkdir()
    settings = {
        "mean": list(HALF[0]),
        "std": list(HALF[1]),
        "input_size": list(shape),
        "interpolation": "bicubic",
        "crop_pct": 0.95,
    }
    config = {
        "architecture": "resnet10t",
        "num_classes": CLASSES,
        "pretrained_cfg": settings,
        "label_names": ["a", "b", "c", "d"],
    }
    (path / "config.json").write_text(json.dumps(config))
    save_file(module.state_dict(), path / "model.safetensors")

    def outputs(place: Path, images: Images) -> Outputs:
        read = build(num_classes=CLASSES, image_shape=(3, size, size))
        read.load_state_dict(load_file(place / "model.safetensors"))
        return run_torch(read, normalised(images, *HALF))

    return Held(path, outputs, shape)


def _changed_config(change: dict[str, Any], folder: Path) -> Path:
    path = _folder("vit", folder).path
    config = json.loads((path / "config.json").read_text()) | change
    (path / "config.json").write_text(json.dumps(config))
    return path


def folder_kinds() -> list[Kind]:
    """Return the kinds of this module."""
    kinds = [Kind("Hugging Face", f"Hugging Face folder, {kind}", partial(_folder, kind)) for kind in _KINDS]
    further = {
        "in half precision": {"save": {"dtype": torch.float16}},
        "in several files": {"save": {"max_shard_size": "20KB"}},
        "with pytorch_model.bin": {"change": _as_bin},
        "that names code elsewhere (not run)": {"change": _with_remote_code},
    }
    kinds += [
        Kind("Hugging Face", f"Hugging Face folder {name}", partial(_folder, "vit", **how))
        for name, how in further.items()
    ]
    kinds.append(Kind("timm", "timm folder", _timm_folder))
    refused: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        "Hugging Face folder, multi-label": (
            {"problem_type": "multi_label_classification"},
            ("several labels", "one class"),
        ),
        "Hugging Face folder of a language network": ({"model_type": "bert"}, ("bert", "--architecture")),
        "Hugging Face folder with a kind of its own": (
            {"model_type": "mine", "auto_map": {"AutoModel": "m.M"}},
            ("mine", "not run"),
        ),
    }
    return kinds + [
        Kind("Hugging Face", name, partial(_changed_config, change), words) for name, (change, words) in refused.items()
    ]
