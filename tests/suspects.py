"""What a scan would hand to a guard, without the time that a scan takes."""

from goodnet.core.backdoor import Backdoor
from goodnet.core.results import Rate
from goodnet.triggers.inversion import Schedule, classes_of, invert_triggers


def recover(twin) -> Backdoor:
    """Return the trigger that inversion finds for the planted target on a twin's clean images."""
    return _recover(twin.classifier, twin.clean, twin.backdoor.target)


def _recover(classifier, clean, target) -> Backdoor:
    found = invert_triggers(classifier, clean.images()[:100], [target], Schedule(100, 16), seed=0)
    assert bool(found.worked[0])
    return Backdoor(found.patch(0), target)


def measure_success(classifier, images, patch, target) -> Rate | None:
    """Return how many of the images (n, C, H, W) of other classes the network calls `target` once they carry the trigger.

    What it calls so without the trigger does not count; None where it calls all of them so.
    """
    others = images[classes_of(classifier, images) != target]
    if not len(others):
        return None
    return Rate.of(int((classes_of(classifier, patch(others)) == target).sum()), len(others))
