"""What a scan costs: against the original schedule, against ART, against the bare network, and as classes grow.

    .venv/bin/python benchmarks/scan.py --data ../shared/data [--out DIR] [--only default --only rate]

Each part runs in a process of its own, one after the other, with this process's OMP_NUM_THREADS, and leaves one JSON file in
--out; what other parts need of it is read from there. Exit code 1 where a bar is missed.

========  ========================================================================================================
default   the default scan of csaw/bd_net.h5, 1,283 labels, from its 50 clean images
original  the original Neural Cleanse (`original_neural_cleanse.py`) on the same, on a sample of labels, scaled
art       Neural Cleanse of adversarial-robustness-toolbox, in a venv that is made here, on a small Keras BadNet
rate      images/s forward + input gradient: the bare network against the inner loops of the scan
gtsrb     the default scan of a small_cnn with 43 classes
growth    the default scan of DeepID with 100, 1,000 and 4,000 classes of rendered faces
========  ========================================================================================================
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from inner_loops import INNER_LOOPS, measure_rates

CLASSES, SAMPLE = 1_283, (0, 500, 1_000)
SECONDS_BAR, MIB_BAR, RATIO_BAR, RATE_BAR, GTSRB_BAR, GROWTH_BAR = 150, 2_048, 200, 0.60, 20, 1.0
SIZES = (100, 1_000, 4_000)
ART_IMAGES, ART_PACKAGES = 64, ("adversarial-robustness-toolbox", "tensorflow-cpu")


def run_default(data: Path, out: Path, seconds: float) -> dict[str, Any]:
    """Scan the contest's lab network as `goodnet scan` does."""
    from goodnet import api

    return _timed_scan(api.load_classifier, data / "csaw/bd_net.h5", data / "csaw/clean_validation_data.h5")


def _timed_scan(load: Callable[[Path], Any], model: Path, clean: Path) -> dict[str, Any]:
    from goodnet import api

    start, cpu = time.perf_counter(), all_processor_time()
    found = api.scan(load(model), clean)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": all_processor_time() - cpu,
        "verdict": found.verdict,
        "targets": [backdoor.target for backdoor in found.suspected],
        "reason": found.reason,
    }


def all_processor_time() -> float:
    """Return the processor seconds of this process and of its workers that have ended."""
    return sum(os.times()[:4])


def run_original(data: Path, out: Path, seconds: float) -> dict[str, Any]:
    """Time the original schedule on `SAMPLE`, at most `seconds` a label."""
    from goodnet import api
    from original_neural_cleanse import invert_label

    loaded = api.load(data / "csaw/bd_net.h5", data / "csaw/clean_validation_data.h5")
    images = loaded.clean.images()
    labels = [asdict(invert_label(loaded.classifier, images, label, seconds=seconds)) for label in SAMPLE]
    return {"seconds": CLASSES * statistics.mean(item["seconds"] for item in labels), "labels": labels}


def run_rate(data: Path, out: Path, seconds: float) -> dict[str, Any]:
    """Measure the inner loops' images/s over the bare network's, in turn, several rounds."""
    networks = {"deepid": (CLASSES, (3, 55, 47)), "small_cnn": (43, (3, 32, 32))}
    return {name: measure_rates(name, *size) for name, size in networks.items()}


def run_gtsrb(data: Path, out: Path, seconds: float) -> dict[str, Any]:
    """Train a small_cnn with a patch trigger on GTSRB, once, and scan it."""
    from goodnet import api
    from goodnet.attacks.badnets import Badnets
    from goodnet.core.reading import Reading
    from goodnet.training import Training

    model, clean = out / "gtsrb_small_cnn.safetensors", data / "gtsrb/test.h5"
    if not model.exists():
        _plant(
            data / "gtsrb",
            "small_cnn",
            Badnets(target=14, rate=0.1, size=4),
            Training(epochs=4, learning_rate=2e-3),
            model,
        )
    return _timed_scan(lambda path: api.load_classifier(path, reading=Reading(architecture="small_cnn")), model, clean)


