"""An error's text on one line: the beginning and the cause."""

import pytest

from goodnet.core.one_line import is_out_of_memory, one_line


class PanicException(BaseException):
    """As PyO3's, which every library in Rust has one of."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), True),
        (PanicException("PyObject pointer is null"), True),
        (PanicException("index out of bounds"), False),
        (ValueError("can't allocate memory"), False),
    ],
    ids=repr,
)
def test_too_little_memory_in_the_words_of_each_library(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_short_texts_stay_as_they_are_on_one_line() -> None:
    assert one_line("cannot open\n\n  the file ") == "cannot open the file"
    assert one_line("") == ""
    assert one_line("x" * 300) == "x" * 300


def test_a_long_text_loses_its_middle() -> None:
    text = one_line(f"While reading the layer {'x' * 5000}\nException encountered: unknown option 'groups'")
    assert text.startswith("While reading the layer xxx")
    assert text.endswith("xxx Exception encountered: unknown option 'groups'")
    assert " ... " in text
    assert len(text) in (299, 300)


def test_what_does_not_print_is_left_out() -> None:
    assert one_line('\x1b[1mLayer "a"\x1b[0m failed\x07\x1b') == 'Layer "a" failed'
