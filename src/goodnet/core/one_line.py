"""Somebody else's words on one line that can be printed, with their cause."""

from __future__ import annotations

import re

#: Letters that are shown.
_MOST = 300
_GAP = " ... "
#: Bold and coloured letters, for a terminal.
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def one_line(text: str) -> str:
    """Return an error's text on one line, without what does not print.

    A long text loses its middle: libraries begin with what they were doing, and end with the cause.
    """
    words = " ".join(_STYLE.sub("", text).split())
    line = "".join(letter for letter in words if letter.isprintable())
    if len(line) <= _MOST:
        return line
    kept = (_MOST - len(_GAP)) // 2
    return f"{line[:kept]}{_GAP}{line[-kept:]}"


#: How torch says that a CPU's memory is full; it has no class of its own for that, and oneDNN gives no reason.
_NO_MEMORY = ("can't allocate memory", "could not create a primitive", "std::bad_alloc")
#: How a library in Rust (PyO3) ends where Python has no memory for a new object; its class cannot be imported.
_PANIC, _NO_OBJECT = "PanicException", "PyObject pointer is null"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that this machine has too little memory."""
    if isinstance(error, RuntimeError):
        return any(words in str(error) for words in _NO_MEMORY)
    return isinstance(error, MemoryError) or (type(error).__name__ == _PANIC and _NO_OBJECT in str(error))


def describe_error(error: BaseException) -> str:
    """Return what an exception says, on one line; the name of its class where it says nothing."""
    if is_out_of_memory(error):
        return "out of memory"
    return one_line(str(error)) or type(error).__name__