def _plant(source: Path | str, architecture: str, attack: Any, training: Any, model: Path) -> None:
    """Train a BadNet of ours and write it to `model`."""
    from goodnet import architectures
    from goodnet.datasets.sources import read_parts
    from goodnet.formats.pytorch import from_module
    from goodnet.training import train

    parts = read_parts(source)
    poisoned = attack.poison(parts.train, seed=0).dataset
    torch.manual_seed(0)
    classes, shape = int(parts.train.targets.max()) + 1, parts.train.image_shape
    module = architectures.find(architecture).build(classes=classes, image_shape=shape)
    network = from_module(module, shape, architecture=architecture, suffix=model.suffix)
    train(network, poisoned, training, seed=0)
    network.save(model)


def run_growth(data: Path, out: Path, seconds: float) -> dict[str, Any]:
    """Scan DeepIDs that know more and more people; the exponent is the slope of log seconds over log classes."""
    from goodnet.pipelines.scan_ensemble import ScanEnsemble

    times, cpu_times, verdicts = [], [], []
    for classes in SIZES:
        network, clean = make_recogniser(classes)
        start, cpu = time.perf_counter(), all_processor_time()
        verdicts.append(ScanEnsemble().scan(network, clean, seed=0).verdict)
        times.append(time.perf_counter() - start)
        cpu_times.append(all_processor_time() - cpu)
    exponent = float(np.polyfit(np.log(SIZES), np.log(times), 1)[0])
    return {"classes": SIZES, "seconds": times, "cpu_seconds": cpu_times, "verdicts": verdicts, "exponent": exponent}


def make_recogniser(classes: int) -> tuple[Any, Any]:
    """Return a DeepID that knows `classes` rendered people without training, and 100 clean images.

    Its convolutions are random and the rows of its last layer are the centred features of one picture of each person,
    so that its predictions differ from image to image as a real network's do.
    """
    from goodnet import architectures
    from goodnet.core.dataset import Dataset
    from goodnet.datasets.faces import render_faces
    from goodnet.formats.pytorch import from_module

    torch.manual_seed(0)
    module = architectures.find("deepid").build(classes=classes, image_shape=(3, 55, 47))
    network = from_module(module, (3, 55, 47))
    known, clean = render_faces(classes, 1), render_faces(min(classes, 100), 1, first_image=1)
    with torch.inference_mode():
        parts = torch.from_numpy(known.images).float().div(255).split(64)
        features = torch.cat([network.features(part, "activation_1") for part in parts])
        scales = features.std(dim=0).clamp_min(1e-6)
        rows = torch.nn.functional.normalize((features - features.mean(dim=0)) / scales, dim=1)
    last = network.layer("output").module
    with torch.no_grad():
        last.weight.copy_(20 * rows / scales)
        last.bias.copy_(-(last.weight @ features.mean(dim=0)))
    return network, Dataset.from_arrays(clean.images, clean.labels)


def run_art(data: Path, out: Path, seconds: float) -> dict[str, Any]:
    """Scan one small Keras BadNet (digits, 10 classes) with ART, with its defaults, and with goodnet."""
    from goodnet import api

    model, clean = _make_keras_badnet(out)
    ours = _timed_scan(api.load_classifier, model, clean)
    python = out / "artenv/bin/python"
    try:
        if not python.exists():
            _shell(sys.executable, "-m", "venv", out / "artenv")
            _shell(python, "-m", "pip", "install", "--quiet", *ART_PACKAGES)
        script = Path(__file__).with_name("art_neural_cleanse.py")
        printed = _shell(python, script, model, clean, 4 * seconds, torch.get_num_threads())
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or [str(error)]
        return {"ours": ours, "true_target": 7, "error": lines[-1]}
    art = json.loads(printed.splitlines()[-1])
    finished = (
        art["seconds"] if art["infected"] is not None else art["seconds"] * art["classes"] / (len(art["labels"]) + 1)
    )
    return {"ours": ours, "true_target": 7, "art": art, "art_seconds": finished}


