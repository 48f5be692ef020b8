"""Methods that other packages bring are found everywhere: in the catalogue, in --help, by the verbs and in a bench."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import goodnet as library
from goodnet import catalog
from goodnet.core.errors import InvalidOption, UnknownMethod
from goodnet.evaluation.bench_spec import MethodSpec
from goodnet.formats.arrays import write_hdf5
from goodnet.scanners.last_layer import LastLayer

#: How the planted network's file is read.
WEIGHTS = ("--architecture", "tests.data.twin_network:build")
CODE = '''
from pydantic import Field

from goodnet.core.method import Scanner
from goodnet.core.results import Detection


class LookAway(Scanner):
    """Finds nothing, whatever there is. It is a test.

    **Source** none. **Needs** nothing.
    """

    rounds: int = Field(3, ge=1, description="how often")

    def examine(self, classifier, clean, *, seed, **_):
        return Detection("clean", (0.0,) * classifier.classes, float(self.rounds), reason="it looked away")


class Misnamed(LookAway):
    pass


NUMBER = 3
'''
ENTRIES = """
[goodnet.scanners]
look-away = look_away:LookAway
other_word = look_away:Misnamed
number = look_away:NUMBER
absent = no_such_module:Thing
last_layer = look_away:LookAway

[goodnet.guards]
look_away = look_away:LookAway
"""


def make_wheel(folder: Path) -> Path:
    """Write a package as the wheel that a build makes of it."""
    path, meta = folder / "look_away-1.0-py3-none-any.whl", "look_away-1.0.dist-info"
    files = {
        "look_away.py": CODE,
        f"{meta}/METADATA": "Metadata-Version: 2.1\nName: look-away\nVersion: 1.0\n",
        f"{meta}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{meta}/entry_points.txt": ENTRIES,
    }
    files[f"{meta}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{meta}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder into which pip has installed the package."""
    folder = tmp_path_factory.mktemp("brought")
    wheel, target = make_wheel(folder), folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", target, wheel]
    subprocess.run([*map(str, command), "--disable-pip-version-check"], check=True)
    return target


def forget() -> None:
    catalog.names.cache_clear()
    catalog._brought.cache_clear()
    sys.modules.pop("look_away", None)


@pytest.fixture
def installed(site, monkeypatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    forget()
    yield
    monkeypatch.undo()
    forget()


@pytest.mark.usefixtures("installed")
def test_it_is_in_the_catalogue_beside_goodnet_s_own():
    names = catalog.names("scanners")
    assert {"look_away", "ensemble", "neural_cleanse"} <= set(names)
    assert list(names) == sorted(names)
    assert "look_away" not in catalog.own_names("scanners")
    assert catalog.find("scanners", "look-away").__module__ == "look_away"


@pytest.mark.usefixtures("installed")
def test_help_names_it_and_its_options(goodnet):
    listed = goodnet("scan", "--help").out
    assert re.search(r"^  look_away +Finds nothing, whatever there is$", listed, flags=re.MULTILINE)
    assert "last_layer " in listed
    assert "method 'absent' of look-away does not load" in " ".join(listed.split())
    assert "--rounds INTEGER  " in goodnet("scan", "--method", "look_away", "--help").out


@pytest.mark.usefixtures("installed")
def test_the_verbs_and_a_bench_take_it(goodnet, planted, tmp_path):
    found = library.scan(planted.classifier, planted.clean, method="look_away", rounds=2)
    assert (found.verdict, found.threshold, found.reason) == ("clean", 2.0, "it looked away")
    assert MethodSpec(method="look_away", options={"rounds": 4}).make("scanners").rounds == 4
    model = planted.classifier.save(tmp_path / f"planted{planted.classifier.suffix}")
    write_hdf5(tmp_path / "clean.h5", planted.clean)
    done = goodnet("scan", model, *WEIGHTS, "--clean", tmp_path / "clean.h5", "--method", "look_away", "--json")
    assert json.loads(done.out)["reason"] == "it looked away"


@pytest.mark.usefixtures("installed")
def test_a_name_that_goodnet_has_stays_goodnet_s():
    assert catalog.find("scanners", "last_layer") is LastLayer


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("family", "word", "reason"),
    [
        ("scanners", "absent", r"'absent' of look-away does not load \(ModuleNotFoundError: .*; update or remove it"),
        ("scanners", "number", "'number' of look-away: expected one of the scanners, got look_away:NUMBER"),
        ("scanners", "other_word", "'other_word' of look-away calls itself 'misnamed'"),
        ("guards", "look_away", "'look_away' of look-away: expected one of the guards"),
    ],
)
def test_what_cannot_be_used_says_whose_it_is(family, word, reason):
    with pytest.raises(UnknownMethod, match=reason):
        catalog.find(family, word)


def test_a_method_may_be_given_as_an_object(planted):
    by_name = library.scan(planted.classifier, planted.clean, method="last_layer", false_alarms=0.2)
    given = library.scan(planted.classifier, planted.clean, method=LastLayer(false_alarms=0.2))
    assert (given.scores, given.verdict, given.threshold) == (by_name.scores, by_name.verdict, by_name.threshold)
    with pytest.raises(
        InvalidOption, match="last_layer: the method has its options already; make it with false_alarms"
    ):
        library.scan(planted.classifier, planted.clean, method=LastLayer(), false_alarms=0.2)
    with pytest.raises(UnknownMethod, match="expected a method of the repairers, or its name, got LastLayer"):
        library.repair(planted.classifier, planted.clean, method=LastLayer())
    with pytest.raises(UnknownMethod, match=r"got the class: write LastLayer\(\)"):
        library.scan(planted.classifier, planted.clean, method=LastLayer)
