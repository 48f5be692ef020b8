"""pyproject.toml names everything that is imported, with one lower bound each, past the holes that are known."""

import ast
import importlib.util
import sys
import tomllib
from importlib import metadata

import h5py
import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

#: The first version without the holes that others were attacked through (code, other files, memory).
PAST_HOLES = {"torch": "2.10.0", "keras": "3.15.0", "onnx": "1.22.0", "pillow": "12.2.0", "numpy": "1.16.3"} | {
    # Before, nested messages in JSON could end the process (CVE-2025-4565, CVE-2026-0994).
    "protobuf": "6.33.5"
}
#: Of the HDF5 library, which h5py brings along: a heap overflow by a crafted file lies before.
HDF5 = (1, 14, 4)
#: Packages whose modules have another name.
MODULES = {"pillow": "PIL", "scikit-learn": "sklearn", "protobuf": "google"}
#: No module imports them by name: uvicorn and torch's exporter do, and `pair/onnx.py` and `architectures/libraries.py`
#: from a list.
USED_OTHERWISE = {"uvloop", "httptools", "onnxscript", "onnxruntime", "timm", "torchvision"}


#: Extras that `make lowest` leaves out.
OPTIONAL = {"ray", "transformers", "pyarrow", "timm", "torchvision", "cryptography"}


@pytest.fixture(scope="module")
def lowest(repository):
    """The functions of the script that CI gets its lowest versions from."""
    spec = importlib.util.spec_from_file_location("lowest_versions", repository / ".ci" / "lowest_versions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bounds(lowest, repository):
    texts = ((repository / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "constraints.txt"))
    return dict(line.split("==") for line in lowest.lowest_versions(*texts))


def declared(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


PROJECT = """
[project]
dependencies = ["torch>=2.10", "Pillow>=12.2,<14", "uvloop>=0.19; sys_platform != 'win32'"]
[project.optional-dependencies]
onnx = ["onnx_ir>=1.1", "pillow>=12.2"]
dev = ["ruff"]
"""


def test_the_lowest_versions_of_a_project(lowest):
    assert lowest.lowest_versions(PROJECT, "torch==2.13.0\nruff==1.0\n") == [
        "onnx-ir==1.1",
        "pillow==12.2",
        "torch==2.13.0",
        "uvloop==0.19",
    ]


def test_two_bounds_for_one_package(lowest):
    with pytest.raises(ValueError, match=r"pillow: expected one lower bound, got 12\.2 and 12\.1"):
        lowest.lowest_versions(PROJECT.replace('"pillow>=12.2"', '"pillow>=12.1"'), "torch==2.13.0")


@pytest.mark.parametrize("requirement", ["onnx_ir", "onnx_ir<2", "onnx_ir>1.1"])
def test_a_package_without_a_bound(requirement, lowest):
    with pytest.raises(ValueError, match="expected one lower bound, got 0"):
        lowest.lowest_versions(PROJECT.replace("onnx_ir>=1.1", requirement), "torch==2.13.0")


@pytest.mark.parametrize("name", PAST_HOLES)
def test_no_bound_allows_a_version_with_a_known_hole(name, repository):
    (line,) = (
        line for line in declared(repository)["dependencies"] + all_extras(repository) if line.startswith(name + ">")
    )
    bound = line.partition(">=")[2].partition(",")[0]
    assert Version(bound) >= Version(PAST_HOLES[name])


def all_extras(repository):
    return [line for lines in declared(repository)["optional-dependencies"].values() for line in lines]


def test_the_hdf5_library_is_past_its_hole():
    assert h5py.version.hdf5_version_tuple > HDF5


def test_what_is_installed_is_within_the_bounds(bounds):
    for name, bound in bounds.items():
        try:
            assert Version(metadata.version(name)) >= Version(bound), name
        except metadata.PackageNotFoundError:
            assert name in OPTIONAL, f"{name} is not installed"


def imported(path):
    """Return the first words of all modules that a file imports, by statement or by `importlib` with a plain text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {arg.value.partition(".")[0] for arg in node.args if isinstance(arg, ast.Constant)}
    return found


@pytest.fixture(scope="module")
def theirs(repository):
    """The modules of other packages that goodnet imports."""
    found = set().union(*map(imported, (repository / "src").rglob("*.py")))
    return {canonicalize_name(name) for name in found - {"goodnet"} if name not in sys.stdlib_module_names}


def test_everything_that_is_imported_is_declared(bounds, theirs):
    assert {"torch", "onnx-ir", "starlette", "pil"} <= theirs
    assert theirs <= {canonicalize_name(MODULES.get(name, name)) for name in bounds}


def test_everything_that_is_declared_is_used(bounds, theirs):
    assert {name for name in bounds if canonicalize_name(MODULES.get(name, name)) not in theirs} == USED_OTHERWISE
