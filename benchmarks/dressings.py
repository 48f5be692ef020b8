"""A backdoored network and its clean twin in twelve dressings: does the scan give the same verdict and target in each?

    python benchmarks/dressings.py scan FOLDER OUT.jsonl --data DIR   # can be resumed; DIR holds train.h5 and test.h5
    python benchmarks/dressings.py table benchmarks/values/dressings.jsonl [--write docs/formats.md]

The twins are trained once on CIFAR-10, one of them with a white square of 5 x 5 pixels. Their weights are then written as
somebody else would hold them. A dressing that changes the range of the pixels changes the first weights so that the network
stays the same function of the picture. The Hugging Face folder is a network of its own kind, so it has twins of its own,
trained on the same images. Each file is scanned by a command of its own, with no option but the network's name, where the
file holds weights alone. `table` ends with exit code 1 where a verdict is not the right one.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from dressed_networks import LARGER, SIDE, make_softmax, make_transformers
from goodnet import catalog
from goodnet.core.dataset import Dataset
from goodnet.datasets.sources import Parts, read_parts
from goodnet.evaluation.planting import plant
from goodnet.formats.arrays import write_hdf5
from goodnet.training import Training

TARGET, CLASSES, CLEAN = 3, 10, 500
TWINS = ("planted", "clean")
State = dict[str, Tensor]
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def train_twins(folder: Path, parts: Parts, architecture: str, training: Training) -> None:
    """Train what is missing of the twins of an architecture; write their weights and say what they do."""
    for twin in TWINS:
        path = folder / f"{architecture}_{twin}.pt"
        if not path.exists():
            attack = catalog.find("attacks", "badnets").from_options(target=TARGET, rate=0.1, size=5)
            given = attack if twin == "planted" else None
            planted = plant(parts, given, f"dressed_networks:{architecture}", training, seed=1)  # type: ignore[arg-type]
            print(path.name, planted.metrics.by_name(), flush=True)
            torch.save(planted.classifier.to_model().state_dict(), path)


def refeed(state: State, mean: tuple[float, ...], std: tuple[float, ...], *, bgr: bool = False) -> State:
    """Return the weights of the same network for pixels (x - mean) / std, and in another order of the channels."""
    weight, bias = state["first.weight"], state["first.bias"]
    shift = (weight * torch.tensor(mean).reshape(1, 3, 1, 1)).sum(dim=(1, 2, 3))
    fed = weight * torch.tensor(std).reshape(1, 3, 1, 1)
    return {**state, "first.weight": fed.flip(1) if bgr else fed, "first.bias": bias + shift}


def _weights(change: Callable[[State], State], factory: str = "make_plain") -> Callable[[State, Path], list[str]]:
    def write(state: State, folder: Path) -> list[str]:
        torch.save(change(state), folder / "net.pth")
        return [str(folder / "net.pth"), "--architecture", f"dressed_networks:{factory}"]

    return write


def _same(state: State) -> State:
    return state


def _onnx(state: State, folder: Path) -> list[str]:
    from reach_onnx import export

    module = make_softmax(CLASSES).eval()
    module.load_state_dict(state)
    export(module, (3, SIDE, SIDE), folder / "net.onnx", None)
    return [str(folder / "net.onnx")]


def _keras(prepare: Callable[[Any, Any], Any], change: Callable[[State], State]) -> Callable[[State, Path], list[str]]:
    """Return what writes a Keras model that prepares pixels of 0..255 itself."""

    def write(state: State, folder: Path) -> list[str]:
        from goodnet.formats.keras import import_keras

        keras = import_keras()
        images = keras.Input((SIDE, SIDE, 3))
        hidden = prepare(keras, images)
        for layer in _keras_layers(keras, change(state)):
            hidden = layer(hidden)
        keras.Model(images, hidden).save(folder / "net.keras")
        return [str(folder / "net.keras")]

    return write


def _keras_layers(keras: Any, state: State) -> list[Any]:
    """Return the network's layers, filled with its weights."""
    kl, arrays = keras.layers, {name: value.numpy() for name, value in state.items()}
    shapes = ((None, SIDE, SIDE, 3), (None, 15, 15, 48), (None, 15, 15, 48), (None, 7, 7, 72))
    first, norm = kl.Conv2D(48, 3, strides=2), kl.BatchNormalization(epsilon=1e-5)
    second, last = kl.Conv2D(72, 3, strides=2, activation="relu"), kl.Dense(CLASSES, activation="softmax")
    for layer, shape in zip((first, norm, second, last), (*shapes[:3], (None, 72)), strict=True):
        layer.build(shape)
    for layer, name in ((first, "first"), (second, "second")):
        layer.set_weights([arrays[f"{name}.weight"].transpose(2, 3, 1, 0), arrays[f"{name}.bias"]])
    norm.set_weights([arrays[f"norm.{name}"] for name in ("weight", "bias", "running_mean", "running_var")])
    last.set_weights([arrays["fc.weight"].T, arrays["fc.bias"]])
    return [first, norm, kl.ReLU(), second, kl.GlobalAveragePooling2D(), last]


def _hugging_face(state: State, folder: Path) -> list[str]:
    from reach_folders import save_folder

    module = make_transformers(CLASSES).eval()
    module.load_state_dict(state)
    save_folder(module.model, SIDE, folder / "net")
    return [str(folder / "net")]


