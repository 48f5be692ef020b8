"""Folders of Hugging Face and timm -> `Classifier`: `config.json`, weights, and what says how pictures are prepared.

Such a folder is hostile until shown otherwise. Its configurations are read as data; code that they name is neither fetched
nor run, the hub is never asked. Only kinds of networks that the installed library itself has are built, and only with
as many weights as the folder holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from goodnet import architectures
from goodnet.core.classifier import Classifier
from goodnet.core.errors import UnreadableModel
from goodnet.core.graph import trace
from goodnet.formats.checkpoints import Checkpoint, read_checkpoint
from goodnet.formats.files import replacing_folder
from goodnet.formats.preprocessor_files import (
    PictureRules,
    read_class_names,
    read_json,
    read_preprocessor,
    read_timm_rules,
)
from goodnet.formats.pytorch import load_weights, rebuild_module
from goodnet.formats.shown_paths import show_path

CONFIG = "config.json"
_PREPROCESSOR = "preprocessor_config.json"
ReadWeights: TypeAlias = Callable[[Path], Checkpoint]
#: Weights in one file, the safest first; and lists of several files.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_LISTS = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
#: Endings of the small files that are copied beside repaired weights, and how large they may be.
_COPIED, _LARGEST_COPY = (".json", ".txt", ".md"), 4 << 20


def is_network_folder(path: Path) -> bool:
    """Whether a folder holds a network of Hugging Face or timm: a configuration and weights."""
    return (path / CONFIG).is_file() and any((path / name).is_file() for name in (*_WEIGHTS, *_LISTS))


def read_network_folder(
    path: Path, image_shape: tuple[int, int, int] | None = None, read: ReadWeights = read_checkpoint
) -> Classifier:
    """Read the network in a folder, with its normalisation, its way to resize pictures, and its class names.

    Args:
        path: the folder.
        image_shape: (C, H, W); None takes what the folder says.
        read: reads a file of weights.

    Raises:
        UnreadableModel: the folder is damaged or hostile, needs code of its own, or holds no image classifier.
        InvalidOption: the extra goodnet[hf], or goodnet[timm], is not installed.
    """
    config = read_json(path / CONFIG)
    if "architecture" in config and config.get("model_type", "timm_wrapper") == "timm_wrapper":
        return _read_timm(path, config, image_shape, read)
    return _read_transformers(path, config, image_shape, read)


def _read_timm(
    path: Path, config: Mapping[str, Any], image_shape: tuple[int, int, int] | None, read: ReadWeights
) -> Classifier:
    settings = config.get("pretrained_cfg")
    rules = read_timm_rules(settings if isinstance(settings, dict) else config, path / CONFIG)
    if config.get("model_args"):
        raise UnreadableModel(
            f"{path}: expected a timm network built from its name alone, got extra arguments (model_args); save its state dict "
            "and give a factory of your own: --architecture package.module:factory"
        )
    architecture = architectures.find(f"timm:{config['architecture']}")
    shape = image_shape or (3, *(rules.size or (224, 224)))
    checkpoint = _read_weights(path, read)
    weights, classes = checkpoint.content, _count(config)
    prefix = "timm_model." if all(name.startswith("timm_model.") for name in weights) else ""
    module = architecture.build(classes=classes, image_shape=shape)
    load_weights(module, {name.removeprefix(prefix): value for name, value in weights.items()}, path, architecture.name)
    names = read_class_names(config.get("id2label"), classes) or _timm_names(config, classes)
    source = FolderSource(module, _small_files(path), _precision(weights), prefix)
    return _classifier(path, module, shape, rules, names, source)


def _timm_names(config: Mapping[str, Any], classes: int) -> tuple[str, ...] | None:
    names = config.get("label_names")
    return read_class_names(dict(enumerate(names)), classes) if isinstance(names, list) else None


def _count(config: Mapping[str, Any]) -> int:
    labels = config.get("id2label")
    count = config.get("num_classes") or config.get("num_labels") or (len(labels) if isinstance(labels, dict) else 1000)
    return int(count)


def _read_transformers(
    path: Path, config: dict[str, Any], image_shape: tuple[int, int, int] | None, read: ReadWeights
) -> Classifier:
    from goodnet.formats.transformers_networks import build_network  # its library takes seconds to import

    rules = read_preprocessor(path / _PREPROCESSOR)
    checkpoint = _read_weights(path, read)
    module = build_network(path, config, checkpoint.content)
    if not all(bool(torch.isfinite(value).all()) for value in module.state_dict().values()):
        raise UnreadableModel(
            f"{path}: expected finite weights, found NaN or infinity; the folder is damaged or its training failed"
        )
    size = rules.size or _configured_size(config)
    shape = image_shape or (int(config.get("num_channels", 3)), *size)
    names = read_class_names(config.get("id2label"), module.classes)
    source = FolderSource(module, _small_files(path), _precision(checkpoint.content))
    return _classifier(path, module, shape, rules, names, source)


def _configured_size(config: Mapping[str, Any]) -> tuple[int, int]:
    size = config.get("image_size", 224)
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    if not (isinstance(height, int) and isinstance(width, int)):
        return 224, 224
    return height, width


def _classifier(
    path: Path,
    module: nn.Module,
    shape: tuple[int, int, int],
    rules: PictureRules,
    names: tuple[str, ...] | None,
    source: FolderSource,
) -> Classifier:
    return Classifier(
        trace(module.eval()),
        image_shape=shape,
        input_range=rules.input_range or "0..1",
        source=source,
        name=show_path(path.absolute().name),
        resizing=rules.resizing,
        class_names=names,
    )


def _read_weights(path: Path, read: ReadWeights) -> Checkpoint:
    """Return the weights in a folder: of one file, or of all files of a list."""
    for name in _WEIGHTS:
        if (path / name).is_file():
            return _checked(path / name, read(path / name))
    name = next(name for name in _LISTS if (path / name).is_file())
    content = read_json(path / name)
    places = content.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UnreadableModel(f"{path / name}: expected a weight_map of names to files; fetch the folder again")
    weights: dict[str, Tensor] = {}
    for file in sorted(set(map(str, places.values()))):
        if Path(file).name != file or "\\" in file or file.startswith("."):
            raise UnreadableModel(
                f"{path / name}: refused, '{show_path(file)}' is no plain name of a file in the folder"
            )
        weights |= _checked(path / file, read(path / file)).content
    return Checkpoint(weights, is_safetensors=True)


def _checked(path: Path, checkpoint: Checkpoint) -> Checkpoint:
    content = checkpoint.content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UnreadableModel(f"{path}: expected weights by name, as save_pretrained writes them, got something else")
    return checkpoint


def _precision(weights: Mapping[str, Tensor]) -> torch.dtype:
    """Return the type that most of the numbers have."""
    sizes: dict[torch.dtype, int] = {}
    for value in weights.values():
        if value.is_floating_point():
            sizes[value.dtype] = sizes.get(value.dtype, 0) + value.numel()
    return max(sizes, key=lambda kind: sizes[kind], default=torch.float32)


def _small_files(path: Path) -> dict[str, bytes]:
    """Return the folder's own small files by name; lists of weights are left out, since one file is written."""
    files = [item for item in sorted(path.iterdir()) if item.suffix in _COPIED and item.name not in _LISTS]
    kept = [item for item in files if item.is_file() and not item.is_symlink() and item.stat().st_size <= _LARGEST_COPY]
    return {item.name: item.read_bytes() for item in kept}


