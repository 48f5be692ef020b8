"""Small opaque patches, slid over clean images: which classes do they send images of other classes to?

Gradients find a small trigger only where they lead to it; where every class has a patch of its own by nature they end in
that one. Trying patches out costs no gradient, and the same passes serve all classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from goodnet.core.backdoor import Patch
from goodnet.core.classifier import Classifier
from goodnet.core.method import Progress, RunParts, no_progress, run_here
from goodnet.triggers.inversion import classes_of

#: Stamped images in one batch, where the network is fastest.
_BATCH = 128
#: Patterns that are no plain colour: two chequers and random colours.
_RANDOM = 2
#: The gain in log-probability counts a little besides the images that are moved; no patch gains more than this.
_TIE, _MOST_GAIN = 0.01, 20.0


@dataclass(frozen=True)
class ProbeSchedule:
    """Patches of `sides` pixels, laid on `images` images at every `stride`-th place.

    The pixels are those of an image of 32 x 32: on larger images patches and strides grow with them, so that the number of
    places stays the same.
    """

    sides: tuple[int, ...] = (3, 5)
    images: int = 10
    stride: int = 2

    def scaled_to(self, height: int, width: int) -> ProbeSchedule:
        """Return the schedule in pixels of images (height, width), without patches that do not fit into them."""
        unit = max(1, round(min(height, width) / USUAL_SIDE))
        sides = tuple(unit * side for side in self.sides if unit * side <= min(height, width))
        return ProbeSchedule(sides, self.images, unit * self.stride)


#: The image whose pixels the sides of patches are given in.
USUAL_SIDE = 32


@dataclass(frozen=True)
class Probes:
    """The best patch of each class: `shares` (K,) of images of other classes that it moves there, a little more where their
    probability grows besides; `sides` (K,), `rows` (K,), `columns` (K,) where it lies; `patterns` (K,) which one it is.

    `complete`: whether there was time for all patterns.
    """

    shares: Tensor
    sides: Tensor
    rows: Tensor
    columns: Tensor
    patterns: Tensor
    complete: bool = True

    def patch(self, classifier: Classifier, label: int) -> Patch:
        """Return the best patch of a class."""
        side, number, row, column = (
            int(values[label]) for values in (self.sides, self.patterns, self.rows, self.columns)
        )
        return patch_at(classifier, side, number, (row, column))


def patch_at(classifier: Classifier, side: int, number: int, place: tuple[int, int]) -> Patch:
    """Return the square of `side` pixels with the pattern of this number; its upper left pixel lies at `place` (row, column)."""
    (channels, height, width), (row, column) = classifier.image_shape, place
    mask, pattern = torch.zeros(1, height, width), torch.zeros(channels, height, width)
    mask[:, row : row + side, column : column + side] = 1
    pattern[:, row : row + side, column : column + side] = patterns_of(channels, side)[number]
    return Patch(mask, pattern)


def patterns_of(channels: int, side: int) -> Tensor:
    """Return the patterns that are tried, (P, channels, side, side): the corners of the colour cube, chequers, random colours.

    For images of one channel, black, white and grey take the place of the corners.
    """
    if channels == 3:
        colours = torch.tensor(list(product((0.0, 1.0), repeat=3)))
    else:
        colours = torch.tensor([0.0, 1.0, 0.5])[:, None].expand(-1, channels)
    plain = colours[:, :, None, None].expand(-1, -1, side, side)
    places = torch.arange(side)
    chequer = ((places[:, None] + places[None]) % 2).float().expand(1, channels, side, side)
    noise = torch.rand(_RANDOM, channels, side, side, generator=torch.Generator().manual_seed(side))
    return torch.cat([plain, chequer, 1 - chequer, noise])


def probe_patches(
    classifier: Classifier,
    images: Tensor,
    schedule: ProbeSchedule,
    *,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> Probes:
    """Return the patch that moves most images of other classes to each class.

    Args:
        classifier: the network; its weights stay as they are.
        images: clean images (n, C, H, W) in [0, 1], of any class; the first of them are stamped.
        schedule: sizes, images and places.
        run_parts: where the work runs; patterns that there was no time for are left out.
        progress: called with the number of patterns that are done.

    Cost: forward passes alone, for all classes at once: sides * patterns * places * 4, and the other images at the best places.

    Source: ours, after the observation that a planted patch is opaque and small.
    """
    few, (channels, height, width) = images[: schedule.images], classifier.image_shape
    schedule = schedule.scaled_to(height, width)
    items = [(side, number) for side in schedule.sides for number in range(len(patterns_of(channels, side)))]
    common = (classifier, few, classes_of(classifier, few), tuple(items), schedule.stride)
    parts = [(item,) for item in range(len(items))]
    stage = f"patches_{'-'.join(map(str, schedule.sides))}_{schedule.images}_{schedule.stride}"
    found = run_parts(stage, slide_part, common, parts, progress)
    done = [(items[number], value[0]) for number, value in enumerate(found) if value is not None]
    return replace(_best_of(classifier.classes, done), complete=len(done) == len(items))


def _best_of(classes: int, found: Sequence[tuple[tuple[int, int], Tensor]]) -> Probes:
    """Return for each class the best of the patterns; `found` holds (3, classes) each: share, row and column."""
    if not found:
        nowhere = torch.zeros(classes, dtype=torch.int64)
        return Probes(torch.full((classes,), torch.nan), nowhere + 1, nowhere, nowhere, nowhere)
    table = torch.stack([values for _, values in found])
    shares, best = table[:, 0].max(dim=0)
    names = torch.tensor([item for item, _ in found])[best]
    places = table[best, 1:, torch.arange(classes)].long()
    return Probes(shares, names[:, 0], places[:, 0], places[:, 1], names[:, 1])


def places_of(images: Tensor, side: int, stride: int) -> list[tuple[int, int]]:
    """Return the rows and columns at which a patch is laid on images (n, C, H, W): every `stride`-th, and the last."""
    rows, columns = (sorted({*range(0, size - side + 1, stride), size - side}) for size in images.shape[2:])
    return list(product(rows, columns))


def slide_part(
    classifier: Classifier,
    images: Tensor,
    predictions: Tensor,
    items: tuple[tuple[int, int], ...],
    stride: int,
    part: tuple[int, ...],
) -> tuple[Tensor]:
    """Return share, row and column of the best place of one pattern for each class, (3, classes)."""
    side, number = items[part[0]]
    pattern, places = patterns_of(images.shape[1], side)[number], places_of(images, side, stride)
    screen, rest = (Stamped.of(classifier, images[some], predictions[some]) for some in (_SCREEN, _REST))
    sums, counts = screen.score(pattern, places), screen.counts
    if len(rest.pixels):
        kept = torch.unique(sums.topk(min(_KEPT, len(places)), dim=0).indices).tolist()
        places = [places[position] for position in kept]
        sums, counts = sums[kept] + rest.score(pattern, places), counts + rest.counts
    highest, where = (sums / counts.clamp_min(1)).max(dim=0)
    return (torch.stack([highest, *torch.tensor(places, dtype=torch.float32)[where].T]),)


#: A place at which a patch does little to the first images is not tried on the rest: for each class so many places are.
_SCREEN, _REST, _KEPT = slice(0, 4), slice(4, None), 2


@dataclass(frozen=True)
class Stamped:
    """Images to stamp: `pixels` (n, C, H, W); `before` (n, K) log-probabilities of the unstamped images.

    `others` (n, K): whether the network gives the unstamped image another class than the column's.
    """

    classifier: Classifier
    pixels: Tensor
    before: Tensor
    others: Tensor

    @classmethod
    def of(cls, classifier: Classifier, images: Tensor, predictions: Tensor) -> Stamped:
        """Run the network on clean images (n, C, H, W), whose classes are `predictions` (n,)."""
        pixels = images.to(classifier.device)
        others = predictions.to(pixels.device)[:, None] != torch.arange(classifier.classes, device=pixels.device)
        with torch.inference_mode():
            before = classifier(pixels).log_softmax(dim=1) if len(pixels) else others.float()
        return cls(classifier, pixels, before, others)

    @property
    def counts(self) -> Tensor:
        """How many images are of another class than each, (K,)."""
        return self.others.sum(dim=0).cpu()

    def score(self, pattern: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
        """Return how well `pattern` (C, side, side) sends the images to each class from each place, (places, K).

        The sum of `gains` over the images of other classes.
        """
        return torch.cat([(gains * self.others).sum(dim=1).cpu() for gains in self.gains(pattern, places)])

    def gains(self, pattern: Tensor, places: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
        """Yield what `pattern` (C, side, side) does to each image, for some places at a time, (some, n, K).

        It is 1 for the class that an image gets, and a little for the log-probability that a class gains.
        """
        pattern, side = pattern.to(self.pixels.device), pattern.shape[-1]
        step = max(1, _BATCH // len(self.pixels))
        for start in range(0, len(places), step):
            some = places[start : start + step]
            stamped = self.pixels[None].repeat(len(some), 1, 1, 1, 1)
            for position, (row, column) in enumerate(some):
                stamped[position, :, :, row : row + side, column : column + side] = pattern
            yield self._gains(stamped)

    def _gains(self, stamped: Tensor) -> Tensor:
        with torch.inference_mode():
            after = self.classifier(stamped.flatten(0, 1)).log_softmax(dim=1).view(*stamped.shape[:2], -1)
        moved = torch.zeros_like(after, dtype=torch.bool).scatter_(2, after.argmax(dim=2, keepdim=True), True)
        return moved.float() + _TIE * (after - self.before).clamp(-_MOST_GAIN, _MOST_GAIN)


@dataclass(frozen=True)
class Shares:
    """What the best patches of some classes do to images that they were not chosen on.

    `labels` (L,) the classes, `values` (L,) the share of images of other classes that the patch moves there, each of those
    classes counting as much, `patches` (L,); `probes`: the patches of all classes, None where there were too few images.
    """

    labels: tuple[int, ...]
    values: tuple[float, ...]
    patches: tuple[Patch, ...]
    probes: Probes | None = None

    @property
    def complete(self) -> bool:
        """Whether there was time for all patterns."""
        return self.probes is None or self.probes.complete

    def patch_of(self, label: int) -> Patch:
        """Return the patch of one of `labels`."""
        return self.patches[self.labels.index(label)]

    def of(self, label: int) -> float:
        """Return the share of a class; 0 where it is none of `labels`."""
        return self.values[self.labels.index(label)] if label in self.labels else 0.0


def probe_shares(
    classifier: Classifier,
    images: Tensor,
    schedule: ProbeSchedule,
    *,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> Shares:
    """Slide patches over some images, and return the share of the remaining images that the best patch of each class moves.

    They slide over `schedule.images` images, drawn in turn from every class. The remaining images tell of up to 16 classes. Empty
    if there are fewer than 2 * schedule.images images: one image would count for too much.
    """
    if len(images) < 2 * schedule.images:
        return Shares((), (), ())
    images = images[_take_turns(classes_of(classifier, images))]
    probes = probe_patches(classifier, images, schedule, run_parts=run_parts, progress=progress)
    return measure_shares(classifier, images[schedule.images :], probes)


def _take_turns(predictions: Tensor) -> Tensor:
    """Return the positions of images (n,) so that the classes take turns, as long as each has images left."""
    seen: Counter[int] = Counter()
    turns = []
    for position, label in enumerate(predictions.tolist()):
        turns.append((seen[label], position))
        seen[label] += 1
    return torch.tensor([position for _, position in sorted(turns)])


def measure_shares(classifier: Classifier, images: Tensor, probes: Probes) -> Shares:
    """Return what the best patches do to further images (n, C, H, W), for the classes that come first (up to 16).

    Cost: one pass over the images for each of these classes.
    """
    known = torch.nan_to_num(probes.shares, nan=-torch.inf)
    first = [int(label) for label in known.topk(min(_FIRST, len(known))).indices if torch.isfinite(known[label])]
    patches = tuple(probes.patch(classifier, label) for label in first)
    predictions = classes_of(classifier, images)
    values = tuple(
        moved_share(predictions, classes_of(classifier, patch(images)), label)
        for patch, label in zip(patches, first, strict=True)
    )
    return Shares(tuple(first), values, patches, probes)


def moved_share(before: Tensor, after: Tensor, label: int) -> float:
    """Return the mean, over the classes that images (n,) had before, of the share of them that has `label` after.

    Were all images of one class, any patch that turns this one into another would look like a trigger.
    """
    sources = sorted(set(before.tolist()) - {label})
    shares = [float((after[before == source] == label).float().mean()) for source in sources]
    return sum(shares) / len(shares) if shares else 0.0


#: Classes whose best patches are tried on further images.
_FIRST = 16
