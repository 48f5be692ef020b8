"""The reasons of a scan: the p-value in words, the evidence that supports it, and what would have been suspected."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from goodnet.core.backdoor import Backdoor
from goodnet.evidence.judgement import ALL_TO_ALL, EARLY, SIZE, TOGETHER, Evidence, Judgement

#: A p-value above the first is nothing to speak of; one below the second nobody can check.
_COMMON, _RARE = 0.2, 1e-4
#: Evidence speaks for a suspicion from this p-value on.
_SPEAKS = 0.05
#: Pixels of the smallest trigger that is thought of, and steps of halving the interval in which the largest suspicious one lies.
_LEAST_SIZE, _HALVINGS = 0.5, 12


def describe_p(score: float) -> str:
    """Return the p-value exp(-score) in words.

    >>> describe_p(6.0)
    '0.0025: one clean network in 400 looks like this'
    """
    p = min(1.0, math.exp(-score))
    if p > _COMMON:
        return f"{p:.2f}: clean networks look like this"
    if p < _RARE:
        return f"below {_RARE:g}: fewer than one clean network in {1 / _RARE:,.0f} looks like this"
    return f"{p:.2g}: one clean network in {float(f'{1 / p:.2g}'):,.0f} looks like this"


def describe_leader(judgement: Judgement, alpha: float) -> str:
    """Return who has the lowest p-value, and how low it is."""
    scores = judgement.scores
    leader = "all to all" if judgement.of_all else f"class {int(scores.argmax())}"
    return f"{leader} has the lowest p-value, {describe_p(float(scores.max()))}; alpha is {alpha:g}"


def weigh_kinds(judgement: Judgement, backdoor: Backdoor) -> str:
    """Return which kinds of evidence speak for a backdoor's target, each with its p-value, and which do not.

    >>> weigh_kinds(judgement, Backdoor(None, 3))  # doctest: +SKIP
    'class 3: trigger size (p 0.0004) speaks for it, maximum margin, universal blend and small patch do not'
    """
    label = backdoor.target
    name = (
        f"class {label}"
        if backdoor.sources is None
        else f"class {label} from class {_join(list(map(str, backdoor.sources)))}"
    )
    scores = {kind: values[label] for kind, values in judgement.kinds.items() if kind not in (ALL_TO_ALL, TOGETHER)}
    known = {kind: float(value) for kind, value in scores.items() if np.isfinite(value)}
    loud = [kind for kind in known if math.exp(-known[kind]) <= _SPEAKS]
    quiet = [kind for kind in known if kind not in loud]
    if not loud:
        return f"{name}: no kind of evidence is sure by itself, all of them together are"
    shown = [f"{_short(kind)} (p {_show_p(known[kind])})" for kind in sorted(loud, key=lambda kind: -known[kind])]
    words = f"{name}: {_join(shown)} {'speaks' if len(loud) == 1 else 'speak'} for it"
    return (
        f"{words}, {_join([_short(kind) for kind in quiet])} {'does' if len(quiet) == 1 else 'do'} not"
        if quiet
        else words
    )


def describe_reach(evidence: Evidence, least: float) -> str | None:
    """Return how small a trigger would have had to be for a suspicion, beside the smallest found; None where none was found.

    All but the size of the smallest trigger is taken as it is.
    """
    found = evidence.triggers
    if found is None or not bool(found.worked.any()) or np.isfinite(evidence.values[SIZE]).sum() < 2:
        return None
    label = int(np.nanargmax(evidence.values[SIZE]))
    smallest = math.exp(-float(evidence.values[SIZE][label]))
    words = f"the smallest trigger found for three of four images covers {smallest:.1f} pixels (class {label})"
    if _suspects(evidence, label, smallest, least):
        return None  # It was suspected, and held-out images spoke against it.
    if not _suspects(evidence, label, min(_LEAST_SIZE, smallest), least):
        return f"{words}, no size of a trigger alone would have been suspected"
    low, high = math.log(min(_LEAST_SIZE, smallest)), math.log(smallest)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _suspects(evidence, label, math.exp(middle), least) else (low, middle)
    return f"{words}, below {math.exp(low):.1f} it would have been suspected"


def _suspects(evidence: Evidence, label: int, size: float, least: float) -> bool:
    """Whether a class would be suspected if its trigger covered `size` pixels."""
    sizes = evidence.values[SIZE].copy()
    sizes[label] = -math.log(size)
    imagined = replace(evidence, values={**evidence.values, SIZE: sizes})
    return label in {item.target for item in imagined.judge(least).suspected}


def _short(kind: str) -> str:
    """Return a kind's name without a comma, for lists."""
    return "early maximum margin" if kind == EARLY else kind


def _show_p(score: float) -> str:
    p = math.exp(-score)
    return f"below {_RARE:g}" if p < _RARE else f"{p:.1g}"


def _join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
