"""JSON that says a thing twice is refused, at any depth."""

import pytest

from goodnet.formats.json_texts import read_json


def test_what_json_says() -> None:
    assert read_json(b'{"a": [1, {"b": null}], "c": "d"}') == {"a": [1, {"b": None}], "c": "d"}


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"x": {"a": 1, "b": 2, "a": 3}}]'])
def test_a_key_twice(text: str) -> None:
    with pytest.raises(ValueError, match="stands twice"):
        read_json(text)
