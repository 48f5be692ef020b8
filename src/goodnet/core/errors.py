"""Every exception that goodnet raises on purpose.

::

    GoodnetError
     ├── InputError              what came in cannot be used; exit code 2
     │    ├── UnreadableModel    a model file that is damaged, unknown, hostile or does not fit
     │    │    ├── UnknownImageSize   weights of an architecture that takes images of several sizes
     │    │    └── CodeInFile     it names what could run as code on loading
     │    ├── UnreadableData     a data file that is damaged, incomplete, empty or out of range
     │    │    └── ImplausibleLabels  labels that the network does not know in any input range
     │    ├── WrongShape         images, labels or layers that do not fit one another
     │    │    └── MixedSizes    pictures of several sizes, of which nobody says what the network takes
     │    ├── UnknownMethod      no such method, layer, architecture
     │    ├── InvalidOption      an option outside its bounds
     │    └── UnwritableOutput   an output path that cannot be written
     └── MethodFailed            the input was fine, the work did not succeed; exit code 3
          └── BudgetSpent        it had too little time

A message is one line: what was expected, what came, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence


class GoodnetError(Exception):
    """Everything that goodnet raises on purpose."""


class InputError(GoodnetError):
    """What came in cannot be used."""


class UnreadableModel(InputError):
    """A model file is damaged, of an unknown kind, hostile, or does not fit its architecture."""


class UnknownImageSize(UnreadableModel):
    """The architecture takes images of several sizes, and nobody says which."""


class CodeInFile(UnreadableModel):
    """A model file names what could run as code when it is loaded; `names` are all that it names and that nobody makes here."""

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class UnreadableData(InputError):
    """A data file is damaged, incomplete, empty, or its values are out of range."""


class ImplausibleLabels(UnreadableData):
    """The network predicts the labels no better than by guessing, in any input range."""


class WrongShape(InputError):
    """Images, labels, classes or layers do not fit one another."""


class MixedSizes(WrongShape):
    """Pictures are of several sizes, and nobody says which one the network takes."""


class UnknownMethod(InputError):
    """No method, layer or architecture has this name, or the network lacks the layer that a method needs."""


class InvalidOption(InputError):
    """An option is outside its bounds, misspelt, or does not go with another."""


class UnwritableOutput(InputError):
    """An output path cannot be written."""


class MethodFailed(GoodnetError):
    """The input was fine, yet the method did not reach a result."""


class BudgetSpent(MethodFailed):
    """The method had too little time for a result."""
