"""Whether weights are those of an architecture, and if not, what does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from goodnet.architectures import Architecture
from goodnet.formats.checkpoints import as_one_line

State = dict[str, Tensor]

#: What averaging and training wrappers count in a buffer of their own, beside the weights.
_COUNTERS = frozenset({"n_averaged", "num_updates", "decay", "step", "initted"})
#: What profilers (thop) leave behind in every layer.
_PROFILES = frozenset({"total_ops", "total_params"})
#: More classes than any network of images has: one for each row of an enormous matrix would take memory without end.
_MOST_CLASSES = 100_000
#: Left-over names that are compared with a missing one, at most.
_COMPARED = 200


@dataclass(frozen=True)
class Fit:
    """What keeps weights from fitting: names that are missing, left over, or not of the expected shape (`wrong`)."""

    missing: list[str]
    extra: list[str]
    wrong: list[str]

    @property
    def exact(self) -> bool:
        """Whether nothing does."""
        return not (self.missing or self.extra or self.wrong)


def compare(weights: Mapping[str, Tensor], module: nn.Module) -> Fit:
    """Compare weights with those of `module`."""
    expected = module.state_dict(keep_vars=True)
    # A parameter that a network uses under two names may lie in the file once, as safetensors writes it.
    present = {id(expected[name]) for name in weights if name in expected}
    return Fit(
        # The counter is missing in older files and in Keras's; nothing is computed from it.
        [n for n, v in expected.items() if id(v) not in present and not n.endswith("num_batches_tracked")],
        [n for n, v in weights.items() if n not in expected and not _is_counter(n, v)],
        [n for n, v in weights.items() if n in expected and not _is_alike(v, expected[n])],
    )


def _is_counter(name: str, value: Tensor) -> bool:
    """Whether no output of a network can depend on a left-over tensor.

    A single number of floating point can be a weight (the slope of a PReLU), unless it goes by a name that is known. One
    whole number is none, as weights are trained.
    """
    known = name in _COUNTERS or name.rpartition(".")[2] in _PROFILES
    return value.numel() == 0 or (
        value.numel() == 1 and (known or not (value.dtype.is_floating_point or value.is_complex()))
    )


def _is_alike(value: Tensor, expected: Tensor) -> bool:
    """Whether a tensor has the expected shape; whole numbers for weights are quantised ones, whose scale lies elsewhere."""
    return value.shape == expected.shape and (value.is_floating_point() or not expected.is_floating_point())


def describe_misfit(fit: Fit, weights: Mapping[str, Tensor], module: nn.Module) -> str:
    """Return in words how many weights do not fit, with one example of what the file has and what is expected."""
    groups = (("missing", fit.missing), ("left over", fit.extra), ("of another shape", fit.wrong))
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in groups if names)
    if fit.missing and fit.extra:
        name, nearest = _nearest(fit.missing, fit.extra[:_COMPARED])
        example = f"the file has '{as_one_line(nearest)}', the architecture expects '{as_one_line(name)}'"
    elif fit.wrong:
        value, expected = weights[fit.wrong[0]], module.state_dict()[fit.wrong[0]]
        example = f"{as_one_line(fit.wrong[0])} {_describe(value, expected)} instead of {_describe(expected, value)}"
    else:
        example = as_one_line(next(iter(fit.missing + fit.extra), "none"))
    return f"{counts}, e.g. {example}"


def _describe(value: Tensor, other: Tensor) -> str:
    shape = str(tuple(value.shape))
    return shape if value.shape != other.shape else f"{str(value.dtype).removeprefix('torch.')} {shape}"


def _nearest(missing: list[str], extra: list[str]) -> tuple[str, str]:
    """Return the first missing name that has a like among the left-over ones, and that one; else the first of each."""
    short = {name[:80]: name for name in reversed(extra)}
    for name in missing[:10]:
        found = difflib.get_close_matches(name[:80], short, n=1)
        if found:
            return name, short[found[0]]
    return missing[0], extra[0]


@dataclass(frozen=True)
class Builds:
    """Networks of one architecture for images (C, H, W), built once for each number of classes."""

    architecture: Architecture
    image_shape: tuple[int, int, int]
    _built: dict[int, nn.Module] = field(default_factory=dict)

    def with_classes(self, classes: int) -> nn.Module:
        """Return the network with so many classes."""
        if classes not in self._built:
            self._built[classes] = self.architecture.build(classes=classes, image_shape=self.image_shape)
        return self._built[classes]

    def fitting(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """Return the network with as many classes as `weights` have: not all files keep the order of the layers."""
        counts = class_counts(weights)
        for classes in counts:
            module = self.with_classes(classes)
            fit = compare(weights, module)
            if fit.missing or not fit.wrong:
                return self.with_classes(counts[0]) if fit.missing else module
        return self.with_classes(counts[0])


def class_counts(weights: Mapping[str, Tensor]) -> list[int]:
    """Return what may be the number of classes, likeliest first: the rows of weight matrices, the last one first."""
    matrices = [value for value in weights.values() if value.ndim == 2] or [v for v in weights.values() if v.ndim > 2]
    counts = dict.fromkeys(int(matrix.shape[0]) for matrix in reversed(matrices))
    return [count for count in counts if 0 < count <= _MOST_CLASSES] or [1]
