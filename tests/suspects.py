"""What a scan would hand to a guard, without the time that a scan takes."""

from goodnet.core.backdoor import Backdoor
from goodnet.triggers.inversion import Schedule, invert_triggers


def recover(twin) -> Backdoor:
    """Return the trigger that inversion finds for the planted target on a twin's clean images."""
    return _recover(twin.classifier, twin.clean, twin.backdoor.target)


def _recover(classifier, clean, target) -> Backdoor:
    found = invert_triggers(classifier, clean.images()[:100], [target], Schedule(100, 16), seed=0)
    assert bool(found.worked[0])
    return Backdoor(found.patch(0), target)
