"""What a result depends on: the source that made it, and no other."""

import pytest

from goodnet.evaluation import provenance
from goodnet.evaluation.bench_spec import MethodSpec

SOURCES = {
    "goodnet": "import goodnet.api",
    "goodnet.api": "everything",
    "goodnet.method": "from goodnet import catalog\nfrom goodnet.algorithm import step\nimport numpy",
    "goodnet.catalog": "1",
    "goodnet.algorithm": "from goodnet.spec import Spec",
    "goodnet.spec": "2",
}


@pytest.fixture
def hash_of(monkeypatch):
    def run(without=(), **changed):
        sources = SOURCES | {f"goodnet.{name}": text for name, text in changed.items()}
        monkeypatch.setattr(provenance, "_read_source", sources.get)
        return provenance.hash_source.__wrapped__("goodnet.method", without=without)

    return run


@pytest.mark.parametrize("module", ["method", "catalog", "algorithm", "spec"])
def test_whatever_is_imported_counts(hash_of, module):
    assert hash_of(**{module: SOURCES[f"goodnet.{module}"] + "\n3"}) != hash_of()


def test_the_package_that_hands_all_names_on_and_what_is_left_out_do_not(hash_of):
    assert hash_of(api="other") == hash_of()
    left_out = ("goodnet.spec",)
    assert hash_of(left_out, spec="other") == hash_of(left_out) != hash_of()


def test_a_scan_does_not_depend_on_the_repairers(monkeypatch):
    read, seen = provenance._read_source, []
    monkeypatch.setattr(provenance, "_read_source", lambda module: seen.append(module) or read(module))
    module = MethodSpec(method="ensemble").module("scanners")
    without = ("goodnet.evaluation.bench_spec",)
    provenance.hash_source.__wrapped__(module, "goodnet.evaluation.bench_cells", without=without)
    assert {"goodnet.pipelines.scan_ensemble", "goodnet.evidence.judgement", "goodnet.core.classifier"} <= set(seen)
    assert not [name for name in seen if name.startswith(("goodnet.repairers.", "goodnet.cli", "goodnet.api"))]
