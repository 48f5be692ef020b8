"""`--device`, the same option for every verb that lets networks compute."""

import re

import pytest


@pytest.mark.parametrize(
    "words",
    [
        ("scan", "{model}", "--clean", "{validation}"),
        ("repair", "{model}", "--clean", "{validation}", "--out", "{out}"),
        ("guard", "{model}", "--clean", "{validation}", "--out", "{out}"),
        ("evaluate", "{model}", "--clean", "{test}"),
        ("predict", "{goodnet}", "{clean_picture}"),
        ("attack", "digits:8", "--out", "{out}"),
        ("zoo", "build", "small", "--out", "{out}"),
        ("bench", "repairs", "--out", "{out}"),
    ],
    ids=lambda words: words[0],
)
def test_a_device_that_is_not_there_is_one_line(words, badnet, repaired_badnet, goodnet, tmp_path):
    places = {"goodnet": repaired_badnet, "out": tmp_path / "out"} | vars(badnet)
    done = goodnet(*(word.format(**places) for word in words), "--device", "cuda:99")
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(
        r"goodnet[\w ]*: device 'cuda:99' is not to be had here; expected auto, cpu or cuda", " ".join(done.err.split())
    )
    assert not (tmp_path / "out").exists()


def test_the_device_is_passed_on(badnet, repaired_badnet, goodnet, monkeypatch):
    from goodnet.core.classifier import Classifier

    moves, move = [], Classifier.to
    monkeypatch.setattr(Classifier, "to", lambda self, device: moves.append(str(device)) or move(self, device))
    assert goodnet("evaluate", badnet.model, "--clean", badnet.test, "--device", "cpu:0").code == 0
    assert goodnet("predict", repaired_badnet, badnet.clean_picture, "--device", "cpu:0").code == 0
    # The network that is evaluated, and the two of the GoodNet: there and back.
    assert moves == ["cpu", "cpu:0", "cpu", "cpu", *["cpu:0"] * 2, *["cpu"] * 2]
