"""What is published: two builds are equal, and what they hold works alone in an environment of its own."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import goodnet
from goodnet.core.classifier import Classifier
from goodnet.core.reading import Reading
from goodnet.formats.arrays import write_hdf5
from tests.conftest import BadnetFiles, Finished, make_quadrants

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
#: Any time will do, as long as it is the same one.
_BUILT_AT = "1700000000"
_LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
#: What only an extra brings.
_EXTRAS = (
    "ray",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "onnxruntime",
    "fastapi",
    "starlette",
    "uvicorn",
    "prometheus_client",
)


@dataclass(frozen=True)
class Built:
    """The two files of a build."""

    source: Path
    wheel: Path


def build(tree: Path, folder: Path) -> Built:
    """Build what `make dist` builds."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(tree)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": _BUILT_AT})
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(source, wheel)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(REPOSITORY, tmp_path_factory.mktemp("dist"))


def unpack(built: Built, folder: Path) -> Path:
    with tarfile.open(built.source) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    return tree


def test_who_builds_again_gets_the_same_bytes(built: Built, tmp_path: Path) -> None:
    tree = unpack(built, tmp_path / "tree")
    for path in tree.rglob("*"):
        # Times and permissions, but for what may be executed, are those of whoever cloned.
        path.chmod(path.stat().st_mode & 0o700)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    # The build wrote it; a clone has none.
    (tree / "PKG-INFO").unlink()
    again = build(tree, tmp_path / "dist")
    assert again.wheel.name == built.wheel.name
    assert again.wheel.read_bytes() == built.wheel.read_bytes()
    assert again.source.read_bytes() == built.source.read_bytes()


def test_the_wheel_holds_the_package_and_its_data(built: Built) -> None:
    names = set(zipfile.ZipFile(built.wheel).namelist())
    here = {str(path.relative_to(REPOSITORY / "src")) for path in (REPOSITORY / "src").rglob("*") if path.is_file()}
    here = {name for name in here if "__pycache__" not in name}
    information = f"goodnet-{goodnet.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(information)} == here
    assert {"goodnet/py.typed", "goodnet/cli/help/scan.txt", "goodnet/reports/templates/report.html"} <= names
    assert information + "licenses/LICENSE" in names


def test_the_source_holds_every_page_that_the_readme_links(built: Built, tmp_path: Path) -> None:
    tree = unpack(built, tmp_path)
    links = _LINK.findall((tree / "README.md").read_text(encoding="utf-8"))
    assert "docs/scan.md" in links
    assert [link for link in links if "://" not in link and not (tree / link).is_file()] == []


