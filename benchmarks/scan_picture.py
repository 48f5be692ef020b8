"""The picture of docs/scan.md: trigger sizes of a backdoored network and its clean twin, with leads and p-values.

    python benchmarks/scan_picture.py ZOO/pairs/NAME --clean ZOO/data/SET/clean_validation_data.h5 --out docs/scan.png

NAME is a pair of twins of a zoo, its two networks state dicts of one of goodnet's architectures.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import matplotlib
import numpy as np

from goodnet.api.loading import load_both
from goodnet.core.reading import Reading
from goodnet.evidence.judgement import SIZE
from goodnet.evidence.outliers import Scores, lead_score
from goodnet.evidence.usual_leads import USUAL_LEADS
from goodnet.inference.input_range import choose_input_range
from goodnet.pipelines.scan_ensemble import ScanEnsemble
from goodnet.pipelines.scan_rounds import Gathering, split_images

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def sizes_of(folder: Path, clean: Path) -> tuple[Scores, int | None]:
    """Return the pixels of the smallest trigger of each class, and the true target."""
    truth = json.loads((folder / "backdoor.json").read_text())
    model = truth["model"]
    classifier, data = load_both(
        folder / model["file"],
        clean,
        reading=Reading(architecture=model["architecture"], image_shape=tuple(model["image_shape"])),
    )
    classifier = choose_input_range(classifier, data).classifier
    draw = split_images(data.in_canonical_order(), seed=0)
    values = Gathering(ScanEnsemble().schedule, seed=0).gather(classifier, draw.used, draw.more).values[SIZE]
    targets = [item["target"] for item in truth.get("backdoors", [])]
    return np.exp(-values), targets[0] if targets else None


#: Pixels on the axis.
TICKS = (5, 10, 20, 50)


@click.command()
@click.argument("pair", type=click.Path(path_type=Path, exists=True))
@click.option("--clean", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(pair: Path, clean: Path, out: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    for ax, twin, title in zip(axes, ("clean", "poisoned"), ("clean twin", "backdoored network"), strict=True):
        sizes, target = sizes_of(pair / twin, clean)
        known = np.flatnonzero(np.isfinite(sizes))
        order = known[np.argsort(sizes[known])]
        scores = lead_score(-np.log(sizes[known]), usual=USUAL_LEADS[SIZE].mean(len(sizes)))
        colours = ["#b3261e" if label == target else "#5b7083" for label in order]
        ax.bar(range(len(order)), sizes[order], color=colours, width=0.7)
        ax.set_xticks(range(len(order)), [str(label) for label in order], fontsize=8)
        ratio = sizes[order[1]] / sizes[order[0]]
        ax.set_title(f"{title}: second / first = {ratio:.2f}, p = {np.exp(-scores.max()):.2g}", fontsize=10)
        ax.set_xlabel("class, the smallest trigger first")
        ax.set_yscale("log")
        ax.set_yticks(TICKS, list(map(str, TICKS)))
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("size of the trigger in pixels")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
