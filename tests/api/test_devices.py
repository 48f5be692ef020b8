"""Where the verbs work, and where a caller's own networks are afterwards.

No GPU is needed: `cpu:0` is the processor under another name, and the places of networks are noted instead of their weights'.
"""

import pytest
import torch

from goodnet import api
from goodnet.core.classifier import Classifier
from goodnet.core.errors import InvalidOption, MethodFailed
from goodnet.core.reading import Reading
from goodnet.devices import CPU
from goodnet.execution import Execution
from goodnet.guards.disagreement import Disagreement
from goodnet.pair.goodnet import GoodNet
from goodnet.repairers.pruning import Pruning
from goodnet.scanners.last_layer import LastLayer

#: Stands for a GPU.
GPU = torch.device("cpu:0")


@pytest.fixture(autouse=True)
def places(monkeypatch):
    """Note where networks are; copies are where their originals are, as the copies of weights would be."""
    monkeypatch.setattr(Classifier, "device", property(lambda self: self.network.meta.get("place", CPU)))

    def move(self, device):
        self.network.meta["place"] = torch.device(device)
        return self

    monkeypatch.setattr(Classifier, "to", move)


@pytest.fixture
def pair(planted):
    repair = Pruning().repair(planted.classifier, planted.clean, seed=0)
    return GoodNet(planted.classifier, repair.classifier)


#: By verb: the method in which it works, and what calls it on a pair of networks.
WORK = {
    "scan": (
        LastLayer,
        "scan",
        lambda twin, pair, where: api.scan(twin.classifier, twin.clean, method="last_layer", where=where),
    ),
    "repair": (
        Pruning,
        "repair",
        lambda twin, pair, where: api.repair(twin.classifier, twin.clean, method="pruning", where=where),
    ),
    "guard": (
        *(Disagreement, "fit"),
        lambda twin, pair, where: api.guard(
            twin.classifier, twin.clean, method="disagreement", repaired=pair.repaired, suspected=[], where=where
        ),
    ),
    "evaluate": (GoodNet, "predict_all", lambda twin, pair, where: api.evaluate(pair, twin.clean, where=where)),
    "evaluate repaired": (
        *(GoodNet, "predict_all"),
        lambda twin, pair, where: api.evaluate(twin.classifier, twin.clean, repaired=[pair.repaired], where=where),
    ),
    "predict": (GoodNet, "predict_all", lambda twin, pair, where: api.predict(pair, twin.clean, where=where)),
}


def watch(monkeypatch, verb, error=None):
    """Return the list in which the places of networks are noted while `verb` works, which `error` then ends."""
    kind, name, _ = WORK[verb]
    work, seen = getattr(kind, name), []

    def noted(self, *args, **kwargs):
        networks = (self.original, self.repaired) if kind is GoodNet else (args[0], kwargs.get("repaired"))
        seen.extend(network.device for network in networks if network is not None)
        if error is not None:
            raise error
        return work(self, *args, **kwargs)

    monkeypatch.setattr(kind, name, noted)
    return seen


@pytest.mark.parametrize("verb", WORK)
@pytest.mark.parametrize(("home", "place"), [(CPU, GPU), (GPU, CPU)])
def test_networks_come_back_from_where_a_verb_works(verb, home, place, planted, pair, monkeypatch):
    seen = watch(monkeypatch, verb)
    pair.original.to(home), pair.repaired.to(home)
    WORK[verb][2](planted, pair, Execution(str(place)))
    assert set(seen) == {place}
    assert (planted.classifier.device, pair.repaired.device) == (home, home)


@pytest.mark.parametrize("verb", WORK)
@pytest.mark.parametrize("error", [MethodFailed("it failed"), KeyboardInterrupt()])
def test_networks_come_back_from_what_fails(verb, error, planted, pair, monkeypatch):
    seen = watch(monkeypatch, verb, error)
    pair.original.to(GPU), pair.repaired.to(GPU)
    with pytest.raises(type(error)):
        WORK[verb][2](planted, pair, Execution("cpu"))
    assert set(seen) == {CPU}
    assert (planted.classifier.device, pair.repaired.device) == (GPU, GPU)