def test_the_page_on_an_index_has_no_link_that_leads_nowhere_there(built: Built) -> None:
    archive = zipfile.ZipFile(built.wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    message = email.message_from_bytes(archive.read(metadata))
    page = archive.read(metadata).decode("utf-8")
    assert message["Version"] == goodnet.__version__
    assert [link for link in _LINK.findall(page) if "://" not in link] == []
    assert "how the scan decides · figures · glossary · how goodnet is built" in page


def test_licences_and_bill_of_materials(built: Built, tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / ".ci" / "inventory.py"), str(built.wheel), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    licences = {entry["Name"]: entry["License"] for entry in json.loads((tmp_path / "licences.json").read_text())}
    assert licences["goodnet"] == "Apache-2.0"
    assert {"torch", "onnxruntime", "ray", "uvicorn"} <= licences.keys()
    assert not {"pytest", "ruff", "Sphinx"} & licences.keys()
    bill = json.loads((tmp_path / "sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["version"]) == ("CycloneDX", goodnet.__version__)
    assert licences.keys() - {"goodnet"} <= {component["name"] for component in bill["components"]}


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, what it depends on, and no extras."""

    python: Path

    def run(self, *arguments: object, program: str = "goodnet", cwd: Path | None = None) -> Finished:
        command = [str(self.python.with_name(program)), *map(str, arguments)]
        # Nothing of this checkout may stand on the path.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment["COLUMNS"] = "100"
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
        return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("installed") / "environment"
    script = REPOSITORY / ".ci" / "plain_environment.py"
    subprocess.run([sys.executable, str(script), str(built.wheel), str(folder)], check=True, capture_output=True)
    yield Installed(folder / "bin" / "python")
    # Links to what is installed here: shutil removes the links, not what they lead to.
    shutil.rmtree(folder)


def test_goodnet_comes_from_the_wheel_and_nothing_from_an_extra(installed: Installed, tmp_path: Path) -> None:
    code = "import importlib.util as u, goodnet; print(goodnet.__file__); "
    code += f"print([name for name in {_EXTRAS} if u.find_spec(name)])"
    where, extras = installed.run("-c", code, program="python", cwd=tmp_path).out.splitlines()
    assert Path(where).is_relative_to(installed.python.parents[1])
    assert extras == "[]"


def test_the_version(installed: Installed, tmp_path: Path) -> None:
    expected = f"goodnet, version {goodnet.__version__}\n"
    assert installed.run("-m", "goodnet", "--version", program="python", cwd=tmp_path).out == expected
    assert installed.run("--version", cwd=tmp_path).out == expected


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "src" / "goodnet" / "cli" / "help").glob("*.txt")), ids=lambda path: path.stem
)
def test_the_help_of_every_verb(path: Path, installed: Installed, tmp_path: Path) -> None:
    finished = installed.run(*path.stem.split("_"), "--help", cwd=tmp_path)
    assert finished.code == 0, finished.err
    assert finished.out.strip() == path.read_text(encoding="utf-8").strip()


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    write_hdf5(tmp_path / "clean.h5", make_quadrants(60, seed=3, brightness=30))
    return tmp_path / "clean.h5"


def scan_and_compare(installed: Installed, folder: Path, model: Path, clean: Path, **options: str) -> None:
    """The wheel alone finds what this checkout finds."""
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    arguments = ["-m", "goodnet", "scan", model, "--clean", clean, "--method", "max_margin", *words, "--json"]
    finished = installed.run(*arguments, program="python", cwd=folder)
    assert finished.code in (0, 1, 3), finished.err
    expected = goodnet.scan(model, clean, method="max_margin", reading=Reading(**options))  # type: ignore[arg-type]
    answer = json.loads(finished.out)
    assert answer["verdict"] == expected.verdict
    assert answer["scores"] == pytest.approx(expected.scores, rel=1e-3)


def test_a_keras_file_is_scanned_without_extras(
    installed: Installed, badnet: BadnetFiles, tmp_path: Path, clean: Path
) -> None:
    scan_and_compare(installed, tmp_path, badnet.model, clean)


def test_a_torch_file_is_scanned_without_extras(
    installed: Installed, tiny_classifier: Classifier, tmp_path: Path, clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(REPOSITORY / "tests" / "small_networks.py", tmp_path / "my_networks.py")
    monkeypatch.syspath_prepend(tmp_path)
    tiny_classifier.save(tmp_path / "tiny.pt")
    scan_and_compare(installed, tmp_path, tmp_path / "tiny.pt", clean, architecture="my_networks:tiny")


def test_a_verb_whose_extra_is_missing_says_which(installed: Installed, tmp_path: Path) -> None:
    finished = installed.run("serve", "goodnet", cwd=tmp_path)
    assert finished.code == 2
    assert finished.err == "goodnet: serve needs the package uvicorn; install it with: pip install 'goodnet[serve]'\n"


def test_the_first_step_of_the_demo_in_small(installed: Installed, tmp_path: Path) -> None:
    code = "from goodnet import demo; demo.IDENTITIES, demo.TRAINING_IMAGES = 10, 5; demo.make_badnet('demo')"
    finished = installed.run("-c", code, program="python", cwd=tmp_path)
    assert finished.code == 0, finished.err
    assert (tmp_path / "demo" / "models" / "bd_net.h5").is_file()
