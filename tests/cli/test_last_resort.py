"""However a command ends, it is one line and never exit code 1, which is an answer: backdoored."""

import errno
import json
import os
import signal
import subprocess
import sys

import click
import pytest

from goodnet import api, cli
from goodnet.cli import goodnet as program
from goodnet.cli.last_resort import exit_code
from goodnet.core.errors import MethodFailed, UnreadableData
from goodnet.reports.runs import Recorder
from tests.reports.conftest import make_detection
from tests.reports.test_sarif import read as read_sarif

ADVICE = "; this is a fault of goodnet: please report it to the project, with what `goodnet --debug ...` prints\n"


def list_commands(group, words=()):
    """Return every command that can be called: (words, command); a group's own commands in its place."""
    found = []
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        below = isinstance(command, click.Group)
        found += list_commands(command, (*words, name)) if below else [((*words, name), command)]
    return found


COMMANDS = dict(list_commands(program))


def required_arguments(command):
    """Return words that a command accepts, all of them "1"."""
    words = []
    for param in command.params:
        if param.required:
            words += ["1"] if isinstance(param, click.Argument) else [param.opts[0], "1"]
    return words


def raising(error):
    def raise_error(*_, **__):
        raise error

    return raise_error


@pytest.fixture
def failing(goodnet, monkeypatch):
    """Run a verb in which `error` is raised."""

    def run(error, words=("inspect",), *before):
        monkeypatch.setattr(COMMANDS[words], "callback", raising(error))
        return goodnet(*before, *words, *required_arguments(COMMANDS[words]))

    return run


def test_the_verbs_are_those_of_the_help(goodnet):
    assert {words[0] for words in COMMANDS} == set(program.list_commands(None))
    assert ("zoo", "build") in COMMANDS
    assert len(COMMANDS) >= 13


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_exception_inside_a_verb(words, failing):
    done = failing(ZeroDivisionError("division by zero"), words)
    assert (done.code, done.out) == (70, "")
    assert done.err == f"goodnet: unexpected error: ZeroDivisionError: division by zero{ADVICE}"


@pytest.mark.parametrize("verb", program.list_commands(None))
def test_a_verb_that_cannot_be_imported(verb, goodnet, monkeypatch):
    monkeypatch.setitem(sys.modules, f"goodnet.cli.{verb}", None)
    done = goodnet(verb, "--nothing", "--help")
    assert (done.code, done.out) == (70, "")
    assert done.err.startswith(f"goodnet: unexpected error: ModuleNotFoundError: import of goodnet.cli.{verb} halted")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (RecursionError("maximum recursion depth exceeded"), 70, "RecursionError: maximum recursion depth exceeded"),
        (
            UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"),
            70,
            "UnicodeEncodeError: 'utf-8' codec",
        ),
        (ImportError("libcudart.so.13: no such file"), 70, "ImportError: libcudart.so.13"),
        # click takes the first for Ctrl-D; libraries mean a file that ends too early.
        (EOFError("Ran out of input"), 70, "EOFError: Ran out of input"),
        (OSError(errno.EACCES, "Permission denied"), 70, "PermissionError: [Errno 13] Permission denied"),
        # Libraries, and factories of one's own, that end the process: 0 would mean clean, 1 and a text backdoored.
        (SystemExit(0), 70, "SystemExit: 0"),
        (SystemExit(None), 70, "SystemExit"),
        (SystemExit(1), 70, "SystemExit: 1"),
        (SystemExit("cannot go on"), 70, "SystemExit: cannot go on"),
        (UnreadableData("net.h5: damaged"), 2, None),
        (MethodFailed("no result"), 3, None),
    ],
    ids=repr,
)
def test_each_kind_of_error_has_its_code_and_one_line(error, code, says, failing):
    done = failing(error)
    assert (done.code, done.out) == (code, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith(f"goodnet: unexpected error: {says}" if says else f"goodnet: {error}\n")


OUT_OF_MEMORY = "goodnet: out of memory; run it where there is more, or with fewer images\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (MemoryError(), 3, OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), 3, OUT_OF_MEMORY),
        *(
            (
                OSError(number, "x"),
                2,
                f"goodnet: the output cannot be written ({os.strerror(number)}); check the disk\n",
            )
            for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
        ),
        (
            KeyboardInterrupt(),
            130,
            "goodnet: stopped by Ctrl-C; no file is half written; run it again to go on (a scan: with --resume)\n",
        ),
    ],
    ids=repr,
)
def test_what_is_no_fault_of_goodnet_is_not_called_one(error, code, line, failing):
    done = failing(error)
    assert (done.code, done.out, done.err) == (code, "", line)