def _make_keras_badnet(out: Path) -> tuple[Path, Path]:
    """Write the network and `ART_IMAGES` clean images; both tools get the same files."""
    from goodnet.attacks.badnets import Badnets
    from goodnet.datasets.sources import read_parts
    from goodnet.formats.keras import from_keras, import_keras
    from goodnet.training import Training, train

    model, clean = out / "digits_badnet.keras", out / "digits_clean.npz"
    parts, layers = read_parts("digits"), import_keras().layers
    import_keras().utils.set_random_seed(0)
    stages = [[layers.Conv2D(width, 3, padding="same", activation="relu"), layers.MaxPool2D()] for width in (12, 24)]
    ending = [layers.Flatten(), layers.Dense(10, activation="softmax")]
    network = from_keras(
        import_keras().Sequential([import_keras().Input((16, 16, 1)), *stages[0], *stages[1], *ending]), ".keras"
    )
    poisoned = Badnets(target=7, size=3, rate=0.1).poison(parts.train, seed=0).dataset
    train(network, poisoned, Training(epochs=15, learning_rate=5e-3), seed=0)
    network.save(model)
    sample = parts.validation.sample(ART_IMAGES, seed=0)
    np.savez(clean, images=sample.images().permute(0, 2, 3, 1).numpy(), labels=sample.targets)
    return model, clean


def _shell(*command: object) -> str:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


PARTS = {
    "default": run_default,
    "original": run_original,
    "art": run_art,
    "rate": run_rate,
    "gtsrb": run_gtsrb,
    "growth": run_growth,
}
Row = tuple[str, str, str, bool | None]


def judge_default(results: dict[str, Any]) -> list[Row]:
    part = results["default"]
    found = f"{part['verdict']}, {part['targets']}"
    return [
        (
            f"default scan, {CLASSES} labels",
            f"{part['seconds']:.0f} s",
            f"<= {SECONDS_BAR} s",
            part["seconds"] <= SECONDS_BAR,
        ),
        ("its peak memory", f"{part['peak_mib']:.0f} MiB", f"<= {MIB_BAR} MiB", part["peak_mib"] <= MIB_BAR),
        ("its verdict and targets", found, "backdoored, [0]", found == "backdoored, [0]"),
    ]


def judge_original(results: dict[str, Any]) -> list[Row]:
    part, ours = results["original"], results.get("default")
    each = "; ".join(f"{x['label']}: {x['seconds']:.0f} s, {x['steps']} steps, {x['ended']}" for x in part["labels"])
    at_least = "at least " if any(x["ended"] == "cap" for x in part["labels"]) else ""
    rows: list[Row] = [
        ("original schedule, labels", each, "", None),
        (f"scaled to {CLASSES} labels", f"{at_least}{part['seconds']:.0f} s", "", None),
    ]
    if ours is not None and ours["threads"] == part["threads"]:
        ratio = part["seconds"] / ours["seconds"]
        rows.append(("original / default scan", f"{at_least}{ratio:.0f}", f">= {RATIO_BAR}", ratio >= RATIO_BAR))
    return rows


def judge_art(results: dict[str, Any]) -> list[Row]:
    part = results["art"]
    ours = part["ours"]
    rows: list[Row] = [
        (
            "digits BadNet (target 7), goodnet",
            f"{ours['seconds']:.1f} s, {ours['verdict']}, {ours['targets']}",
            "",
            None,
        )
    ]
    if "error" in part:
        return [*rows, ("the same, ART", part["error"], "", None)]
    art = part["art"]
    done = "" if art["infected"] is not None else f" (at least, from {len(art['labels'])} of {art['classes']} labels)"
    found = "not finished" if art["infected"] is None else f"infected {art['infected']}"
    versions = ", ".join(f"{name} {version}" for name, version in art["versions"].items())
    rows.append((f"the same, {versions}", f"{part['art_seconds']:.0f} s{done}, {found}", "", None))
    return [*rows, ("ART / goodnet", f"{part['art_seconds'] / ours['seconds']:.0f}", "", None)]