@pytest.mark.parametrize("home", [CPU, GPU])
def test_what_a_repair_made_is_written_from_the_cpu_and_is_where_the_original_was(home, planted, tmp_path, monkeypatch):
    saved, save = [], Classifier.save
    monkeypatch.setattr(Classifier, "save", lambda self, path: saved.append(self.device) or save(self, path))
    api.repair(planted.classifier, planted.clean, method="pruning", out=tmp_path / "cpu", where=Execution(device="cpu"))
    planted.classifier.to(home)
    repair = api.repair(
        planted.classifier, planted.clean, method="pruning", out=tmp_path / "gpu", where=Execution(device=str(GPU))
    )
    assert set(saved) == {CPU}
    assert {network.classifier.device for network in repair.networks} == {home}
    files = [path.relative_to(tmp_path / "cpu") for path in (tmp_path / "cpu").rglob("*.safetensors")]
    assert len(files) == 2 + len(repair.networks)
    for file in files:
        assert (tmp_path / "cpu" / file).read_bytes() == (tmp_path / "gpu" / file).read_bytes()


@pytest.mark.parametrize("home", [CPU, GPU])
def test_a_guards_networks_are_written_from_the_cpu_and_are_where_the_original_was(
    home, planted, tmp_path, monkeypatch
):
    saved, save = [], Classifier.save
    monkeypatch.setattr(Classifier, "save", lambda self, path: saved.append(self.device) or save(self, path))
    planted.classifier.to(home)
    outcome = api.guard(
        *(planted.classifier, planted.clean),
        method="disagreement",
        suspected=[],
        out=tmp_path,
        where=Execution(device=str(GPU)),
    )
    assert set(saved) == {CPU}
    assert (outcome.goodnet.original.device, outcome.goodnet.repaired.device) == (home, home)


def test_a_live_network_on_a_gpu_is_compared_with_one_in_a_file(planted, pair, tmp_path, monkeypatch):
    file = pair.repaired.save(tmp_path / f"repaired{pair.repaired.suffix}")
    made = []
    init = GoodNet.__init__

    def noted(self, original, repaired, **options):
        made.append((original.device, repaired.device))
        init(self, original, repaired, **options)

    monkeypatch.setattr(GoodNet, "__init__", noted)
    planted.classifier.to(GPU)
    api.evaluate(
        planted.classifier,
        planted.clean,
        repaired=[file],
        reading=Reading(architecture="tests.data.twin_network:build"),
    )
    assert made == [(CPU, CPU)]
    assert planted.classifier.device == GPU


@pytest.mark.parametrize("verb", WORK)
def test_no_such_device(verb, planted, pair):
    with pytest.raises(InvalidOption, match="device 'abacus' is not to be had here; expected auto, cpu or cuda"):
        WORK[verb][2](planted, pair, Execution("abacus"))


BUDGET = Execution(budget=60.0)
ALL_BUT_THE_DEVICE = (Execution(workers=1), Execution(cluster="auto"), BUDGET)


@pytest.mark.parametrize(
    ("verb", "where"),
    [
        *((verb, where) for verb in ("evaluate", "predict") for where in ALL_BUT_THE_DEVICE),
    ],
)
def test_a_verb_refuses_what_it_cannot_use(verb, where, planted, pair):
    with pytest.raises(InvalidOption, match=f"^{verb} cannot use (workers|cluster|budget), got .*; leave it out$"):
        WORK[verb][2](planted, pair, where)


@pytest.mark.parametrize(
    ("verb", "name", "where"),
    [
        *((api.attack, "attack", where) for where in ALL_BUT_THE_DEVICE),
        *((api.build_zoo, "zoo build", BUDGET), (api.bench, "bench", BUDGET)),
    ],
)
def test_a_verb_that_makes_networks_refuses_what_it_cannot_use(verb, name, where, tmp_path):
    with pytest.raises(InvalidOption, match=f"^{name} cannot use (workers|cluster|budget), got .*; leave it out$"):
        verb("small", out=tmp_path / "out", where=where)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("where", "workers"), [(Execution("cpu"), 1), (Execution("cpu", workers=2), 2)])
def test_the_scan_of_a_repair_runs_on_the_workers(where, workers, planted, monkeypatch):
    seen = []

    def scan(self, classifier, clean, *, run_parts, **how):
        seen.append(run_parts.engine.workers)
        raise MethodFailed("that was all")

    monkeypatch.setattr("goodnet.pipelines.scan_ensemble.ScanEnsemble.scan", scan)
    for verb in (api.repair, api.guard):
        with pytest.raises(MethodFailed, match="that was all"):
            verb(planted.classifier, planted.clean, where=where)
    assert seen == [workers] * 2


def test_a_goodnet_in_onnx_runs_on_the_cpu(badnet, onnx_files_of_pair):
    file = onnx_files_of_pair[None]
    assert api.predict(file, badnet.poisoned, where=Execution(device="cpu")) == api.predict(file, badnet.poisoned)
    for verb in (api.predict, api.evaluate):
        with pytest.raises(InvalidOption, match="an ONNX file runs on the CPU here, got device 'cpu:0'; leave it out"):
            verb(file, badnet.test, where=Execution(str(GPU)))
