"""Pairs of classes: the smallest trigger that sends the images of one class to another, and leaves all other images alone.

An attacker of one class teaches the network that the trigger does nothing to the others. A trigger that clean networks have
by nature does something to them, too. So it must cover more pixels to leave them alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from goodnet.core.backdoor import Patch
from goodnet.core.classifier import Classifier
from goodnet.core.method import Progress, RunParts, no_progress, run_here
from goodnet.triggers.class_draws import draw_from
from goodnet.triggers.inversion import Aim, Inversions, Schedule, classes_of, descend, join_inversions
from goodnet.triggers.patch_probe import ProbeSchedule, Stamped, patch_at, patterns_of, places_of

#: A trigger that leaves this share of the other images alone is taken to leave them alone.
_LEFT_ALONE = 0.75
#: Images of one class in a batch, and pairs in one part of the work.
_BATCH, _PART = 48, 32


@dataclass(frozen=True)
class PairSchedule:
    """How triggers are sought, with `images` of each class; a class with fewer than `least` is no source.

    They begin with the best of the patches that `probe` slides over images of the source. All pairs get the steps of `first`;
    the `kept` ones whose loss is lowest then those of `deep`, from the beginning. A step's images are as many of the source
    and as many of other classes.
    """

    images: int = 24
    least: int = 8
    probe: ProbeSchedule = field(default_factory=lambda: ProbeSchedule(sides=(5,), images=8))
    first: Schedule = field(default_factory=lambda: Schedule(steps=8, images=4, opacity=0.05))
    kept: int = 8
    deep: Schedule = field(default_factory=lambda: Schedule(steps=80, images=6, opacity=0.05))


@dataclass(frozen=True)
class PairImages:
    """As many images (n, C, H, W) of each of the `sources` (in this order); `predictions` (n,) are their classes."""

    pixels: Tensor
    predictions: Tensor
    sources: tuple[int, ...]

    @classmethod
    def draw(cls, classifier: Classifier, images: Tensor, schedule: PairSchedule, seed: int) -> PairImages:
        """Return images of each class by the network's predictions, drawn from images (n, C, H, W)."""
        images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))]
        predictions = classes_of(classifier, images)
        rows = {label: torch.nonzero(predictions == label).flatten() for label in sorted(set(predictions.tolist()))}
        kept = {label: some[: schedule.images] for label, some in rows.items() if len(some) >= schedule.least}
        chosen = torch.cat([*kept.values(), torch.zeros(0, dtype=torch.int64)])
        return cls(images[chosen], predictions[chosen], tuple(kept))

    def first_of_each(self, count: int) -> PairImages:
        """Return so many images of each source, the first again where it has fewer."""
        rows = [torch.nonzero(self.predictions == source).flatten() for source in self.sources]
        chosen = torch.cat([some[torch.arange(count) % len(some)] for some in rows])
        return PairImages(self.pixels[chosen], self.predictions[chosen], self.sources)

    def of_sources(self, sources: Collection[int]) -> PairImages:
        """Return the images of those sources that are among `sources`."""
        kept = tuple(source for source in self.sources if source in sources)
        rows = torch.isin(self.predictions, torch.tensor(kept))
        return PairImages(self.pixels[rows], self.predictions[rows], kept)

    def only(self, rows: Tensor) -> PairImages:
        """Return those images alone for which `rows` (n,) is true, of the same sources."""
        return PairImages(self.pixels[rows], self.predictions[rows], self.sources)


