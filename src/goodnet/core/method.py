"""The four contracts: a method is a frozen options object with one action."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption
from goodnet.core.repairs import Repair
from goodnet.core.results import Detection
from goodnet.core.task_check import find_doubts, find_fault


class Progress(Protocol):
    """Is told how far a method is; the command line draws a bar from it."""

    def __call__(self, done: int, total: int, /) -> None:
        """Report that `done` of `total` steps are finished."""


def no_progress(done: int, total: int, /) -> None:
    """Report nothing."""


#: Computes one part: takes what all parts share and the part's items last.
PartFunction = Callable[..., tuple[Tensor, ...]]


class RunParts(Protocol):
    """Runs a long computation in parts; where, and what is remembered, is not the method's business.

    `function` stands at the top of a module, and all arguments can be pickled.
    """

    def __call__(
        self,
        stage: str,
        function: PartFunction,
        common: tuple[Any, ...],
        parts: Sequence[tuple[int, ...]],
        progress: Progress = no_progress,
    ) -> list[tuple[Tensor, ...] | None]:
        """Return function(*common, part) for each part, in order; None for those that there was no time for."""


def run_here(
    stage: str,
    function: PartFunction,
    common: tuple[Any, ...],
    parts: Sequence[tuple[int, ...]],
    progress: Progress = no_progress,
) -> list[tuple[Tensor, ...] | None]:
    """Run all parts in this process, one after the other."""
    values: list[tuple[Tensor, ...] | None] = []
    for number, part in enumerate(parts, start=1):
        values.append(function(*common, part))
        progress(sum(map(len, parts[:number])), sum(map(len, parts)))
    return values


class Method(BaseModel, ABC):
    """A method: its fields are its options, and its family's class declares the function that runs it.

    An option is defined only in its field: command line, report and validation read it there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    family: ClassVar[str]
    #: The method's word, where it is not the class name's.
    word: ClassVar[str | None] = None

    @classmethod
    def name(cls) -> str:
        """The method's name on the command line: `word`, or its class name in snake case, which is its file name."""
        return cls.word or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def from_options(cls, **options: Any) -> Self:
        """Make the method; options outside their bounds become one line of `InvalidOption`."""
        try:
            return cls(**options)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or cls.name()
            reason = first["msg"].removeprefix("Value error, ")
            raise InvalidOption(f"{cls.name()}: option '{where}': {reason}, got {first['input']!r}") from error


class Scanner(Method):
    """Classifier -> Detection. A method implements `examine`; `scan` does what is common to all scanners."""

    family: ClassVar[str] = "scanners"

    def scan(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        seed: int,
        run_parts: RunParts = run_here,
        progress: Progress = no_progress,
    ) -> Detection:
        """Decide whether `classifier` carries a backdoor, from clean images alone; `run_parts` does the long work.

        The result is the same in whatever order the images come. Of a network that does not do its task nothing is said
        but that; it is not examined. What the images cannot carry, a verdict or a suspicion, is taken back.

        Raises:
            UnreadableModel: the network's outputs are not finite.
        """
        clean = clean.in_canonical_order()
        fault = find_fault(classifier, clean)
        if fault is not None:
            return Detection.unexamined(classifier.classes, fault)
        found = self.examine(classifier, clean, seed=seed, run_parts=run_parts, progress=progress)
        return found.doubted(find_doubts(clean))

    @abstractmethod
    def examine(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        seed: int,
        run_parts: RunParts = run_here,
        progress: Progress = no_progress,
    ) -> Detection:
        """Return what the method finds in a network that does its task."""


class Repairer(Method):
    """Classifier -> Repair."""

    family: ClassVar[str] = "repairers"
    #: Whether the method works on suspected backdoors; the verbs then scan first.
    needs_suspects: ClassVar[bool] = False

    @abstractmethod
    def repair(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        seed: int,
        progress: Progress = no_progress,
    ) -> Repair:
        """Return repaired networks; `classifier` itself stays as it is."""

    def refuse(self, classifier: Classifier, clean: Dataset) -> None:
        """Raise an `InputError` where the method cannot work on this network or data; the verbs ask before they scan."""
        return

    def refuse_unwritable(self, classifier: Classifier) -> None:
        """Raise `UnwritableOutput` if this method's result for `classifier` cannot be written in its format.

        The verbs check this before any work. Most methods change only weights, and never raise.
        """
        return


class FittedGuard(Protocol):
    """A guard that knows its network."""

    @property
    def threshold(self) -> float:
        """The score above which an input is refused."""

    def scores(self, images: Tensor) -> Tensor:
        """Return (N,) scores, higher is more suspicious, for images (N, C, H, W) float32 in [0, 1]."""


class Guard(Method):
    """Classifier -> a fitted guard."""

    family: ClassVar[str] = "guards"
    #: Whether the method works on suspected backdoors; the verbs then scan first.
    needs_suspects: ClassVar[bool] = False
    #: Whether the method works on a repaired network; the verbs then repair first.
    needs_repaired: ClassVar[bool] = False

    @abstractmethod
    def fit(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        repaired: Classifier | None = None,
        seed: int,
        progress: Progress = no_progress,
    ) -> FittedGuard:
        """Fit the guard to `classifier` on clean images, with what a scan suspects and a repair made of it."""


@dataclass(frozen=True)
class Poisoned:
    """What an attack returns: the poisoned training set and the truth.

    `poisoned_positions` are the positions of `dataset` that carry a trigger.
    """

    dataset: Dataset
    backdoors: tuple[Backdoor, ...]
    poisoned_positions: tuple[int, ...]


class Attack(Method):
    """Dataset -> poisoned Dataset + the true Backdoor."""

    family: ClassVar[str] = "attacks"

    @abstractmethod
    def poison(self, dataset: Dataset, *, seed: int) -> Poisoned:
        """Return `dataset` with poisoned images in it, and the truth about them."""
