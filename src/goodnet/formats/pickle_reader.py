"""A reader of pickles that takes no more memory than they have bytes.

Python's own in C keeps a table as long as the largest number that a pickle names, and makes an array of bytes before it looks
whether they are there.
"""

from __future__ import annotations

import pickle
from typing import Any, ClassVar


class BoundedUnpickler(pickle._Unpickler):
    """Reads a pickle; what it names is looked up by `find_class`, which a subclass must give."""

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("an array of bytes")

    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: _refuse}

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every name.

        Raises:
            UnpicklingError: always.
        """
        raise pickle.UnpicklingError(f"the name {module}.{name}")
