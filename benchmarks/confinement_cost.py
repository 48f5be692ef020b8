"""What it costs to read a network in a confined process: `goodnet inspect` of networks of 100 MiB, with and without.

Prints, for each format, the seconds of computing of all processes and the seconds by the clock, least of three, and the
largest process's memory. Usage: python benchmarks/confinement_cost.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from goodnet.formats.keras import import_keras

ARCHITECTURE = ["--architecture", "confinement_cost:Wide", "--image-shape", "3,32,32"]


class Wide(nn.Module):
    """A network whose weights take 100 MiB."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 16, 3), nn.AvgPool2d(2)
        self.hidden, self.head = nn.Linear(3600, 7280), nn.Linear(7280, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        return self.head(self.hidden(self.pool(self.conv(images)).flatten(1)).relu())


def write_networks(folder: Path) -> None:
    network = Wide().eval()
    state = network.state_dict()
    torch.save(state, folder / "net.pt")
    save_file(state, folder / "net.safetensors")
    names, free = ["images"], {"images": {0: "number"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter without torch.export is to go some day
        torch.onnx.export(
            network,
            (torch.rand(2, 3, 32, 32),),
            folder / "net.onnx",
            dynamo=False,
            input_names=names,
            dynamic_axes=free,
        )
    keras = import_keras()
    layers = [keras.Input((32, 32, 3)), keras.layers.Conv2D(16, 3), keras.layers.AveragePooling2D(2)]
    layers += [keras.layers.Flatten(), keras.layers.Dense(7280, activation="relu"), keras.layers.Dense(10)]
    for ending in ("h5", "keras"):
        keras.Sequential(layers).save(folder / f"net.{ending}")


@dataclass(frozen=True)
class Cost:
    """Seconds of computing and by the clock, and MiB of the largest process."""

    computing: float
    clock: float
    memory: int


def measure(path: Path, option: str) -> Cost:
    how = ARCHITECTURE if path.suffix in (".pt", ".safetensors") else []
    folders = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "goodnet", "inspect", str(path), *how, option]
    # A process of its own: what children have used is counted for all of them together.
    code = f"import resource, subprocess; subprocess.run({command!r}, check=True, stdout=subprocess.DEVNULL); "
    code += "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime, used.ru_maxrss)"
    begun = time.perf_counter()
    told = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    computing, memory = told.stdout.split()
    return Cost(float(computing), time.perf_counter() - begun, int(memory) >> 10)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_networks(Path(folder))
        print("format | computing, s: without, with | by the clock, s: without, with | memory, MiB: without, with")
        for path in sorted(Path(folder).iterdir()):
            rounds = [[measure(path, option) for option in ("--no-confine", "--confine")] for _ in range(3)]
            pairs = [
                [min(getattr(round_[side], part) for round_ in rounds) for side in (0, 1)]
                for part in ("computing", "clock", "memory")
            ]
            print(
                path.suffix, *(f"{without:.1f}, {confined:.1f}" for without, confined in pairs), sep=" | ", flush=True
            )


if __name__ == "__main__":
    main()
