"""The house rules that a machine can check."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goodnet import catalog
from goodnet.core.method import Method

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "goodnet"
FILES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "misc", "manager"}
METHODS = [(family, name) for family in catalog.FAMILIES for name in catalog.own_names(family)]


def named(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def test_imports_point_one_way() -> None:
    command = Path(sys.executable).parent / "lint-imports"
    if not command.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([command, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* kept, 0 broken", done.stdout)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_file_is_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = {part for path in FILES for part in path.relative_to(SOURCE).with_suffix("").parts}
    assert len(names) > 20
    assert names.isdisjoint(FORBIDDEN_NAMES)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_the_product_does_not_know_of_the_shared_folder(path: Path) -> None:
    assert not re.search(r"\bshared/data\b|\.\./shared|/work/", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_pickle_is_loaded_and_nothing_is_asserted(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: `assert` is for tests"
        if not isinstance(node, ast.Call):
            continue
        called, options = (
            ast.unparse(node.func),
            {item.arg: ast.unparse(item.value) for item in node.keywords},
        )
        assert called not in ("pickle.load", "pickle.loads", "eval", "exec"), f"line {node.lineno}: {called}"
        if called == "torch.load":
            assert options.get("weights_only") == "True"
        if called == "np.load":
            assert options.get("allow_pickle") == "False"
        if called.endswith("load_model"):
            assert options.get("safe_mode") == "True"


#: Where free keys are the contract: options of methods, which come from a user and stand in a method's own fields, ...
OPTIONS = {
    "api/attacking.py": {"attack.options", "attack.training", "preview_attack.options"},
    "catalog.py": {"make.options"},
    "cli/options.py": {"take_suspects.given", "take_given.given", "take_given.return"},
    "core/results.py": {"Run.options"},
    "evaluation/badnet_files.py": {"AttackUsed.options"},
    "evaluation/bench_records.py": {"CellRecord.options"},
    "evaluation/bench_spec.py": {"MethodSpec.options"},
    "evaluation/zoo_spec.py": {"Group.attack", "Pair.options"},
    "reports/facts.py": {"list_facts.record"},
    "reports/runs.py": {"Recorder.options"},
}
#: ... and what foreign files hold, as it is read, also in a process of its own, from which it comes back as JSON.
FOREIGN = {
    "confinement/answers.py": {"Answer.record"},
    "confinement/reading.py": {"Contents.record"},
    "formats/checkpoint_trees.py": {"build_checkpoint.record"},
    "formats/confined_files.py": {"ConfinedFile.record"},
    "formats/hdf5_trees.py": {"take_tree.return", "write_tree.record"},
    "formats/keras_weights.py": {"WeightsFile.attributes"},
    "formats/onnx_lowering.py": {"Lowering.add.options"},
    "formats/onnx_operators.py": {"find_pads.options"},
    "formats/onnx_trees.py": {"write_graph.record"},
    "formats/preprocessor_files.py": {"read_json.return", "read_timm_rules.config"},
    "formats/transformers_networks.py": {"build_network.config"},
    "formats/plain_pickles.py": {"read_plain_pickle.return"},
}


def annotations(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the public fields, arguments and returned values in a module's code, and how they are typed."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from annotations(node.body, f"{node.name}.")
        elif isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
            yield f"{prefix}{ast.unparse(node.target)}", ast.unparse(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            for item in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                if item.annotation is not None:
                    yield f"{prefix}{node.name}.{item.arg}", ast.unparse(item.annotation)
            if node.returns is not None:
                yield f"{prefix}{node.name}.return", ast.unparse(node.returns)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_dictionary_whose_keys_are_a_secret_passes_between_rooms(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {name for name, kind in annotations(tree.body) if re.search(r"\b(dict|Mapping)\[str, (Any|object)\b", kind)}
    assert found == OPTIONS.get(named(path), set()) | FOREIGN.get(named(path), set())


def test_what_the_test_of_dictionaries_sees() -> None:
    code = """
class Public:
    field: dict[str, Any]
    _own: dict[str, Any]
    def method(self, given: Mapping[str, object], *, other: dict[str, int]) -> list[dict[str, Any]]: ...
class _Private:
    field: dict[str, Any]
async def function(a: dict[str, Any] | None) -> None: ...
"""
    seen = dict(annotations(ast.parse(code).body))
    assert set(seen) == {
        *("Public.field", "Public.method.given", "Public.method.other", "Public.method.return"),
        *("function.a", "function.return"),
    }


@pytest.mark.parametrize(("family", "name"), METHODS, ids=lambda value: value)
def test_every_method_is_described(family: catalog.Family, name: str) -> None:
    method = catalog.find(family, name)
    assert issubclass(method, Method)
    assert method.__module__ == f"goodnet.{family}.{name}"
    text = method.__doc__ or ""
    first = text.strip().splitlines()[0]
    assert len(first) > 10
    for part in ("Source", "Needs"):
        assert re.search(rf"\b{part}\b", text), f"the docstring of {method.__name__} has no '{part}'"


def test_a_defence_cannot_see_the_truth() -> None:
    families: tuple[catalog.Family, ...] = ("scanners", "repairers", "guards")
    modules = [f"goodnet.{family}.{name}" for family in families for name in catalog.own_names(family)]
    assert modules
    truth = ("goodnet.evaluation", "goodnet.attacks")
    assert loaded_by(modules, (*truth, "goodnet.pipelines")) == []
    pipelines = [f"goodnet.pipelines.{path.stem}" for path in (SOURCE / "pipelines").glob("[!_]*.py")]
    assert len(pipelines) >= 3
    assert loaded_by(pipelines, truth) == []
    assert loaded_by(["goodnet.evaluation.planting"], truth), "the test sees nothing"


def test_a_verb_begins_without_what_few_of_them_need() -> None:
    # Each takes half a second or more to import.
    needed_by_few = (
        "matplotlib",
        "onnx",
        "scipy.optimize",
        "scipy.stats",
        "sympy",
        "tensorflow",
        "keras",
        "transformers",
    )
    assert loaded_by(["goodnet.cli.scan"], needed_by_few) == []
    assert loaded_by(["goodnet.scanners.max_margin"], ("scipy.stats",)), "the test sees nothing"


def loaded_by(modules: list[str], prefixes: tuple[str, ...]) -> list[str]:
    """Return the modules with such names that a fresh process holds after it has imported `modules`."""
    code = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print([m for m in sys.modules if m.startswith({prefixes!r})])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return list(ast.literal_eval(done.stdout))
