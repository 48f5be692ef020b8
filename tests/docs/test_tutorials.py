"""Every code block of every tutorial is run, in order, in a folder of its own, and prints what the page says."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from goodnet import catalog
from tests.docs.tutorial_pages import Block, missing_line, read_blocks

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted((REPOSITORY / "docs" / "tutorials").glob("*.md"))
#: The port that the pages use; the tests take a free one.
PORT = "8765"
_SECONDS_TO_ANSWER = 120.0


class Reader:
    """Someone who types what a page says; `unread` are the blocks that he could do nothing with."""

    def __init__(self, folder: Path, goodnet: Callable[..., Any], extend: Callable[[catalog.Family, Path], None]):
        self.folder, self.goodnet, self.extend = folder, goodnet, extend
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.code, self.background = 0, list[subprocess.Popen[bytes]]()
        self.unread = list[int]()

    def read(self, blocks: list[Block]) -> None:
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            if block.path is not None:
                self._write(block.path, block.text)
            elif block.language == "console":
                self._type(block)
            elif block.language == "python":
                promised = following.text if following and following.language == "text" else ""
                self._run_python(block, promised.splitlines())
            elif not (block.language == "text" and blocks[blocks.index(block) - 1].language == "python"):
                self.unread.append(block.line)

    def _write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        if path.startswith("src/goodnet/") and target.parent.name in catalog.FAMILIES:
            self.extend(target.parent.name, target.parent)  # type: ignore[arg-type]

    def _type(self, block: Block) -> None:
        commands = block.commands()
        for number, (command, promised) in enumerate(commands):
            printed = self._run(command, promised)
            missing = missing_line(promised, printed)
            assert missing is None, f"line {block.line}, $ {command}\ndid not print\n{missing}\nbut\n{printed}"
            asked = number + 1 < len(commands) and commands[number + 1][0] == "echo $?"
            assert asked or self.code == 0, f"line {block.line}, $ {command}\nended with {self.code}:\n{printed}"

    def _run(self, command: str, promised: list[str]) -> str:
        if command == "echo $?":
            code, self.code = self.code, 0
            return str(code)
        if command == "kill %1":
            self.stop()
            return ""
        if command.endswith(" &"):
            return self._start(command.removesuffix(" &"), promised)
        words = shlex.split(command)
        if words[0] == "goodnet":
            finished = self.goodnet(*words[1:])
            self.code = finished.code
            return str(finished.out + finished.err)
        if words[:3] == ["pip", "install", "--editable"]:
            return self._install(self.folder / words[3])
        environment = {**_environment(), "PYTHONPATH": str(self.folder / "src")}
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        self.code = done.returncode
        return done.stdout + done.stderr

    def _install(self, project: Path) -> str:
        """Do what pip does, without a build: put the folder on the path, and beside it what the package says of itself."""
        meta = tomllib.loads((project / "pyproject.toml").read_text())["project"]
        info = project / f"{meta['name'].replace('-', '_')}-{meta['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {meta['name']}\nVersion: {meta['version']}\n")
        groups = [
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
            for group, entries in meta["entry-points"].items()
        ]
        (info / "entry_points.txt").write_text("\n".join(groups))
        sys.path.insert(0, str(project))
        _forget_methods()
        return ""

    def _start(self, command: str, promised: list[str]) -> str:
        """Start a command and wait until it has printed what it promises."""
        output = self.folder / ".background"
        with output.open("wb") as file:
            process = subprocess.Popen(
                shlex.split(command), cwd=self.folder, env=_environment(), stdout=file, stderr=subprocess.STDOUT
            )
        self.background.append(process)
        deadline = time.monotonic() + _SECONDS_TO_ANSWER
        while missing_line(promised, output.read_text()) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        self.code = process.poll() or 0
        return output.read_text()

    def _run_python(self, block: Block, promised: list[str]) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(block.text, f"<the page's line {block.line}>", "exec"), self.names)
        missing = missing_line(promised, printed.getvalue())
        assert missing is None, f"line {block.line}: did not print\n{missing}\nbut\n{printed.getvalue()}"

    def stop(self) -> None:
        for process in self.background:
            process.terminate()
            process.wait(30)
        self.background.clear()


def _forget_methods() -> None:
    catalog.names.cache_clear()
    catalog._brought.cache_clear()


def _environment() -> dict[str, str]:
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": programs, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def extend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[catalog.Family, Path], None]]:
    """Let the catalogue look into a second folder of a family."""

    def add(family: catalog.Family, folder: Path) -> None:
        package = importlib.import_module(f"goodnet.{family}")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        _forget_methods()

    yield add
    _forget_methods()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The pages show what one thread computes: with another number, the networks that they train are other ones."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def reader(tmp_path, monkeypatch, goodnet, extend, one_thread) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    reader = Reader(tmp_path, goodnet, extend)
    yield reader
    reader.stop()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_is_true(page: Path, reader: Reader) -> None:
    text = page.read_text(encoding="utf-8").replace(PORT, str(_free_port()))
    if page.stem == "researcher":
        _copy_checkout(reader.folder)
    blocks = read_blocks(text)
    assert blocks
    reader.read(blocks)
    assert reader.unread == [], f"{page.name}: the blocks on these lines are not run"


def _copy_checkout(folder: Path) -> None:
    """Copy what the page's commands need of a checkout: its reader adds files to it."""
    for part in ("src", "tests"):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", folder)


def test_there_is_a_tutorial_for_each_user_and_the_readme_links_it() -> None:
    assert [page.stem for page in PAGES] == ["engineer", "researcher", "student"]
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert f"docs/tutorials/{page.name}" in readme


PAGE = """
```console
$ goodnet --version
goodnet, version ...
$ goodnet inspect \\
    nothing.h5
$ echo $?
2
```

```python
print("one 0.5 |")
print("two")
```
```text
one 0.45 |
two
```

```yaml
on: push
```
"""


def test_what_is_not_run_is_said(reader: Reader) -> None:
    reader.read(read_blocks(PAGE))
    assert reader.unread == [PAGE[: PAGE.index("```yaml")].count("\n") + 1]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("goodnet, version", "goodnet, edition", "did not print"),
        ("$ echo $?\n2\n", "", "ended with 2"),
        ("$ echo $?\n2\n", "$ echo $?\n1\n", "did not print"),
        ("one 0.45", "one 0.95", "did not print"),
        ("one 0.45 |\ntwo", "two\none 0.45 |", "did not print"),
    ],
)
def test_a_page_that_is_not_true_fails(before: str, after: str, words: str, reader: Reader) -> None:
    with pytest.raises(AssertionError, match=words):
        reader.read(read_blocks(PAGE.replace(before, after)))


def test_a_block_cannot_be_overlooked() -> None:
    with pytest.raises(ValueError, match="3 fences"):
        read_blocks("```python\nprint(1)\n```\n  ```python\n")
