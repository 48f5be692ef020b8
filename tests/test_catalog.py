"""A file dropped into a family's folder is in the catalogue."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goodnet import catalog
from goodnet.core.errors import InvalidOption, UnknownMethod
from goodnet.core.method import Scanner

METHOD = '''
from pydantic import Field
from goodnet.core.method import Scanner
from goodnet.core.results import Detection


class {name}(Scanner):
    """Finds nothing."""

    rounds: int = Field(3, ge=1, le=9, description="how often")

    def examine(self, classifier, clean, *, seed, **_):
        return Detection("clean", (), 0.0)
'''


@pytest.fixture
def dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two methods in a second folder of the scanners."""
    (tmp_path / "look_away.py").write_text(METHOD.format(name="LookAway"))
    (tmp_path / "l0_gaze.py").write_text(METHOD.format(name="L0Gaze"))
    package = importlib.import_module("goodnet.scanners")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    catalog.names.cache_clear()
    yield
    catalog.names.cache_clear()
    for word in ("look_away", "l0_gaze"):
        sys.modules.pop(f"goodnet.scanners.{word}", None)
        if hasattr(package, word):
            delattr(package, word)


@pytest.mark.usefixtures("dropped")
def test_a_file_in_the_folder_is_a_method() -> None:
    names = catalog.names("scanners")
    assert {"look_away", "l0_gaze"} <= set(names)
    assert list(names) == sorted(names)


def test_what_methods_of_a_family_share_is_no_method() -> None:
    assert "calibration" not in catalog.names("guards")
    assert "poisoning" not in catalog.names("attacks")
    for name in catalog.names("attacks"):
        assert catalog.find("attacks", name).name() == name


@pytest.mark.usefixtures("dropped")
@pytest.mark.parametrize(
    ("word", "name"), [("look_away", "LookAway"), ("look-away", "LookAway"), ("l0_gaze", "L0Gaze")]
)
def test_a_word_finds_its_class(word: str, name: str) -> None:
    method = catalog.find("scanners", word)
    assert method.__name__ == name
    assert issubclass(method, Scanner)
    assert method.name() == word.replace("-", "_")


@pytest.mark.usefixtures("dropped")
def test_names_do_not_import_the_methods() -> None:
    catalog.names("scanners")
    assert "goodnet.scanners.look_away" not in sys.modules


@pytest.mark.usefixtures("dropped")
@pytest.mark.parametrize("word", ["absent", "LookAway", "_private", "", "__init__", "../look_away", "look_away.py"])
def test_unknown_words_are_answered_with_the_known_ones(word: str) -> None:
    with pytest.raises(UnknownMethod, match=r"among the scanners; known: .*look_away") as caught:
        catalog.find("scanners", word)
    assert repr(word) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("dropped")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rounds": 0}, "look_away: option 'rounds': .*greater than or equal to 1, got 0"),
        ({"rounds": 10}, "option 'rounds': .*less than or equal to 9, got 10"),
        ({"rounds": "many"}, "option 'rounds': .*integer.*, got 'many'"),
        ({"turns": 3}, "look_away: option 'turns': .*, got 3"),
    ],
)
def test_options_outside_their_bounds(options: dict[str, object], words: str) -> None:
    method = catalog.find("scanners", "look_away")
    assert method.from_options(rounds=9) == method(rounds=9)
    with pytest.raises(InvalidOption, match=words) as caught:
        method.from_options(**options)
    assert "\n" not in str(caught.value)
