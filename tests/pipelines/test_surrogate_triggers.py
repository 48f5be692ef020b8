import numpy as np
import torch

from goodnet.core.backdoor import Backdoor, Patch
from goodnet.pipelines.surrogate_triggers import measure_surrogates, stamp_surrogates, vary_trigger


class Bright:
    """Refuses images that are white all over the true patch of the planted network."""

    threshold = 0.99

    def __init__(self, patch):
        self.places = patch.mask[0] > 0.5

    def scores(self, images):
        return images[:, 0, self.places].amin(dim=1)


def test_variants_move_the_patch_or_change_its_colours():
    mask = torch.zeros(1, 8, 12)
    mask[0, 7, 11] = 1
    pattern = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(1))
    variants = vary_trigger(Patch(mask, pattern))
    assert list(variants) == ["as recovered", "moved", "inverse colours", "random colours"]
    image = torch.full((1, 3, 8, 12), 0.5)
    changed = {name: (trigger(image) != 0.5).any(dim=1)[0].nonzero().tolist() for name, trigger in variants.items()}
    assert changed == {
        "as recovered": [[7, 11]],
        "moved": [[1, 2]],
        "inverse colours": [[7, 11]],
        "random colours": [[7, 11]],
    }
    colours = {name: trigger(image) for name, trigger in variants.items()}
    torch.testing.assert_close(colours["moved"][0, :, 1, 2], pattern[:, 7, 11])
    torch.testing.assert_close(colours["inverse colours"][0, :, 7, 11], 1 - pattern[:, 7, 11])


def test_what_is_no_patch_has_no_variants():
    trigger = torch.nn.Identity()
    assert vary_trigger(trigger) == {"as recovered": trigger}


def test_rates_are_of_successful_triggers_on_images_of_other_classes(planted):
    true = planted.backdoor
    stamped = stamp_surrogates(planted.classifier, planted.clean, [true, Backdoor(None, 3)], seed=0)
    predictions = planted.classifier(planted.clean.images()).argmax(dim=1)
    others = int((predictions != true.target).sum())
    assert [item.surrogate for item in stamped] == ["as recovered", "moved", "inverse colours", "random colours"]
    assert all(len(item.images) == len(item.successful) == others for item in stamped)
    for item in stamped:
        expected = planted.classifier(item.images).argmax(dim=1) == true.target
        assert torch.equal(item.successful, expected)

    found = {rate.surrogate: rate for rate in measure_surrogates(Bright(true.trigger), stamped)}
    recovered = found["as recovered"]
    assert recovered.target == true.target
    assert recovered.success.value > 0.95
    assert recovered.refused.n == recovered.success.hits
    assert recovered.refused.value == 1
    assert found["inverse colours"].success.value < 0.2
    if found["moved"].success.hits:
        assert found["moved"].refused.value == 0


def test_a_surrogate_that_never_works_has_no_rate(clean_twin, planted):
    nothing = Patch(torch.zeros(1, 16, 16), torch.zeros(1, 16, 16))
    stamped = stamp_surrogates(clean_twin.classifier, clean_twin.clean, [Backdoor(nothing, 7)], seed=0)
    assert all(
        rate.refused is None and rate.success.hits == 0
        for rate in measure_surrogates(Bright(planted.backdoor.trigger), stamped)
    )


def test_images_that_are_all_of_the_target_leave_nothing_to_stamp(planted):
    predictions = planted.classifier(planted.clean.images()).argmax(dim=1).numpy()
    own = planted.clean.subset(np.flatnonzero(predictions == planted.backdoor.target))
    assert stamp_surrogates(planted.classifier, own, [planted.backdoor], seed=0) == []
