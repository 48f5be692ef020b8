"""Which files open, are read right, can be scanned and are saved back: a corpus made by the libraries themselves.

    python benchmarks/reach.py --out DIR [--only WORD] [--write docs/formats.md]

Each kind is written by its own library with fresh weights, the last layer changed so that all classes are met. It "opens"
where goodnet reads it with the labels that the network itself gives and no option but those shown; "right" says that the
logits are those of its own library within 1e-4, so range, normalisation and classes are; "scanned" that a scanner gets
through; "saved" that the file that is written back, all weights changed by 2 %, gives the same logits in its own library.
A kind that does not open must end in one line that names it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from goodnet.api.loading import load
from goodnet.api.scanning import scan
from goodnet.core.classifier import Classifier
from goodnet.core.errors import InputError
from goodnet.core.reading import Reading
from reach_corpus import Held, Kind, Outputs, smooth_images, unit
from reach_images import ImageKind, examine_images, image_kinds

#: The largest difference of two logarithms of probabilities that are called equal.
EQUAL = 1e-4
#: The same for weights that were rounded to half precision in between.
ROUNDED = 0.3


@dataclass(frozen=True)
class Row:
    """What became of one kind; `said` is the error's line, "" where there was none."""

    group: str
    name: str
    opens: bool = False
    right: bool = False
    scanned: bool = False
    saved: bool = False
    refused: bool = False
    said: str = ""
    seconds: float = 0.0

    @property
    def reached(self) -> bool:
        """Whether all of it works."""
        return self.opens and self.right and self.scanned and self.saved

    @property
    def as_meant(self) -> bool:
        """Whether it is reached, or refused in the one line that it is to be refused with."""
        return self.reached or self.refused


def examine(kind: Kind, folder: Path) -> Row:
    start = time.perf_counter()
    try:
        held = kind.make(folder)
        path, options = (held, {}) if isinstance(held, Path) else (held.path, dict(held.options))
        row = _use(kind, held, folder) if isinstance(held, Held) else _refuse(kind, path, options)
    except Exception as error:
        row = Row(kind.group, kind.name, said=f"{type(error).__name__}: {error}")
    return Row(**{**asdict(row), "seconds": round(time.perf_counter() - start, 1)})


def _refuse(kind: Kind, path: Path, options: dict[str, object]) -> Row:
    images = smooth_images((3, 32, 32))
    try:
        load(path, (images, np.arange(len(images)) % 4), reading=Reading(**options))  # type: ignore[arg-type]
    except InputError as error:
        line = str(error).removeprefix(f"{path}: ")
        known = "\n" not in line and all(word in line for word in kind.refused or ())
        return Row(kind.group, kind.name, refused=known, said=line)
    return Row(kind.group, kind.name, opens=True)


def _use(kind: Kind, held: Held, folder: Path) -> Row:
    images = smooth_images(held.shape)
    theirs = _logarithms(held.outputs(held.path, unit(images)), held.probabilities)
    steps = {"opens": False, "right": False, "scanned": False, "saved": False}
    said = ""
    try:
        loaded = load(held.path, (images, theirs.argmax(axis=1)), reading=Reading(**held.options))
        steps["opens"] = True
        difference = _difference(loaded.classifier, images, theirs)
        steps["right"] = difference < EQUAL
        said = "" if steps["right"] else f"logits differ by {difference:.2g} with {loaded.classifier.input_range}"
        scan(loaded.classifier, (images, theirs.argmax(axis=1)), method="max_margin", starts=1, steps=2)
        steps["scanned"] = True
        steps["saved"] = _save(loaded.classifier, held, images, folder)
    except InputError as error:
        said = str(error).removeprefix(f"{held.path}: ")
    return Row(kind.group, kind.name, said=said, **steps)


