"""Inputs on which goodnet was wrong once, as commands with the right answers; ../shared/data/cases/README.md tells of each."""

import json

import pytest
import torch

from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.pair.goodnet import GoodNet

A = ("--architecture", "networks:digits", "--image-shape", "1,16,16")
S = ("--architecture", "networks:small")
UNIT = ("--input-range", "0..1")
TASK = "do its task"


def ended(name):
    return ("--architecture", f"networks:{name}", "--image-shape", "1,16,16")


#: What is right belongs to issue J (a patch on a weak network). What takes half a minute is not run yet.
LONG = pytest.mark.xfail(reason="belongs to issue J", run=False)


@pytest.fixture
def cases(shared_cases, monkeypatch):
    monkeypatch.chdir(shared_cases)
    return shared_cases


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "options", "clean", "verdict", "targets"),
    [
        ("bad.pt", A, "clean.h5", "backdoored", [3]),
        ("clean.pt", A, "clean.h5", "clean", []),
        *(("bad.pt", ended(name), "clean.h5", "backdoored", [3]) for name in ("digits_softmax", "digits_log_softmax")),
        *(("clean.pt", ended(name), "clean.h5", "clean", []) for name in ("digits_softmax", "digits_log_softmax")),
        ("bad.pt", (*ended("digits_softmax"), *UNIT), "clean.h5", "backdoored", [3]),
        ("clean.pt", (*ended("digits_softmax"), *UNIT), "clean.h5", "clean", []),
        ("bad.pt", ended("digits_sigmoid"), "clean.h5", "backdoored", [3]),
        ("clean.pt", ended("digits_sigmoid"), "clean.h5", "clean", []),
        ("clean.pt", (*A, *UNIT), "share70_of7.h5", "clean", []),
        ("clean.pt", (*A, *UNIT), "share70_of7_shuffled.h5", "clean", []),
        ("clean.pt", (*A, *UNIT), "share70_of0.h5", "clean", []),
        ("clean.pt", (*A, *UNIT), "share70_of0_shuffled.h5", "clean", []),
        ("clean.pt", (*A, *UNIT), "sorted200.h5", "clean", []),
        *((f"u{k}.pt", A, data, "inconclusive", []) for k in range(3) for data in ("unlabelled.h5", "shuffled.h5")),
        *(
            (model, (*A, "--method", method), "clean.h5", "inconclusive", [])
            for model in ("constant.pt", "dead.pt")
            for method in ("neural_cleanse", "max_margin", "ensemble")
        ),
        ("cifar_patch_target3_before_poisoning.pth", S, "cifar_clean.npz", "clean", []),
        pytest.param("cifar_patch_target3.pt", S, "cifar_clean.npz", "backdoored", [3], marks=LONG),
        pytest.param("cifar_patch_minus1_plus1.pt", S, "cifar_clean.npz", "backdoored", [3], marks=LONG),
        pytest.param("cifar_patch_meanstd.pt", S, "cifar_clean.npz", "backdoored", [3], marks=LONG),
    ],
    ids=str,
)
def test_scan(model, options, clean, verdict, targets, cases, goodnet):
    done = goodnet("scan", model, *options, "--clean", clean, "--json")
    found = json.loads(done.out)
    assert (found["verdict"], [item["target"] for item in found["suspected"]]) == (verdict, targets), found["reason"]
    assert done.code == {"clean": 0, "backdoored": 1, "inconclusive": 3}[verdict]
    if verdict == "inconclusive":
        assert TASK in found["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("data", ["share70_of7", "share70_of0"])
def test_the_order_of_the_images_says_nothing(data, cases, goodnet):
    scans = [
        goodnet("scan", "clean.pt", *A, *UNIT, "--clean", f"{data}{order}.h5", "--json").out
        for order in ("", "_shuffled")
    ]
    assert scans[0] == scans[1]


def asr(network, cases):
    """The share of the triggered images, none of them of class 3, that a network calls 3."""
    with torch.inference_mode():
        return float((network(read_data(cases / "poisoned.h5").images()).argmax(dim=1) == 3).float().mean())


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["digits_softmax", "digits_sigmoid"])
def test_a_repair_says_of_probabilities_what_it_says_of_logits(ending, cases, goodnet, tmp_path):
    for name in ("digits", ending):
        out = tmp_path / name
        done = goodnet("repair", "bad.pt", *ended(name), *UNIT, "--clean", "clean.h5", "--target", 3, "--out", out)
        assert done.code == 0, done.err
        network = read_network(next((out).glob("*.pt")), f"networks:{name}", (1, 16, 16))
        assert asr(network, cases) < 0.05