HALF = ((0.5,) * 3, (0.5,) * 3)
DRESSINGS: dict[str, Callable[[State, Path], list[str]]] = {
    "weights, trained on -1..1": _weights(lambda state: refeed(state, *HALF)),
    "weights, trained on CIFAR-10's mean and std": _weights(lambda state: refeed(state, *CIFAR10)),
    "weights, trained on blue, green, red": _weights(lambda state: refeed(state, (0,) * 3, (1,) * 3, bgr=True)),
    "weights, softmax at the end": _weights(_same, "make_softmax"),
    "weights, log-softmax at the end": _weights(_same, "make_log_softmax"),
    "weights, output an object with .logits": _weights(_same, "make_object"),
    "weights in half precision": _weights(
        lambda state: {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    ),
    "weights, the network scales 48 x 48 down": _weights(_same, "make_resized"),
    "ONNX": _onnx,
    "Hugging Face folder": _hugging_face,
    "Keras, Rescaling to -1..1": _keras(
        lambda keras, images: keras.layers.Rescaling(1 / 127.5, offset=-1)(images), lambda state: refeed(state, *HALF)
    ),
    "Keras, x / 255.": _keras(lambda keras, images: images / 255.0, _same),
}


def scan_file(command: list[str], clean: Path, out: Path) -> dict[str, Any]:
    """Scan by command, with the defaults; return verdict, targets and how the pixels were read."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "goodnet", "scan", *command, "--clean", str(clean), "--out", str(out), "--workers", "1"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode not in (0, 1, 3):
        return {"verdict": done.stderr.strip().splitlines()[-1], "found": None}
    found, run = (json.loads((out / name).read_text()) for name in ("scan.json", "run.json"))
    return {
        "verdict": found["verdict"],
        "found": sorted({item["target"] for item in found["suspected"]}),
        "score": max(score for score in found["scores"] if score is not None),
        "accuracy": found["clean_accuracy"]["value"],
        "read": run["options"]["found"]["input_range"],
        "seconds": round(time.perf_counter() - start),
        "reason": found["reason"],
    }


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--only", default="")
def scan(folder: Path, out: Path, data: Path, only: str) -> None:
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    parts = read_parts(data)
    train_twins(folder, parts, "make_plain", Training(epochs=8, learning_rate=3e-3))
    train_twins(folder, parts, "make_transformers", Training(epochs=6, learning_rate=3e-3))
    clean = _write_clean(folder, parts.validation)
    done = (
        {(r["dressing"], r["twin"]) for r in map(json.loads, out.read_text().splitlines())} if out.exists() else set()
    )
    with out.open("a") as file:
        for number, (dressing, write) in enumerate(DRESSINGS.items()):
            for twin in TWINS:
                if (dressing, twin) not in done and only in dressing:
                    row = _scan(folder / f"{number:02d}_{twin}", folder, write, twin, clean)
                    print(json.dumps({"dressing": dressing, "twin": twin, **row}), file=file, flush=True)


def _write_clean(folder: Path, validation: Dataset) -> dict[int, Path]:
    """Write the defender's images in both sizes."""
    few = validation.sample(CLEAN, seed=0)
    images = nn.functional.interpolate(few.images(), (LARGER, LARGER), mode="bilinear", align_corners=False)
    larger = Dataset.from_arrays((images * 255).round().byte().numpy(), few.targets)
    return {size: write_hdf5(folder / f"clean_{size}.h5", part) for size, part in ((SIDE, few), (LARGER, larger))}


def _scan(place: Path, folder: Path, write: Any, twin: str, clean: dict[int, Path]) -> dict[str, Any]:
    place.mkdir(exist_ok=True)
    architecture = "make_transformers" if write is _hugging_face else "make_plain"
    state = torch.load(folder / f"{architecture}_{twin}.pt", weights_only=True)
    with contextlib.redirect_stdout(io.StringIO()):
        command = write(state, place)
    size = LARGER if command[-1].endswith("make_resized") else SIDE
    return scan_file(command, clean[size], place / "scan")


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--write", type=click.Path(path_type=Path, exists=True))
def table(path: Path, write: Path | None) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lines = ["| form | pixels read as | backdoored network | its clean twin |", "|---|---|---|---|"]
    for dressing in DRESSINGS:
        pair = [next(r for r in rows if (r["dressing"], r["twin"]) == (dressing, twin)) for twin in TWINS]
        lines.append(f"| {dressing} | {pair[0].get('read', '')} | {_words(pair[0])} | {_words(pair[1])} |")
    right = sum(_is_right(row) for row in rows)
    text = "\n".join([*lines, "", f"Right: {right} of {len(rows)}."])
    print(text)
    if write is not None:
        _replace(write, text)
    sys.exit(0 if right == len(rows) == len(TWINS) * len(DRESSINGS) else 1)


def _words(row: dict[str, Any]) -> str:
    return f"{row['verdict']} {', '.join(map(str, row['found'] or []))}".strip()


def _is_right(row: dict[str, Any]) -> bool:
    return _words(row) == (f"backdoored {TARGET}" if row["twin"] == "planted" else "clean")


def _replace(page: Path, text: str) -> None:
    before, mark, rest = page.read_text(encoding="utf-8").partition("<!-- dressings -->\n")
    after = rest.partition("<!-- dressings end -->")
    page.write_text(f"{before}{mark}{text}\n{after[1]}{after[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