@dataclass(frozen=True)
class FolderSource:
    """Writes a network back as a folder: weights in `model.safetensors`, in the precision that they had, and `files`.

    `module` is the network as it was before it was traced; `prefix` stands before each name in a file of timm's wrapper.
    """

    module: nn.Module
    files: Mapping[str, bytes]
    precision: torch.dtype
    prefix: str = ""

    @property
    def suffix(self) -> str:
        """Nothing: a folder has no ending."""
        return ""

    def write(self, network: nn.Module, path: Path) -> None:
        """Write the folder; its own library opens it.

        Raises:
            UnwritableOutput: it cannot be written there.
        """
        module = self.rebuild(network)
        with replacing_folder(path) as folder:
            if hasattr(module, "save"):
                module.to(self.precision).save(folder)
            else:
                state = {f"{self.prefix}{name}": self._stored(value) for name, value in module.state_dict().items()}
                Checkpoint(state, is_safetensors=True, metadata={"format": "pt"}).write(folder / _WEIGHTS[0])
            for name, content in self.files.items():
                (folder / name).write_bytes(content)

    def _stored(self, value: Tensor) -> Tensor:
        value = value.to(self.precision) if value.is_floating_point() else value
        return value.detach().cpu().clone(memory_format=torch.contiguous_format)

    def rebuild(self, network: nn.Module) -> Any:
        """Return a copy of the network's own module, filled with its weights."""
        return rebuild_module(self.module, network)