@pytest.mark.parametrize("kind", [RuntimeError, UnreadableData, click.UsageError])
def test_the_line_can_be_printed_whatever_is_in_it(kind, failing):
    done = failing(kind("one\r\n\n  two \x1b[2J \udcff \x00 \u202e three"))
    assert "one two \\x1b[2J \\xff \\x00 \\u202e three" in done.err
    assert done.err.count("\n") == 1
    assert done.err[:-1].isprintable()


def test_an_error_that_cannot_say_what_it_is(failing):
    class Mute(Exception):
        def __str__(self):
            raise ValueError

    done = failing(Mute())
    assert done.code == 70
    assert "Mute: <exception str() failed>" in done.err


def test_debug_prints_the_traceback(failing):
    done = failing(ZeroDivisionError("by zero"), ("scan",), "--debug")
    assert done.code == 70
    assert done.err.startswith("Traceback (most recent call last):\n")
    assert "in raise_error\n" in done.err
    assert done.err.endswith("ZeroDivisionError: by zero\n")


def test_debug_stands_before_the_verb(goodnet, failing):
    assert "--debug" in goodnet("--help").out
    assert failing(MethodFailed("no"), ("scan",), "--debug").err == "goodnet: no\n"
    assert "No such option '--debug'" in goodnet("inspect", "net.h5", "--debug").err.replace(": --debug", " '--debug'")


def test_no_error_ends_in_an_answer():
    errors = [ValueError(), SystemExit(1), SystemExit(0), SystemExit(True), KeyboardInterrupt(), BrokenPipeError()]
    assert [exit_code(error) for error in errors] == [70, 70, 70, 70, 130, 141]


# --- SARIF, which a pipeline reads instead of the output -----------------------------------------------------------


@pytest.fixture
def scan(goodnet, monkeypatch, tmp_path):
    """Run `goodnet scan --sarif` with a scan that does what it is told; returns how it ended and the SARIF run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.h5").write_bytes(b"weights")

    def run(do, model="net.h5"):
        monkeypatch.setattr(api, "scan", do)
        done = goodnet("scan", model, "--clean", "clean.h5", "--sarif", "out.sarif")
        return done, read_sarif((tmp_path / "out.sarif").read_text(encoding="utf-8"))

    return run


@pytest.mark.parametrize("error", [RuntimeError("two\nlines"), EOFError(), SystemError()], ids=repr)
def test_sarif_says_that_an_unexpected_error_ended_the_scan(error, scan):
    done, run = scan(raising(error))
    assert done.code == 70
    (invocation,) = run["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 70)
    assert invocation["toolExecutionNotifications"][0]["message"]["text"].startswith(type(error).__name__)
    assert run["results"] == []


def test_sarif_holds_what_was_found_before_the_output_failed(scan, monkeypatch):
    monkeypatch.setattr("goodnet.cli.scan.scan_table", raising(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    done, run = scan(lambda *_, **__: make_detection())
    assert (done.code, done.err) == (141, "")
    assert [result["ruleId"] for result in run["results"]] == ["backdoored-network"]
    assert run["invocations"][0]["exitCode"] == 141


def test_sarif_about_a_model_that_is_a_link_to_itself(scan, tmp_path):
    (tmp_path / "round.h5").symlink_to("round.h5")
    done, run = scan(raising(UnreadableData("round.h5: no such file")), "round.h5")
    assert done.code == 2
    assert run["artifacts"][0]["location"]["uri"] == "round.h5"


# --- as a shell sees it -------------------------------------------------------------------------------------------

#: `goodnet inspect x` after `before`; with `verb` it does that instead, and loads nothing for it.
SCRIPT = """
import os, signal, sys, types
{before}
from goodnet import cli
def verb():
    {verb}
if {verb!r} != "pass":
    import click
    module = sys.modules["goodnet.cli.inspect"] = types.ModuleType("goodnet.cli.inspect")
    module.command = click.command("inspect")(click.argument("path")(lambda path: verb()))
