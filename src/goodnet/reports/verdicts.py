"""Describes a scan's outcome in plain words: one sentence, its meaning, and what it does not prove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: What a page can say of a network: a scan's verdict, or that there is none.
Standing = Literal["backdoored", "inconclusive", "clean", "failed", "not scanned"]


@dataclass(frozen=True)
class Statement:
    """A network's standing in one sentence, the scan's own reasons, and how both are to be read."""

    standing: Standing
    sentence: str
    reasons: tuple[str, ...] = ()
    means: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


_MEANS: dict[str, tuple[str, ...]] = {
    "backdoored": (
        "Images can be turned into these classes far more easily than in a clean network: the mark that a planted trigger "
        "leaves.",
        "Do not use the network as it is. Repair it and measure the repair, guard it, or take a network from a source "
        "that you trust.",
    ),
    "clean": (
        "None of the classes stands out by the evidence that the scan looks for, with the clean images that it was given.",
        "What a network is used for decides whether that is enough; a guard refuses suspicious inputs even so.",
    ),
    "inconclusive": (
        "The scan found too little to call the network backdoored, and too much, or too little to go by, to call it clean.",
        "Treat the network as suspect. More clean images of more classes, or another method, may decide.",
    ),
    "failed": (
        "The scan ended with an error, so there is no verdict. Nothing follows for the network.",
        "The error below says what to change.",
    ),
    "not scanned": (
        "None of these runs asked whether the network carries a backdoor.",
        "goodnet scan MODEL --clean DATA answers that, or says that it cannot.",
    ),
}

_LIMITS: dict[str, tuple[str, ...]] = {
    "backdoored": (
        "It is inferred from the network's behaviour; nobody has seen the attacker's images. A class that is easy to reach "
        "for a natural reason can look the same.",
        "The recovered trigger is one that works. The attacker's own may look different.",
        "Further backdoors may hide behind the one that was found: scan the repaired network again.",
    ),
    "clean": (
        "It is no proof that there is no backdoor. Each method has attacks that it cannot see: triggers that depend on the "
        "image, weak or rare ones, and those made to evade it.",
        "It holds for this file alone, by its hash below, and for the classes that were scanned.",
    ),
    "inconclusive": ("It neither suspects nor clears the network: no use of the network may rest on it.",),
    "failed": ("A failed scan says nothing in either direction.",),
    "not scanned": (
        "A repair that keeps clean accuracy, or a guard that refuses little, does not show that a backdoor is gone or was "
        "ever there.",
    ),
}


def state(standing: Standing, model: str, targets: Sequence[str] = (), reasons: Sequence[str] = ()) -> Statement:
    """Return the statement about `model`; `targets` name the suspected classes, `reasons` are the scan's own.

    The only reason of a scan that failed is the error, with which the sentence ends.
    """
    sentences: dict[Standing, str] = {
        "backdoored": f"{model} is suspected of a backdoor that sends images to {_join(targets)}.",
        "clean": f"No backdoor was found in {model}.",
        "inconclusive": f"Whether {model} carries a backdoor could not be decided.",
        "failed": f"The scan of {model} failed: {'; '.join(reasons)}",
        "not scanned": f"{model} was not scanned, so it is unknown whether it carries a backdoor.",
    }
    shown = () if standing == "failed" else tuple(reasons)
    return Statement(standing, sentences[standing], shown, _MEANS[standing], _LIMITS[standing])


def _join(names: Sequence[str]) -> str:
    if not names:
        return "a class that the record does not name"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