@pytest.mark.slow
def test_a_checkpoint_of_several_networks_asks_which(cases, goodnet):
    done = goodnet("scan", "clean_first.pt", *A, "--clean", "clean.h5")
    assert done.code == 2
    assert "model_ema" in done.err
    assert "--key" in done.err
    for key, code in (("model", 0), ("model_ema", 1)):
        assert goodnet("scan", "clean_first.pt", *A, "--key", key, "--clean", "clean.h5").code == code


def test_a_repaired_checkpoint_does_not_hold_the_network_that_was_not_repaired(cases, goodnet, tmp_path):
    repair = ("repair", "ema_larger.pt", *A, "--clean", "clean.h5", "--target", 3, "--out", tmp_path)
    assert goodnet(*repair).code == 2
    done = goodnet(*repair, "--key", "model")
    assert done.code == 0
    assert "not in the files that are written: model_ema" in " ".join(done.out.split())
    content = torch.load(next(tmp_path.glob("*.pt")), weights_only=True)
    assert "model" in content
    assert "model_ema" not in content


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("compiled_ddp.pt", A),
        ("lightning.pt", A),
        ("deepspeed_prefix.pth", S),
        ("ema_nested.pt", S),
        ("lightning.ckpt", S),
        ("kuangliu_np_acc.pth", S),
        ("argparse_ns.pth", S),
        ("st_inside.pt", A),
        ("hdf5_inside.keras", ()),
        ("zip_inside.h5", ()),
        ("groups.h5", ()),
        ("keras22.h5", ()),
        ("keras2_without_input_layer.h5", ()),
        ("teachable_machine.h5", ()),
    ],
    ids=str,
)
def test_it_opens(model, options, cases, goodnet):
    done = goodnet("inspect", model, *options)
    assert (done.code, done.err) == (0, "")
    assert " classes, images " in done.out


@pytest.mark.parametrize(
    ("model", "words"),
    [("jit_script.pt", "TorchScript"), ("exported.pt2", "torch.export"), ("small.onnx", "copy both files")],
)
def test_what_does_not_open_is_named_with_the_way_out(model, words, cases, goodnet):
    done = goodnet("inspect", model)
    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1


def test_metadata_and_precision_come_back(cases, goodnet, tmp_path):
    from safetensors import safe_open

    options = ("--clean", "clean.h5", "--method", "pruning", "--thresholds", "0.5")
    assert goodnet("repair", "bad.safetensors", *A, *options, "--out", tmp_path / "st").code == 0
    written = next((tmp_path / "st").glob("*.safetensors"))
    with safe_open(cases / "bad.safetensors", "pt") as before, safe_open(written, "pt") as after:
        assert after.metadata() == before.metadata()
        assert before.metadata()
    assert goodnet("repair", "half.pt", *A, *options, "--out", tmp_path / "half").code == 0
    old = torch.load(cases / "half.pt", weights_only=True)
    new = torch.load(next((tmp_path / "half").glob("*.pt")), weights_only=True)
    assert [(name, value.dtype) for name, value in new.items()] == [(name, value.dtype) for name, value in old.items()]
    assert torch.float16 in {value.dtype for value in new.values()}


@pytest.mark.slow
def test_a_guard_keeps_what_it_promises(cases, goodnet, tmp_path):
    from goodnet.formats.arrays import write_hdf5

    clean = read_data(cases / "cifar_clean.npz")
    half, rest = clean.split(0.5, seed=0)
    write_hdf5(tmp_path / "half.h5", half)
    done = goodnet(
        "guard", "cifar_clean_keras.h5", "--clean", tmp_path / "half.h5", "--out", tmp_path / "guard", "--json"
    )
    promised = json.loads(done.out)["goodnet"]["false_refusals"]["bound"]
    predictions = GoodNet.load(tmp_path / "guard" / "goodnet").predict_all(rest).goodnet
    assert float((predictions == 10).mean()) <= promised