def _save(classifier: Classifier, held: Held, images: npt.NDArray[np.uint8], folder: Path) -> bool:
    changed = classifier.copy()
    with torch.no_grad():
        for parameter in changed.network.parameters():
            parameter.mul_(1.02)
    path = changed.save(folder / "saved" / f"repaired{changed.suffix}")
    theirs = _logarithms(held.outputs(path, unit(images)), held.probabilities)
    reading = Reading(**{**held.options, "key": None, "input_range": changed.input_range})
    again = load(path, (images, theirs.argmax(axis=1)), reading=reading).classifier
    # A file of half precision holds rounded weights: what is read of it again is what its library says.
    return _difference(again, images, theirs) < EQUAL and _difference(changed, images, theirs) < ROUNDED


def _difference(classifier: Classifier, images: npt.NDArray[np.uint8], theirs: Outputs) -> float:
    with torch.no_grad():
        ours = classifier(torch.from_numpy(unit(images))).log_softmax(1).numpy()
    # Where probabilities came, what is far below their rounding says nothing.
    told = theirs > -10
    return float(np.abs(ours - theirs)[told].max() / max(1.0, float(np.abs(theirs[told]).max())))


def _logarithms(outputs: Outputs, probabilities: bool) -> Outputs:
    """Return logarithms of probabilities."""
    values = torch.from_numpy(np.asarray(outputs)).double()
    return (values.clamp_min(1e-30).log() if probabilities else values.log_softmax(1)).float().numpy()


def table(rows: list[Row]) -> str:
    """Return a table in Markdown."""
    marks = {True: "yes", False: "no"}
    lines = [
        "| kind | opens | range and classes right | scanned | saved back equal | note |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        steps = [marks[item] for item in (row.opens, row.right, row.scanned, row.saved)]
        lines.append(f"| {' | '.join([row.name, *([''] * 4 if row.refused else steps), row.said.replace('|', '/')])} |")
    return "\n".join(lines)


def _examine_images(kind: ImageKind, folder: Path) -> dict[str, Any]:
    place = folder / "".join(letter if letter.isalnum() else "_" for letter in kind.name)
    place.mkdir(parents=True, exist_ok=True)
    try:
        return examine_images(kind, place)
    except Exception as error:
        return {"name": kind.name, "right": False, "said": f"{type(error).__name__}: {error}"}


def image_table(rows: list[dict[str, Any]]) -> str:
    """Return a table in Markdown."""
    lines = ["| images | read right | note |", "|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| {row['name']} | {'yes' if row['right'] else 'no'} | {row['said']} |" for row in rows)]
    )


def kinds() -> list[Kind]:
    """Return the corpus; kinds of a library that is not installed say so when they are made."""
    from reach_folders import folder_kinds
    from reach_keras import keras_kinds
    from reach_onnx import onnx_kinds
    from reach_refused import refused_kinds
    from reach_torch import torch_kinds

    return [*torch_kinds(), *folder_kinds(), *onnx_kinds(), *keras_kinds(), *refused_kinds()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="kinds whose group or name holds this")
    parser.add_argument(
        "--write", type=Path, help="a page in Markdown in which the table is put in the place of the old one"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    rows = []
    for number, kind in enumerate(kinds()):
        if options.only not in f"{kind.group} {kind.name}":
            continue
        folder = options.out / f"{number:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        rows.append(examine(kind, folder))
        print(json.dumps(asdict(rows[-1])), flush=True)
    images = [
        _examine_images(kind, options.out / "images") for kind in image_kinds() if options.only in f"Images {kind.name}"
    ]
    text = f"{table(rows)}\n\n{image_table(images)}" if images else table(rows)
    print(text)
    print(
        f"\nreached {sum(row.reached for row in rows)}, refused as meant {sum(row.refused for row in rows)}, of {len(rows)}"
    )
    if options.write:
        _replace_table(options.write, text)


def _replace_table(page: Path, text: str) -> None:
    before, mark, rest = page.read_text(encoding="utf-8").partition("<!-- reach -->\n")
    after = rest.partition("<!-- end -->")
    page.write_text(f"{before}{mark}{text}\n{after[1]}{after[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
