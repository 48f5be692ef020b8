"""Evidence that was gathered in several rounds, each from other images and other starts: their mean hangs less on chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goodnet.core.backdoor import Patch
from goodnet.core.method import PartFunction, Progress, RunParts, no_progress
from goodnet.evidence.judgement import Evidence
from goodnet.evidence.outliers import Scores
from goodnet.evidence.pair_sizes import PairSizes
from goodnet.evidence.square_margins import average_margins
from goodnet.triggers.inversion import Inversions
from goodnet.triggers.patch_probe import Shares

#: Within this factor of alpha chance would decide: another draw of images, or other starts.
_CLOSE = 10
#: In how many rounds evidence is gathered there, and by how much their seeds differ: one round uses its seed and the next number.
_ROUNDS, _APART = 3, 1000


def is_close(scores: Scores, least: float) -> bool:
    """Whether chance would decide about some class: its score is near `least`, that of alpha."""
    return bool((np.abs(scores - least) <= math.log(_CLOSE)).any())


def kinds_near(first: Evidence, least: float) -> set[str]:
    """Return the kinds of evidence that could decide: one of their scores is near `least`, that of alpha, or above it."""
    kinds = first.judge(least).kinds
    return {kind for kind, scores in kinds.items() if (scores >= least - math.log(_CLOSE)).any()}


def further_seeds(seed: int) -> tuple[int, ...]:
    """Return the seed of each further round."""
    return tuple(seed + _APART * number for number in range(1, _ROUNDS))


def name_round(run_parts: RunParts, seed: int) -> RunParts:
    """Return `run_parts` for the round with this seed, whose parts are remembered under names of their own."""
    return name_stage(run_parts, f"round_{seed}")


def name_stage(run_parts: RunParts, name: str) -> RunParts:
    """Return `run_parts` for work whose parts are remembered under this name besides that of their stage."""

    def run(
        stage: str,
        function: PartFunction,
        common: tuple[Any, ...],
        parts: Sequence[tuple[int, ...]],
        progress: Progress = no_progress,
    ) -> list[tuple[Tensor, ...] | None]:
        return run_parts(f"{stage}_{name}", function, common, parts, progress)

    return run


def describe_rounds(rounds: int) -> str:
    """Return that several rounds were gathered, and why."""
    return f"a p-value was near alpha, so that this rests on the mean of {rounds} rounds of evidence"


def average(rounds: Sequence[Evidence]) -> Evidence:
    """Return the mean of the evidence of several rounds, at least one, on the same network.

    A value is the mean over the rounds that have one for the class, and stays unknown where the first round has none. A kind
    that a further round did not measure again keeps its value.
    Triggers and patches are the best of all rounds, so that what is shown is one that was found. A shift has the geometric
    mean of its sizes, and so has a pair of classes.
    """
    first = rounds[0]
    triggers = [item.triggers for item in rounds if item.triggers is not None]
    patches = [item.patches for item in rounds if item.patches is not None]
    squares = [item.squares for item in rounds if item.squares is not None]
    shifts = [item.shifts for item in rounds if item.shifts is not None]
    return Evidence(
        first.classes,
        {kind: mean_of([item.values[kind] for item in rounds if kind in item.values]) for kind in first.values},
        triggers=keep_smallest(triggers) if triggers else None,
        patches=_keep_strongest(patches) if patches else None,
        squares=average_margins(squares) if squares else None,
        pairs=first.pairs and _average_pairs(first.pairs, rounds),
        shifts=_mean_inversions(shifts) if shifts else None,
        unfinished=first.unfinished,
        rounds=len(rounds),
    )


def _average_pairs(first: PairSizes, rounds: Sequence[Evidence]) -> PairSizes:
    """Return the mean over the rounds that have the same pairs as the first: a student may know too little of one."""
    found = [item.pairs for item in rounds if item.pairs is not None]
    same = [item for item in found if item.triggers.labels == first.triggers.labels]
    triggers = _mean_inversions([item.triggers for item in same])
    return replace(first, triggers=triggers, beside=_geometric_mean([item.beside for item in same]))


def mean_of(values: Sequence[Scores]) -> Scores:
    """Return the mean over what is known of values (classes,) each; NaN where the first is."""
    table = np.stack(values)
    known = np.isfinite(table)
    means: Scores = np.where(known[0], np.where(known, table, 0.0).sum(axis=0) / known.sum(axis=0).clip(1), np.nan)
    return means


def keep_smallest(found: Sequence[Inversions]) -> Inversions:
    """Return, for each label of the first, the smallest trigger; all have the same labels in the same order."""
    best = torch.stack([item.sizes for item in found]).argmin(dim=0)
    rows = torch.arange(len(best))
    return Inversions(
        found[0].labels,
        torch.stack([item.masks for item in found])[best, rows],
        torch.stack([item.patterns for item in found])[best, rows],
        torch.stack([item.sizes for item in found])[best, rows],
        torch.stack([item.worked for item in found]).any(dim=0),
    )


def _mean_inversions(found: Sequence[Inversions]) -> Inversions:
    """Return the smallest triggers, with the geometric mean of each label's sizes; all have the same labels."""
    return replace(keep_smallest(found), sizes=_geometric_mean([item.sizes for item in found]))


def _geometric_mean(sizes: Sequence[Tensor]) -> Tensor:
    """Return the geometric mean of sizes (L,) each."""
    return torch.stack(list(sizes)).log().mean(dim=0).exp()


def _keep_strongest(found: Sequence[Shares]) -> Shares:
    """Return, for each class in any round, the patch that moves the largest share of images."""
    best: dict[int, tuple[float, Patch]] = {}
    for item in found:
        for label, value, patch in zip(item.labels, item.values, item.patches, strict=True):
            if value > best.get(label, (-1.0,))[0]:
                best[label] = value, patch
    values, patches = [value for value, _ in best.values()], [patch for _, patch in best.values()]
    return replace(found[0], labels=tuple(best), values=tuple(values), patches=tuple(patches))