@dataclass(frozen=True)
class PairAim(Aim):
    """Images of the class `sources` (L,) shall become `targets` (L,), and those of any third class stay what they are."""

    sources: Tensor
    targets: Tensor

    @property
    def _moved(self) -> Tensor:
        return self.predictions.eq(self.sources[:, None])

    @property
    def possible(self) -> Tensor:
        """Whether there are images of the source, (L,)."""
        return self._moved.any(dim=1)

    def draw(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `count` images of the source, and as many of third classes; any images where there are none."""
        moved = self._moved
        left = ~moved & (self.predictions != self.targets[:, None])
        first, rest = (draw_from(some | ~some.any(dim=1, keepdim=True), count, draws) for some in (moved, left))
        return torch.cat([first, rest], dim=1), torch.cat(
            [self.targets[:, None].expand_as(first), self.predictions[rest]], dim=1
        )

    def success(self, right: Tensor) -> Tensor:
        """Return the share of the source's images that are moved, less where too many others do not stay what they are."""
        moved, left = right.float().view(len(right), 2, -1).mean(dim=2).unbind(dim=1)
        return moved * (left / _LEFT_ALONE).clamp(max=1)


def name_pair(number: int, classes: int) -> tuple[int, int]:
    """Return source and target of the pair with this number: source * classes + target."""
    return divmod(number, classes)


@dataclass(frozen=True)
class Choice:
    """The `numbers` of the pairs to look into, and the patch each begins with. `complete`: whether there was time for all."""

    numbers: tuple[int, ...]
    starts: Mapping[int, Patch]
    complete: bool


def choose_pairs(
    classifier: Classifier,
    images: PairImages,
    schedule: PairSchedule,
    *,
    seed: int,
    among: Sequence[int] | None = None,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> Choice:
    """Return the pairs whose loss is lowest after a few steps, or those given as `among` whose source has images.

    Args:
        classifier: the network; its weights stay as they are.
        images: of the classes that may be sources.
        schedule: how many pairs, and for how long.
        seed: of the start values and the draws.
        among: pairs that are known already.
        run_parts: where the work runs.
        progress: called with the number of patterns, then of pairs, that are done.

    Cost: patterns * places * 2 passes forward for each source; pairs * steps * images * 2 (90 * 64 with ten classes) forward and
    backward, unless `among` is given.
    """
    sources = images.sources if among is None else {name_pair(number, classifier.classes)[0] for number in among}
    starts = _probe(classifier, images.of_sources(sources), schedule.probe, run_parts, progress)
    if among is not None:
        return Choice(tuple(number for number in among if number in starts), starts, bool(starts))
    found = _run(classifier, images, list(starts), schedule.first, "first", seed, starts, run_parts, progress)
    losses = {number: float(loss) for part, values in found for number, loss in zip(part, values[3], strict=True)}
    first = sorted(losses, key=losses.__getitem__)[: schedule.kept]
    whole = len(images.sources) * (classifier.classes - 1)
    return Choice(tuple(sorted(first)), starts, len(losses) == whole)


def invert_pairs(
    classifier: Classifier,
    images: PairImages,
    numbers: Sequence[int],
    schedule: Schedule,
    *,
    stage: str,
    seed: int,
    starts: Mapping[int, Patch],
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> Inversions:
    """Return the smallest trigger found for each pair; `labels` of the result are the `numbers`.

    `stage`: what this work is called where it is remembered; `starts`: the patch with which each pair begins. The other arguments
    are those of `choose_pairs`.

    Cost: pairs * steps * images * 2 passes forward and backward.

    Source: T. Gu et al., "BadNets", IEEE Access 2019 (the attack); the inversion is ours, after B. Wang et al., "Neural Cleanse",
    IEEE S&P 2019.
    """
    found = _run(classifier, images, numbers, schedule, stage, seed, starts, run_parts, progress)
    return join_inversions(classifier, [(part, values[:3]) for part, values in found])


def _run(
    classifier: Classifier,
    images: PairImages,
    numbers: Sequence[int],
    schedule: Schedule,
    stage: str,
    seed: int,
    starts: Mapping[int, Patch],
    run_parts: RunParts,
    progress: Progress,
) -> list[tuple[tuple[int, ...], tuple[Tensor, ...]]]:
    """Return what was found for each part of the pairs that there was time for."""
    parts = [tuple(numbers[start : start + _PART]) for start in range(0, len(numbers), _PART)]
    stage = f"pairs_{stage}_{len(numbers)}_{schedule.steps}_{schedule.images}_{seed}"
    found = run_parts(stage, invert_pairs_part, (classifier, images, schedule, seed, starts), parts, progress)
    return [(part, values) for part, values in zip(parts, found, strict=True) if values is not None]


def invert_pairs_part(
    classifier: Classifier,
    images: PairImages,
    schedule: Schedule,
    seed: int,
    starts: Mapping[int, Patch],
    numbers: tuple[int, ...],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return masks, patterns, sizes and losses for the pairs with these `numbers`."""
    size = max(1, _BATCH // schedule.images)
    found = []
    for start in range(0, len(numbers), size):
        batch = numbers[start : start + size]
        sources, targets = torch.tensor([name_pair(number, classifier.classes) for number in batch]).T
        aim = PairAim(images.predictions, sources, targets)
        found.append(descend(classifier, images.pixels, aim, batch, schedule, seed=seed, starts=starts))
    masks, patterns, sizes, losses = (torch.cat(column) for column in zip(*found, strict=True))
    return masks, patterns, sizes, losses


def _probe(
    classifier: Classifier, images: PairImages, schedule: ProbeSchedule, run_parts: RunParts, progress: Progress
) -> Mapping[int, Patch]:
    """Return for each pair the patch that does most to images of its source.

    Patches slide over two images; of each pair the best four patterns are tried on more of them, where they lay best.
    """
    if not images.sources:
        return {}
    channels, height, width = classifier.image_shape
    schedule = schedule.scaled_to(height, width)
    items = [(side, number) for side in schedule.sides for number in range(len(patterns_of(channels, side)))]
    few = images.first_of_each(_SLID)
    common = (classifier, few.pixels, few.predictions, tuple(items), schedule.stride)
    parts = [(item,) for item in range(len(items))]
    stage = f"pairs_patches_{schedule.stride}_{'-'.join(map(str, few.sources))}"
    found = run_parts(stage, slide_over_each, common, parts, progress)
    done = [(item, values[0]) for item, values in zip(items, found, strict=True) if values is not None]
    return _best_patches(classifier, images.first_of_each(schedule.images), done) if done else {}


#: Images of each source over which patches slide, and patterns of each pair that are tried on more.
_SLID, _TRIED = 2, 4


def slide_over_each(
    classifier: Classifier,
    images: Tensor,
    predictions: Tensor,
    items: tuple[tuple[int, int], ...],
    stride: int,
    part: tuple[int, ...],
) -> tuple[Tensor]:
    """Return gain, row and column of the best place of one pattern for each source and target, (3, sources, classes).

    `images` are as many of each source, one source after the other.
    """
    side, number = items[part[0]]
    pattern, places = patterns_of(images.shape[1], side)[number], places_of(images, side, stride)
    stamped = Stamped.of(classifier, images, predictions)
    each = torch.cat([some.cpu() for some in stamped.gains(pattern, places)])
    highest, where = each.view(len(places), -1, _SLID, classifier.classes).mean(dim=2).max(dim=0)
    rows, columns = torch.tensor(places, dtype=torch.float32)[where].unbind(dim=-1)
    return (torch.stack([highest, rows, columns]),)


def _best_patches(
    classifier: Classifier, images: PairImages, found: Sequence[tuple[tuple[int, int], Tensor]]
) -> Mapping[int, Patch]:
    """Return the best patch of each pair, of those that did most to a few images of the source.

    `found`: side and number of each pattern, and gain, row and column of its best place, (3, sources, classes).
    """
    patches = {}
    for row, source in enumerate(images.sources):
        pixels = images.pixels[images.predictions == source]
        stamped = Stamped.of(classifier, pixels, torch.full((len(pixels),), source))
        tried = _tried_patches([(item, values[:, row]) for item, values in found])
        gains = torch.cat([_gain(classifier, stamped, side, number, place) for side, number, place in tried])
        for target, best in enumerate(gains.argmax(dim=0).tolist()):
            if target != source:
                patches[source * classifier.classes + target] = patch_at(classifier, *tried[best])
    return patches


def _tried_patches(found: Sequence[tuple[tuple[int, int], Tensor]]) -> list[tuple[int, int, tuple[int, int]]]:
    """Return side, number and place of the best few patterns of each target, each once; `found` holds (3, classes) each."""
    gains = torch.stack([values[0] for _, values in found])
    first = gains.topk(min(_TRIED, len(found)), dim=0).indices
    patches = set()
    for target in range(gains.shape[1]):
        for item in first[:, target].tolist():
            (side, number), values = found[item]
            patches.add((side, number, (int(values[1, target]), int(values[2, target]))))
    return sorted(patches)


def _gain(classifier: Classifier, stamped: Stamped, side: int, number: int, place: tuple[int, int]) -> Tensor:
    """Return what a patch does on the average, (1, classes)."""
    pattern = patterns_of(classifier.image_shape[0], side)[number]
    return torch.cat([some.mean(dim=1).cpu() for some in stamped.gains(pattern, [place])])
