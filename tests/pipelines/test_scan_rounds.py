import math

import numpy as np
import torch

from goodnet.core.dataset import Dataset
from goodnet.core.method import run_here
from goodnet.evidence.judgement import ALL_TO_ALL, BLEND, EARLY, MARGIN, PAIR, PATCH, SIZE, Evidence
from goodnet.evidence.pair_sizes import PairSizes
from goodnet.formats.pytorch import from_module
from goodnet.pipelines.scan_rounds import Gathering, choose_inverted, choose_labels, draw_again, split_images
from goodnet.triggers.inversion import Schedule, invert_triggers
from goodnet.triggers.patch_probe import Probes, Shares
from tests.suspects import measure_success

#: The score of an alpha of 0.01.
LEAST = -math.log(0.01)


def gathering(**options):
    return Gathering(Schedule(steps=2, images=4), seed=0, **options)


def linear(classes):
    """Return a network of random weights for images (3, 4, 4), and images."""
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 4, 4), dtype=np.uint8)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, classes))
    return from_module(network, (3, 4, 4)), Dataset.from_arrays(images, np.arange(60) % classes)


def test_of_many_classes_those_with_large_margins_and_some_controls_are_looked_into():
    margins = np.random.default_rng(0).normal(size=(1, 1283))
    labels = choose_labels(margins, seed=0)
    assert len(labels) == len(set(labels)) == 144
    assert set(np.argsort(-margins[0])[:112]) <= set(labels)
    assert choose_labels(margins[:, :150], seed=0) == list(range(150))
    margins[0, 3] = np.nan
    assert 3 not in choose_labels(margins[:, :150], seed=0)


def test_the_kinds_of_evidence_take_turns_to_name_the_classes_that_are_inverted():
    free, faint, patch = np.arange(40.0), -np.arange(40.0), torch.zeros(40)
    free[5], patch[33] = 100.0, 1.0
    faint[[0, 1]] = np.nan
    nowhere = torch.zeros(40, dtype=torch.int64)
    shares = Shares((), (), (), probes=Probes(patch, nowhere, nowhere, nowhere, nowhere))
    chosen = choose_inverted(Evidence(40, {MARGIN: free, BLEND: faint}), shares)
    # Maximum margins name 5, 39, 38 ... 34; the universal blend 2, 3, 4, then who is named already; patches 33, 0, 1 ...
    assert len(chosen) == 20
    assert {5, 39, 38, 37, 2, 3, 4, 33, 0, 1} <= set(chosen)
    assert not set(range(20, 30)) & set(chosen)
    alone = choose_inverted(Evidence(40, {MARGIN: free}), Shares((), (), ()))
    assert alone == sorted([5, *range(21, 40)])


def numbered(count):
    """Return images that can be told from one another."""
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), dtype=np.uint8)
    return Dataset.from_arrays(pixels, np.arange(count) % 10)


def numbers_of(images):
    """Return the numbers of such images."""
    return set((images[:, 0, 0, 0] * 255).round().int().tolist())


def test_further_rounds_draw_other_images_and_none_on_which_triggers_are_tried():
    clean = numbered(250)
    draw = split_images(clean, seed=0)
    again = [draw_again(clean, 0, further) for further in (1000, 2000)]
    used = [numbers_of(images) for images in (draw.used, *(images for images, _ in again))]
    assert [len(some) for some in used] == [106, 106, 106]
    assert len(set(map(frozenset, used))) == 3
    held_out = numbers_of(draw.held_out)
    assert len(held_out) == 54
    for more in (draw.more, *(more for _, more in again)):
        assert numbers_of(more.images()) == set(range(250)) - held_out
    assert not any(some & held_out for some in used)


def test_at_most_480_images_are_drawn_for_pairs_of_classes():
    clean = Dataset.from_arrays(np.zeros((700, 1, 2, 2), dtype=np.uint8), np.arange(700) % 10)
    first, further = split_images(clean, seed=0).more, draw_again(clean, 0, 1000)[1]
    assert len(first) == len(further) == 480
    assert first.positions.tolist() != further.positions.tolist()


def test_with_few_images_further_rounds_use_the_same_ones():
    clean = numbered(30)
    torch.testing.assert_close(draw_again(clean, 0, 1000)[0], split_images(clean, seed=0).used)


def test_a_further_round_looks_into_the_same_classes():
    classifier, clean = linear(230)
    draw = split_images(clean, seed=0)
    first = gathering().gather(classifier, draw.used, draw.more)
    again = Gathering(Schedule(steps=2, images=4), seed=1000)
    further = again.gather_like(first, LEAST, classifier, draw.used, draw.more)
    assert np.isfinite(first.values[MARGIN]).all()
    for kind in (BLEND, SIZE):
        np.testing.assert_array_equal(np.isfinite(first.values[kind]), np.isfinite(further.values[kind]))
    for kind in (EARLY, MARGIN):
        np.testing.assert_array_equal(np.isfinite(first.values[BLEND]), np.isfinite(further.values[kind]))
    # With so many classes squares would cost too much.
    assert first.squares is further.squares is None
    assert not np.allclose(first.values[BLEND], further.values[BLEND], equal_nan=True)