def judge_rate(results: dict[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for name in ("deepid", "small_cnn"):
        part = results["rate"][name]
        for kind in INNER_LOOPS:
            ratio = part[f"{kind}_ratio"]
            by_cpu = f"processor time {part[f'{kind}_cpu_ratio']:.2f}"
            text = f"{part[kind]:.0f} of {part['bare']:.0f} images/s: {ratio:.2f} ({by_cpu})"
            rows.append((f"{name}, inner loop of {kind}", text, f">= {RATE_BAR:.2f}", ratio >= RATE_BAR))
    return rows


def judge_gtsrb(results: dict[str, Any]) -> list[Row]:
    part = results["gtsrb"]
    text = f"{part['seconds']:.1f} s, {part['verdict']}, {part['targets']}"
    return [("GTSRB small_cnn (target 14)", text, f"<= {GTSRB_BAR} s", part["seconds"] <= GTSRB_BAR)]


def judge_growth(results: dict[str, Any]) -> list[Row]:
    part = results["growth"]
    times = ", ".join(f"{n}: {s:.0f} s" for n, s in zip(part["classes"], part["seconds"], strict=True))
    good = part["exponent"] <= GROWTH_BAR
    return [(f"growth, {times}", f"exponent {part['exponent']:.2f}", f"<= {GROWTH_BAR:.1f}", good)]


JUDGES: dict[str, Callable[[dict[str, Any]], list[Row]]] = {
    "default": judge_default,
    "original": judge_original,
    "art": judge_art,
    "rate": judge_rate,
    "gtsrb": judge_gtsrb,
    "growth": judge_growth,
}


def measure_part(part: str, data: Path, out: Path, seconds: float) -> None:
    """Run one part in this process and write its JSON file."""
    load = os.getloadavg()[0]
    result = PARTS[part](data, out, seconds)
    result |= {"threads": torch.get_num_threads(), "load_before": load, "torch": torch.__version__}
    (out / f"{part}.json").write_text(json.dumps(result, indent=2) + "\n")


def run_part(part: str, data: Path, out: Path, seconds: float) -> None:
    """Run one part in a session of its own and add the peak memory of all its processes together."""
    words = ["--data", data, "--out", out, "--cap", seconds, "--part", part]
    peak = 0.0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that nothing is left running.
    with subprocess.Popen([sys.executable, __file__, *map(str, words)], start_new_session=True) as process:
        try:
            while process.poll() is None:
                peak = max(peak, session_mib(process.pid))
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
    if process.returncode:
        sys.exit(f"part '{part}' failed; what is wrong stands above")
    file = out / f"{part}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"peak_mib": peak}, indent=2) + "\n")


def session_mib(session: int) -> float:
    """Return the memory of a session's processes, pages that they share counted once (Linux)."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                total += int(re.search(r"^Pss:\s+(\d+)", (folder / "smaps_rollup").read_text(), re.M)[1])  # type: ignore[index]
        except (OSError, TypeError):
            continue  # It has just ended.
    return total / 1024


def make_table(ran: tuple[str, ...], results: dict[str, Any]) -> tuple[Table, bool]:
    """Return the table of the parts that ran, and whether all bars were kept."""
    threads = sorted({results[part]["threads"] for part in ran})
    table = Table(title=f"scan benchmark, torch {torch.__version__}, {threads} thread(s)", title_justify="left")
    for column in ("what", "measured", "bar", ""):
        table.add_column(column)
    kept = True
    for part in ran:
        for what, measured, bar, good in JUDGES[part](results):
            kept &= good is not False
            table.add_row(what, measured, bar, "" if good is None else "kept" if good else "MISSED")
    return table, kept


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder with csaw/, gtsrb/.")
@click.option("--out", type=click.Path(path_type=Path), help="Where JSON, networks and ART's venv are kept.")
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="Parts to run; default: all.")
@click.option(
    "--cap", default=60.0, show_default=True, help="Seconds for a label of the original; ART gets 4 times that in all."
)
@click.option("--part", type=click.Choice(list(PARTS)), hidden=True)
def main(data: Path, out: Path | None, only: tuple[str, ...], cap: float, part: str | None) -> None:
    if part and out:
        measure_part(part, data, out, cap)
        return
    with tempfile.TemporaryDirectory() as temporary:
        place = (out or Path(temporary)).resolve()
        place.mkdir(parents=True, exist_ok=True)
        ran = only or tuple(PARTS)
        for name in ran:
            run_part(name, data, place, cap)
        results = {name: json.loads(file.read_text()) for name in PARTS if (file := place / f"{name}.json").exists()}
    table, kept = make_table(ran, results)
    Console(width=130).print(table)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
