"""Help, usage errors, and how long a person waits for them."""

import subprocess
import sys
import time

import pytest

from goodnet import __version__
from goodnet.cli import goodnet as program
from goodnet.repairers.pruning import Pruning

VERBS = program.list_commands(None)


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "goodnet", *arguments], capture_output=True, text=True, check=False)


def test_help_lists_the_verbs(goodnet):
    done = goodnet("--help")
    assert done.code == 0
    assert done.err == ""
    for verb in VERBS:
        assert f"\n  {verb} " in done.out
    assert goodnet("-h").out == done.out
    assert {"inspect", "scan", "report", "zoo", "demo"} < set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb, goodnet):
    done = goodnet(verb, "--help")
    assert done.code == 0
    assert done.err == ""
    assert f"Usage: goodnet {verb} " in done.out
    assert "Options:" in done.out


def test_version(goodnet):
    assert goodnet("--version").out == f"goodnet, version {__version__}\n"


def test_the_options_of_a_method_are_its_fields(goodnet):
    text = goodnet("repair", "--method", "pruning", "--help").out
    words = " ".join(text.split())
    for name, field in Pruning.model_fields.items():
        assert f"--{name}" in text
        assert field.description in words
    assert "--order [ascending|descending|random]" in words
    assert "[default: ascending]" in words
    assert "[default: 0.02,0.04,0.1]" in words
    assert goodnet("repair", "--method=pruning", "--help").out == text
    assert goodnet("repair", "--help").out == goodnet("repair", "--method", "auto", "--help").out != text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["conquer"], "No such command 'conquer'"),
        (["repair"], "Missing argument 'MODEL'"),
        (["repair", "a.h5"], "Missing option '--clean'"),
        (["repair", "a.h5", "--clean", "b.h5"], "Missing option '--out'"),
        (
            ["repair", "a.h5", "--method", "pruning", "--clean", "b", "--out", "c", "--order", "sideways"],
            "'sideways' is not one of",
        ),
        (
            ["repair", "a.h5", "--method", "pruning", "--clean", "b", "--out", "c", "--thresholds", "x,y"],
            "expected values separated by commas",
        ),
        (["repair", "a.h5", "--clean", "b", "--out", "c", "--seed", "-1"], "-1 is not in the range"),
        (["repair", "a.h5", "--clean", "b", "--out", "c", "--colour", "red"], "No such option"),
        (["inspect", "a.pt", "--image-shape", "3,32"], "expected channels,height,width"),
        (["inspect", "a.pt", "--image-shape", "3,32,0"], "expected channels,height,width"),
        (["evaluate", "a.h5", "--input-range", "0..2"], "got '0..2'"),
        (["predict", "folder"], "Missing argument 'IMAGES...'"),
    ],
)
def test_bad_usage(arguments, message, goodnet):
    done = goodnet(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert message in done.err


def test_a_method_that_is_not_there(goodnet):
    done = goodnet("repair", "a.h5", "--clean", "b.h5", "--out", "c", "--method", "prayer")
    assert done.code == 2
    assert done.err.startswith("goodnet: unknown method 'prayer' among the repairers; known: ")
    assert done.err.count("\n") == 1


def test_help_waits_for_neither_torch_nor_keras():
    code = (
        "import sys\nfrom goodnet.cli import goodnet\n"
        "try:\n    goodnet.main(['--help'], standalone_mode=False)\nfinally:\n"
        "    print(sorted({'torch', 'keras', 'numpy', 'matplotlib', 'h5py'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_is_quick():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = run("--help")
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: ")
    assert min(seconds) < 1


def test_without_arguments_there_is_help_and_exit_code_2():
    done = run()
    assert done.returncode == 2
    assert "Usage: " in done.stderr
    assert "inspect" in done.stderr