sys.argv = ["goodnet", "inspect", "x"]
cli.main()
"""


def shell(verb="pass", before="", **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run([sys.executable, "-c", SCRIPT.format(verb=verb, before=before)], check=False, **options)


def test_a_process_that_meets_an_error():
    done = shell("raise ZeroDivisionError('by zero')")
    assert (done.returncode, done.stdout) == (70, b"")
    assert done.stderr.decode() == f"goodnet: unexpected error: ZeroDivisionError: by zero{ADVICE}"


def test_a_recursion_without_end():
    done = shell("verb()")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (70, b"", 1)
    assert b"RecursionError" in done.stderr


@pytest.mark.parametrize("package", ["click", "torch", "pydantic"])
def test_a_package_that_is_missing(package):
    done = shell(before=f"sys.modules[{package!r}] = None")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (70, b"", 1)
    assert b"unexpected error: ModuleNotFoundError: import of " + package.encode() in done.stderr


PRINTS = ["from rich.table import Table; from goodnet.cli.console import output; output().print(Table('x'))"]
PRINTS += ["import click; click.echo('x')", "print('x')"]


@pytest.mark.parametrize("verb", PRINTS, ids=["rich", "click", "print"])
def test_a_reader_that_went_away(verb):
    reading, writing = os.pipe()
    os.close(reading)
    done = shell(verb, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("verb", PRINTS, ids=["rich", "click", "print"])
def test_an_output_that_is_full(verb):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "wb") as full:
        done = shell(verb, stdout=full)
        assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
        assert b"No space left on device" in done.stderr
        assert shell("raise ValueError", stderr=full).returncode == 70


@pytest.mark.parametrize("verb", PRINTS, ids=["rich", "click", "print"])
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_every_name_can_be_printed(verb, encoding):
    done = shell(verb.replace("'x'", "'\\udcff \\u2713'"), env=os.environ | {"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    # Where the stream knows ASCII alone, click writes UTF-8 all the same, with a question mark.
    assert b"\\udcff" in done.stdout or ("click" in verb and done.stdout.startswith(b"? "))


def test_without_any_standard_stream():
    closing = "os.close(1); os.close(2); sys.stdout = sys.stderr = None"
    assert shell("raise ZeroDivisionError", before=closing).returncode == 70


@pytest.mark.parametrize(
    ("number", "code", "how"), [(signal.SIGINT, 130, b"Ctrl-C"), (signal.SIGTERM, 143, b"SIGTERM")]
)
def test_signals(number, code, how):
    # Whoever starts it may ignore Ctrl-C, as a shell does for what runs in the background.
    before = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    done = shell(f"os.kill(os.getpid(), {int(number)}); import time; time.sleep(20)", before)
    assert (done.returncode, done.stderr.count(b"\n")) == (code, 1)
    assert done.stderr.startswith(b"goodnet: stopped by " + how + b"; ")


def test_completion_of_the_shell_still_works():
    done = shell(before="os.environ['_GOODNET_COMPLETE'] = 'bash_source'; sys.orig_argv = sys.argv = ['goodnet']")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_a_report_on_a_folder_whose_name_is_no_text(tmp_path):
    folder = os.fsencode(tmp_path) + b"/[b]net[/b \xff\n"
    os.makedirs(folder)
    Recorder("scan", {}).run(error=MethodFailed("no gradient")).save(os.fsdecode(folder))
    command = [sys.executable, "-m", "goodnet", "report", folder, "--out", folder + b"/report.html"]
    for encoding in ("utf-8:strict", "ascii:strict"):
        done = subprocess.run(
            command, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": encoding}
        )
        assert (done.returncode, done.stderr) == (0, b"")
        with open(folder + b"/report.html", encoding="utf-8") as file:
            text = file.read()
        assert r"<h2>b \xff\n" in text or r"b \xff\n" in text
        assert rf"{tmp_path}/[b]net[/b \xff\n" in text


def test_a_record_about_files_whose_names_are_no_text(tmp_path):
    name = os.fsdecode(b"net \xfe.h5")
    (tmp_path / name).write_bytes(b"weights")
    recorder = Recorder("scan", {"model": tmp_path / name})
    path = recorder.run(error=UnreadableData(f"{name}: damaged")).save(tmp_path)
    record = json.loads(path.read_text(encoding="utf-8"))
    assert list(record["inputs"]) == [f"model: {tmp_path}/net \\xfe.h5"]
    assert record["error"]["message"] == "net \\xfe.h5: damaged"


def test_the_command_line_loads_nothing_before_its_last_resort():
    code = "import sys; import goodnet.cli; print(sorted({'click', 'torch', 'pydantic', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert cli.main.__module__ == "goodnet.cli"