def test_gathered_again_is_the_mean_of_three_rounds(monkeypatch):
    classifier, clean = linear(12)
    draw = split_images(clean, seed=0)
    first = gathering().gather(classifier, draw.used, draw.more)
    rounds, single = [first], Gathering.gather_like

    def gather(self, *given):
        rounds.append(single(self, *given))
        return rounds[-1]

    monkeypatch.setattr(Gathering, "gather_like", gather)
    found = gathering().gather_again(classifier, clean, first, LEAST)
    assert found.rounds == len(rounds) == 3
    np.testing.assert_array_equal(found.values[PATCH], first.values[PATCH])
    for kind in (MARGIN, BLEND, SIZE):
        np.testing.assert_allclose(found.values[kind], np.mean([some.values[kind] for some in rounds], axis=0))
    torch.testing.assert_close(
        found.squares.margins, torch.stack([some.squares.margins for some in rounds]).mean(dim=0)
    )


def stages_of_a_further_round(monkeypatch, decisive):
    """Return the first words of the stages of work in a further round, where the kinds `decisive` could decide."""
    classifier, clean = linear(12)
    draw = split_images(clean, seed=0)
    first, stages = gathering().gather(classifier, draw.used, draw.more), []
    first.pairs = PairSizes(12, first.triggers, first.triggers.sizes)

    def compare_pairs(classifier, images, schedule, *, among, **_):
        stages.append(f"pairs_{among}")
        return first.pairs

    monkeypatch.setattr("goodnet.pipelines.scan_rounds.kinds_near", lambda evidence, least: decisive)
    monkeypatch.setattr("goodnet.pipelines.scan_rounds.compare_pairs", compare_pairs)

    def run_parts(stage, function, common, parts, progress=None):
        stages.append(stage.split("_")[0])
        return run_here(stage, function, common, parts)

    gathering(run_parts=run_parts).gather_like(first, LEAST, classifier, draw.used, draw.more)
    return set(stages)


def test_a_further_round_measures_again_what_is_cheap_or_could_decide(monkeypatch):
    always = {"margins", "blends", "triggers", "squares"}
    assert stages_of_a_further_round(monkeypatch, {BLEND, SIZE}) == always
    assert stages_of_a_further_round(monkeypatch, {ALL_TO_ALL}) == always | {"shifts"}
    assert stages_of_a_further_round(monkeypatch, {PAIR, PATCH}) == always | {f"pairs_{tuple(range(12))}"}


def test_a_round_that_there_was_no_time_for_is_left_out():
    classifier, clean = linear(12)
    draw = split_images(clean, seed=0)
    first = gathering().gather(classifier, draw.used, draw.more)
    late = gathering(run_parts=lambda stage, function, common, parts, progress=None: [None] * len(parts))
    found = late.gather_again(classifier, clean, first, LEAST)
    assert found.rounds == 1
    np.testing.assert_array_equal(found.values[SIZE], first.values[SIZE])


def test_triggers_are_sharpened_for_the_classes_that_are_named_alone(tiny_classifier, tiny_data):
    images = tiny_data.images()[:60]
    loose = Gathering(Schedule(steps=60, images=16, success=0.5, least=0.5), seed=0)
    found = invert_triggers(tiny_classifier, images, range(4), loose.schedule, seed=0)
    sharp = loose.sharpen(tiny_classifier, images, found, {2, 7})
    assert [torch.equal(sharp.masks[row], found.masks[row]) for row in range(4)] == [True, True, False, True]
    before, after = (measure_success(tiny_classifier, images, item.patch(2), 2).value for item in (found, sharp))
    assert after > before
    assert after >= 0.85


def test_what_is_remembered_of_sharpened_triggers_is_not_taken_for_that_of_other_classes(tiny_classifier, tiny_data):
    images, stages = tiny_data.images()[:60], []

    def run_parts(stage, function, common, parts, progress=None):
        stages.append(stage)
        return [function(*common, part) for part in parts]

    loose = Gathering(Schedule(steps=60, images=16, success=0.5, least=0.5), seed=0, run_parts=run_parts)
    found = invert_triggers(tiny_classifier, images, range(4), loose.schedule, seed=0)
    for label in (1, 2):
        loose.sharpen(tiny_classifier, images, found, {label})
    assert len(stages) == len(set(stages)) == 2


def test_parts_of_further_rounds_are_remembered_under_names_of_their_own(monkeypatch):
    monkeypatch.setattr("goodnet.pipelines.scan_rounds.kinds_near", lambda evidence, least: set())
    classifier, clean = linear(12)
    draw = split_images(clean, seed=0)
    stages = []

    def run_parts(stage, function, common, parts, progress=None):
        stages.append(stage)
        return [function(*common, part) for part in parts]

    first = gathering(run_parts=run_parts).gather(classifier, draw.used, draw.more)
    gathering(run_parts=run_parts).gather_again(classifier, clean, first, LEAST)
    assert len(stages) == len(set(stages)) == 14
