"""Kinds of `reach.py`: weights of PyTorch networks of one's own, of timm and of torchvision."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from goodnet import architectures
from reach_corpus import CLASSES, SMALL, Held, Images, Kind, Outputs, Shape, normalised, run_torch, spread_predictions

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
State = dict[str, Tensor]


class Small(nn.Module):
    """Two convolutions of 8 and 12 channels, `width` times as many; `ending` says what comes out."""

    def __init__(self, classes: int = CLASSES, ending: str = "logits", width: int = 1) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8 * width, 3, stride=2), nn.BatchNorm2d(8 * width)
        self.second = nn.Conv2d(8 * width, 12 * width, 3, stride=2)
        self.fc = nn.Linear(12 * width, classes)
        self.ending = ending

    def logits(self, images: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        hidden = torch.relu(self.norm(self.first(images)))
        return self.fc(torch.relu(self.second(hidden)).mean(dim=(2, 3)))

    def forward(self, images: Tensor) -> Any:
        """Return what `ending` says."""
        logits = self.logits(images)
        return {
            "logits": lambda: logits,
            "softmax": lambda: logits.softmax(1),
            "log_softmax": lambda: nn.functional.log_softmax(logits, 1),
            "sigmoid": logits.sigmoid,
            "tuple": lambda: (logits, logits.mean(1, keepdim=True).expand(-1, 3)),
            "dict": lambda: {"features": logits.repeat(1, 2), "logits": logits},
            "object": lambda: argparse.Namespace(logits=logits),
        }[self.ending]()


def make_small(classes: int) -> nn.Module:
    return Small(classes)


def _ending(ending: str) -> Callable[[int], nn.Module]:
    return lambda classes: Small(classes, ending)


make_softmax, make_log_softmax, make_sigmoid = _ending("softmax"), _ending("log_softmax"), _ending("sigmoid")
make_tuple, make_dict, make_object = _ending("tuple"), _ending("dict"), _ending("object")


def _plain(images: Images) -> Tensor:
    return torch.from_numpy(images)


def _to_unit(images: Tensor) -> Tensor:
    return images


def small_state(feed: Callable[[Tensor], Tensor] = _to_unit) -> State:
    torch.manual_seed(0)
    module = Small()
    spread_predictions(module, module, SMALL, feed)
    return module.state_dict()


def _small_outputs(
    load: Callable[[Path], State], feed: Callable[[Images], Tensor], path: Path, images: Images
) -> Outputs:
    module = Small()
    module.load_state_dict({name: value.float() for name, value in load(path).items()})
    return run_torch(module, feed(images))


def _load(path: Path) -> Any:
    return torch.load(path, weights_only=False)


def _held(path: Path, load: Callable[[Path], State], feed: Callable[[Images], Tensor] = _plain, **options: Any) -> Held:
    options = {"architecture": "reach_torch:make_small", **options}
    return Held(path, partial(_small_outputs, load, feed), options=options)


def _saved(
    name: str, wrap: Callable[[State], Any], unwrap: Callable[[Any], State], folder: Path, **options: Any
) -> Held:
    path = folder / name
    torch.save(wrap(small_state()), path)
    return _held(path, lambda place: unwrap(_load(place)), **options)


def _prefixed(prefix: str) -> tuple[Callable[[State], State], Callable[[State], State]]:
    return (
        lambda state: {f"{prefix}{name}": value for name, value in state.items()},
        lambda state: {name.removeprefix(prefix): value for name, value in state.items()},
    )


def _cast(kind: torch.dtype) -> Callable[[State], State]:
    return lambda state: {n: v.to(kind) if v.is_floating_point() else v for n, v in state.items()}


def _same(content: Any) -> Any:
    return content


def _under(key: str, further: Callable[[State], dict[str, Any]] = lambda _: {}) -> tuple[Any, Any]:
    return (lambda state: {**further(state), key: state}), (lambda content: content[key])


def _optimizer(state: State) -> dict[str, Any]:
    momenta = {i: {"momentum_buffer": torch.zeros_like(value)} for i, value in enumerate(state.values())}
    return {"epoch": 3, "optimizer": {"state": momenta, "param_groups": [{"lr": 0.1, "params": list(momenta)}]}}


def _lightning() -> tuple[Any, Any]:
    wrap, unwrap = _prefixed("model.")
    config = {
        "pytorch-lightning_version": "2.5.0",
        "hyper_parameters": {"lr": 1e-3, "args": argparse.Namespace(width=8)},
    }
    return (lambda state: {**config, "state_dict": wrap(state)}), (lambda content: unwrap(content["state_dict"]))


def _two_networks(folder: Path) -> Held:
    wrap = lambda state: {"net": {n: v * 0.5 if v.is_floating_point() else v for n, v in state.items()}, "ema": state}  # noqa: E731
    return _saved("ema.pt", wrap, lambda content: content["ema"], folder, key="ema")


def _legacy(folder: Path) -> Held:
    path = folder / "old.pth"
    torch.save(small_state(), path, _use_new_zipfile_serialization=False)
    return _held(path, _load)


def _safetensors(kind: torch.dtype, folder: Path) -> Held:
    path = folder / "model.safetensors"
    save_file(_cast(kind)(small_state()), path, metadata={"format": "pt"})
    return _held(path, load_file)


def _dressed(mean: tuple[float, ...], std: tuple[float, ...], bgr: bool, folder: Path) -> Held:
    """Weights whose network was trained on other pixels; nothing in the file says so."""

    def feed(images: Images) -> Tensor:
        fed = normalised(images, mean, std)
        return fed.flip(1) if bgr else fed

    path = folder / "dressed.pth"
    torch.save(small_state(lambda images: feed(images.numpy())), path)
    return _held(path, _load, feed)


def _headed(ending: str, folder: Path) -> Held:
    path, classes = folder / f"{ending}.pth", 1 if ending == "sigmoid" else CLASSES
    torch.manual_seed(0)
    module = Small(classes, ending)
    if classes == CLASSES:
        spread_predictions(module, module.logits, SMALL, _to_unit)
    else:
        with torch.no_grad():
            images = torch.rand(64, *SMALL)
            module.fc.weight.mul_(30)
            module.fc.bias.sub_(module.eval().logits(images).mean())
    torch.save(module.state_dict(), path)

    def outputs(place: Path, images: Images) -> Outputs:
        read = Small(classes)
        read.load_state_dict(_load(place))
        logits = torch.from_numpy(run_torch(read, _plain(images)))
        return (torch.cat([torch.zeros_like(logits), logits], 1) if classes == 1 else logits).numpy()

    return Held(path, outputs, options={"architecture": f"reach_torch:make_{ending}"})


def _named(architecture: str, shape: Shape, folder: Path, feed: tuple[Any, Any] | None = None) -> Held:
    """Weights of a network that goodnet, timm or torchvision makes by name."""
    torch.manual_seed(0)
    build = partial(architectures.find(architecture).build, classes=CLASSES, image_shape=shape)
    mean, std = feed or ((0.0,) * shape[0], (1.0,) * shape[0])
    module = build()
    spread_predictions(module, module, shape, lambda images: normalised(images.numpy(), mean, std))
    path = folder / "weights.pth"
    torch.save(module.state_dict(), path)

    def outputs(place: Path, images: Images) -> Outputs:
        read = build()
        read.load_state_dict(_load(place))
        return run_torch(read, normalised(images, mean, std))

    return Held(path, outputs, shape, {"architecture": architecture})


_WRAPPED: dict[str, tuple[Any, Any]] = {
    "state dict": (_same, _same),
    "state dict of DataParallel": _prefixed("module."),
    "state dict of torch.compile": _prefixed("_orig_mod."),
    "state dict under a wrapper's name": _prefixed("backbone.net."),
    "checkpoint with optimizer": _under("model_state_dict", _optimizer),
    "checkpoint, key net": _under("net"),
    "checkpoint, key model": _under("model"),
    "checkpoint of DeepSpeed, key module": _under("module", lambda _: {"global_steps": 5, "ds_version": "0.16"}),
    "checkpoint with a Namespace of options": _under("state_dict", lambda _: {"args": argparse.Namespace(lr=0.1)}),
    "checkpoint of Lightning": _lightning(),
    "half precision": (_cast(torch.float16), _same),
    "bfloat16": (_cast(torch.bfloat16), _same),
    "double precision": (_cast(torch.float64), _same),
}
_ENDINGS = {
    "checkpoint of Lightning": "last.ckpt",
    "checkpoint, key net": "best.pth.tar",
    "checkpoint, key model": "weights.bin",
}
_DRESSED = {
    "trained on -1..1": ((0.5,) * 3, (0.5,) * 3, False),
    "trained on 0..255": ((0.0,) * 3, (1 / 255,) * 3, False),
    "trained on ImageNet's mean and std": (*IMAGENET, False),
    "trained on CIFAR-10's mean and std": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), False),
    "trained on blue, green, red": ((0.0,) * 3, (1.0,) * 3, True),
}
_TIMM = {
    "resnet18": 64,
    "mobilenetv3_small_050": 64,
    "efficientnet_lite0": 64,
    "convnext_atto": 64,
    "test_vit": 160,
    "ghostnet_050": 64,
    "regnetx_002": 64,
}
_TORCHVISION = {"resnet18": 64, "mobilenet_v2": 64, "efficientnet_b0": 64, "shufflenet_v2_x0_5": 64}


def torch_kinds() -> list[Kind]:
    """Return the kinds of this module."""
    kinds = [
        Kind("PyTorch", name, partial(_saved, _ENDINGS.get(name, "net.pth"), *both)) for name, both in _WRAPPED.items()
    ]
    kinds += [
        Kind("PyTorch", "torch.save before 1.6", _legacy),
        Kind("PyTorch", "several networks, --key ema", _two_networks),
        Kind("PyTorch", "safetensors", partial(_safetensors, torch.float32)),
        Kind("PyTorch", "safetensors, half precision", partial(_safetensors, torch.float16)),
    ]
    kinds += [Kind("Pixels", name, partial(_dressed, *how)) for name, how in _DRESSED.items()]
    heads = ("softmax", "log_softmax", "sigmoid", "tuple", "dict", "object")
    kinds += [Kind("Heads", f"head: {ending}", partial(_headed, ending)) for ending in heads]
    own = {"small_cnn": (3, 32, 32), "preact_resnet18": (3, 32, 32), "vgg": (3, 32, 32), "small_vit": (3, 32, 32)}
    kinds += [Kind("goodnet", f"--architecture {name}", partial(_named, name, shape)) for name, shape in own.items()]
    for library, names in (("timm", _TIMM), ("torchvision", _TORCHVISION)):
        for name, size in names.items():
            make = partial(_named, f"{library}:{name}", (3, size, size), feed=IMAGENET)
            kinds.append(Kind(library, f"--architecture {library}:{name}", make))
    return kinds
