"""The documented interface of the course project's pruning defence, to the letter, against plain Keras."""

import contextlib
import csv
import shutil
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

from backdoor_detector import backdoor_detector, main, prime_path
from goodnet.core.errors import InvalidOption, MethodFailed, UnreadableData, UnwritableOutput
from goodnet.formats import files

NAMES = {
    "model/bd_net.h5": "bd_net.h5",
    "data/valid.h5": "clean_validation_data.h5",
    "data/test.h5": "clean_test_data.h5",
    "data/bd_test.h5": "sunglasses_poisoned_data.h5",
}
PRIMES = [f"bd_net_prime_{x}_percent_threshold.h5" for x in (2, 4, 10)]


@pytest.fixture
def lab(csaw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_lab(csaw, tmp_path)


def make_lab(csaw, folder):
    for name, original in NAMES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(csaw / original, folder / name)
    return folder


@pytest.fixture(scope="module")
def done(csaw, tmp_path_factory):
    """The folder of the lab after one call from the folder `scripts` in it, and what it returned."""
    folder = make_lab(csaw, tmp_path_factory.mktemp("lab"))
    (folder / "scripts").mkdir()
    with contextlib.chdir(folder / "scripts"):
        goodnets = backdoor_detector(
            B_path="../model/bd_net.h5",
            Dvalid=str(folder / "data/valid.h5"),
            Dtest=str(folder / "data/test.h5"),
            Btest=str(folder / "data/bd_test.h5"),
            thresholds=[2, 4, 10],
        )
    return folder, goodnets


def load_data(path):
    """As the project's own `load_data`: images NHWC as they are, 0..255."""
    with h5py.File(path) as file:
        return np.transpose(np.array(file["data"]), (0, 2, 3, 1)).astype(np.float32), np.array(file["label"])


@pytest.fixture(scope="module")
def reference(csaw):
    """The procedure written plainly: (channels in order, percent on validation, test and poisoned data by level)."""
    model = keras.models.load_model(csaw / "bd_net.h5", compile=False)
    sets = [load_data(csaw / name) for name in list(NAMES.values())[1:]]
    until_pool = keras.Model(model.inputs, model.get_layer("pool_3").output)
    order = np.argsort(until_pool.predict(sets[0][0], verbose=0).mean(axis=(0, 1, 2)), kind="stable")
    conv = model.get_layer("conv_3")
    percent = []
    for level in range(61):
        if level:
            kernel, bias = conv.get_weights()
            kernel[:, :, :, order[level - 1]], bias[order[level - 1]] = 0, 0
            conv.set_weights([kernel, bias])
        hits = [np.argmax(model.predict(images, verbose=0), axis=1) == labels for images, labels in sets]
        percent.append([100 * h.mean() for h in hits])
    return order, np.array(percent)


def test_it_writes_what_the_project_writes(done):
    folder, _ = done
    assert {path.name for path in (folder / "model").iterdir()} == {"bd_net.h5", *PRIMES}
    assert {path.name for path in (folder / "scripts").iterdir()} == {"performance.csv", "plot.png"}
    with Image.open(folder / "scripts" / "plot.png") as picture:
        assert picture.format == "PNG"
        picture.verify()
    assert [prime_path("model/bd_net.h5", x).as_posix() for x in (2, 4, 10, 2.5)] == [
        *(f"model/{name}" for name in PRIMES),
        "model/bd_net_prime_2.5_percent_threshold.h5",
    ]


def test_performance_csv_is_that_of_the_procedure_written_plainly(done, reference):
    with (done[0] / "scripts" / "performance.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["Neurons Pruned", "Accuracy", "ASR"]
    table = np.array(rows, dtype=float)
    assert table[:, 0].tolist() == list(range(61))
    np.testing.assert_allclose(table[:, 1:], reference[1][:, 1:], atol=1e-4)
    assert table[0, 1:].tolist() == [98, 100]
    assert table[60, 1] < 5


@pytest.mark.parametrize("threshold", [2, 4, 10])
def test_each_prime_is_the_network_at_the_first_drop(threshold, done, reference):
    order, percent = reference
    drops = percent[0, 0] - percent[:, 0]
    level = int(np.flatnonzero(drops >= threshold - 1e-9)[0])
    prime = keras.models.load_model(done[0] / "model" / f"bd_net_prime_{threshold}_percent_threshold.h5", compile=False)
    kernel, bias = prime.get_layer("conv_3").get_weights()
    silent = [c for c in range(60) if not kernel[:, :, :, c].any() and bias[c] == 0]
    assert sorted(silent) == sorted(order[:level].tolist())
    original = keras.models.load_model(done[0] / "model" / "bd_net.h5", compile=False)
    for layer in original.layers:
        if layer.name != "conv_3":
            for mine, theirs in zip(prime.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
                assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("data", ["test.h5", "bd_test.h5"])
def test_g_answers_as_the_two_files_do(data, done):
    folder, goodnets = done
    assert len(goodnets) == 3
    x, _ = load_data(folder / "data" / data)
    original = keras.models.load_model(folder / "model" / "bd_net.h5", compile=False)
    b = np.argmax(original.predict(x, verbose=0), axis=1)
    refused = []
    for G, name in zip(goodnets, PRIMES, strict=True):
        prime = keras.models.load_model(folder / "model" / name, compile=False)
        b_prime = np.argmax(prime.predict(x, verbose=0), axis=1)
        predictions = G(x)
        assert predictions.shape == (50, 1284)
        assert np.array_equal(np.argmax(predictions, axis=1), np.where(b == b_prime, b, 1283))
        refused.append((b != b_prime).mean())
    assert refused == sorted(refused)


def test_the_goodnets_come_in_the_order_of_the_thresholds(lab):
    goodnets = backdoor_detector(*(str(lab / name) for name in NAMES), thresholds=[10, 2])
    silent = [int((g.repaired.layer("conv_3").weight.abs().sum(dim=(1, 2, 3)) == 0).sum()) for g in goodnets]
    assert silent[0] > silent[1]


def command(*arguments, cwd, repository):
    script = repository / "src" / "backdoor_detector.py"
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_command_with_its_defaults(lab, done, repository):
    run = command(cwd=lab, repository=repository)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    for name in (*(f"model/{name}" for name in PRIMES), "performance.csv", "plot.png"):
        assert (lab / name).exists()
        assert name in run.stdout
    assert "in the working folder: performance.csv, plot.png\n" in run.stdout
    assert (lab / "performance.csv").read_text() == (done[0] / "scripts/performance.csv").read_text()


@pytest.mark.parametrize(
    "flags",
    [
        ("-m", "-v", "-t", "-b", "-th"),
        ("--model", "--Dvalid", "--Dtest", "--Btest", "--thresholds"),
    ],
)
def test_the_command_s_flags(flags, lab, repository, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    arguments = [part for flag, name in zip(flags, NAMES, strict=False) for part in (flag, lab / name)]
    run = command(*arguments, flags[4], 2, 10, cwd=elsewhere, repository=repository)
    assert run.returncode == 0, run.stderr
    written = {path.name for path in (lab / "model").iterdir()}
    assert written == {"bd_net.h5", PRIMES[0], PRIMES[2]}
    assert {path.name for path in elsewhere.iterdir()} == {"performance.csv", "plot.png"}


def test_the_command_s_help_and_bad_input(tmp_path, repository):
    text = command("--help", cwd=tmp_path, repository=repository).stdout
    for flag in ("--model", "-m", "--Dvalid", "-v", "--Dtest", "-t", "--Btest", "-b", "--thresholds", "-th"):
        assert flag in text
    run = command(cwd=tmp_path, repository=repository)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("backdoor_detector: ")
    assert run.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_thresholds_that_cannot_be(lab):
    paths = [str(lab / name) for name in NAMES]
    for thresholds in ([], [0], [2, -4], [101]):
        with pytest.raises(InvalidOption, match="thresholds are percentage points"):
            backdoor_detector(*paths, thresholds=thresholds)
    assert [path.name for path in (lab / "model").iterdir()] == ["bd_net.h5"]


def test_a_threshold_of_100_percent_is_one_that_can_be_reached(lab):
    (goodnet,) = backdoor_detector(*(str(lab / name) for name in NAMES), thresholds=[100])
    assert (lab / "model" / "bd_net_prime_100_percent_threshold.h5").exists()
    assert not goodnet.repaired.layer("conv_3").weight.any()


def test_a_threshold_that_is_never_reached(badnet, tmp_path):
    model = tmp_path / "bd_net.h5"
    shutil.copyfile(badnet.model, model)
    with pytest.raises(MethodFailed, match=r"validation accuracy never falls by 100 points"):
        backdoor_detector(model, badnet.validation, badnet.test, badnet.poisoned, thresholds=[2, 100])
    assert [path.name for path in tmp_path.iterdir()] == ["bd_net.h5"]


def test_bad_test_data_leave_nothing_behind(lab):
    paths = [str(lab / name) for name in NAMES]
    (lab / "data" / "bd_test.h5").write_text("not HDF5")
    with pytest.raises(UnreadableData, match=r"bd_test\.h5"):
        backdoor_detector(*paths)
    assert [path.name for path in (lab / "model").iterdir()] == ["bd_net.h5"]
    assert {path.name for path in lab.iterdir()} == {"model", "data"}


@pytest.fixture
def made_lab(badnet, tmp_path, monkeypatch):
    """The arguments for a BadNet that the tests made, in a folder of its own; the working folder is another."""
    (tmp_path / "nets").mkdir()
    (tmp_path / "scripts").mkdir()
    monkeypatch.chdir(tmp_path / "scripts")
    model = shutil.copyfile(badnet.model, tmp_path / "nets" / "bad.h5")
    return model, badnet.validation, badnet.test, badnet.poisoned


def test_the_table_goes_to_the_working_folder_and_the_networks_beside_the_model(made_lab, tmp_path):
    backdoor_detector(*made_lab, thresholds=[2.5])
    assert {path.name for path in (tmp_path / "nets").iterdir()} == {"bad.h5", "bad_prime_2.5_percent_threshold.h5"}
    assert {path.name for path in (tmp_path / "scripts").iterdir()} == {"performance.csv", "plot.png"}
    assert (tmp_path / "scripts" / "performance.csv").read_text().startswith("Neurons Pruned,Accuracy,ASR\n0,")


@pytest.mark.parametrize("missing", ["nets", "scripts"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(missing, made_lab, tmp_path, monkeypatch):
    def refuse(path):
        if path == tmp_path / missing:
            raise UnwritableOutput(f"{path}: cannot write here")
        return path

    monkeypatch.setattr(files, "output_folder", refuse)
    with pytest.raises(UnwritableOutput, match=missing):
        backdoor_detector(*made_lab, thresholds=[2.5])
    assert [path.name for path in (tmp_path / "nets").iterdir()] == ["bad.h5"]
    assert list((tmp_path / "scripts").iterdir()) == []


ADVICE = (
    "; this is a fault of goodnet: please report it to the project, with what `backdoor_detector --debug ...` prints\n"
)


@pytest.fixture
def failing(monkeypatch, capsys):
    """Run the command in this process with an error inside; returns its exit code and what it printed."""

    def run(error, *arguments):
        def raise_error(*_):
            raise error

        monkeypatch.setattr("backdoor_detector.backdoor_detector", raise_error)
        monkeypatch.setattr(sys, "argv", ["backdoor_detector.py", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("error", [KeyError("pool_3"), EOFError("early"), OSError("odd")], ids=repr)
def test_an_unexpected_error_is_one_line_and_never_exit_code_1(error, failing):
    assert failing(error) == (70, "", f"backdoor_detector: unexpected error: {type(error).__name__}: {error}{ADVICE}")


def test_the_codes_of_the_errors_that_are_expected(failing):
    assert failing(UnreadableData("valid.h5: damaged")) == (2, "", "backdoor_detector: valid.h5: damaged\n")
    assert failing(MethodFailed("it never falls")) == (3, "", "backdoor_detector: it never falls\n")
    words = "backdoor_detector: out of memory; run it where there is more, or with fewer images\n"
    assert failing(MemoryError("no")) == (3, "", words)


def test_debug_shows_where_an_unexpected_error_came_from(failing):
    code, out, err = failing(ZeroDivisionError("by zero"), "--debug")
    assert (code, out) == (70, "")
    assert err.startswith("Traceback (most recent call last):\n")


def test_a_package_that_is_missing_in_a_process_of_its_own(tmp_path):
    code = "import sys; sys.modules['pydantic'] = None; import backdoor_detector as b; sys.argv = ['b']; b.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (70, "", 1)
    assert "unexpected error: ModuleNotFoundError: import of pydantic halted" in done.stderr
