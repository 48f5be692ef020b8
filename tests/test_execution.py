"""The three engines give the same outcomes; errors and lost workers stay with the task that caused them."""

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from goodnet.core.errors import InvalidOption
from goodnet.execution import Engine, Execution, Outcome, Task, count_cores, run_tasks
from tests.micro_zoo import BENCH

ENGINES = [pytest.param(Engine(1), id="this process"), pytest.param(Engine(2), id="two processes")]


def multiply(seed: int) -> float:
    values = torch.randn(60, 60, generator=torch.Generator().manual_seed(seed))
    return float((values @ values).sum())


def fail(message: str) -> None:
    raise ValueError(message)


def die(folder: str, times: int) -> str:
    """Kill the process that runs this, so many times in all; then return."""
    marks = Path(folder)
    if len(list(marks.iterdir())) < times:
        (marks / str(time.monotonic_ns())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def loop(seconds: float) -> str:
    """Work in small steps for so long, as one who takes every error for its own."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(Exception):
            multiply(0)
    return "done"


def loop_in_parts(seconds: float) -> str:
    return next(run_tasks([Task("part", loop, (seconds,))], Engine())).value


def return_a_lambda() -> object:
    return lambda: None


def count_threads() -> int:
    return torch.get_num_threads()


def outcomes(tasks: list[Task], engine: Engine) -> dict[str, Outcome]:
    return {outcome.key: outcome for outcome in run_tasks(tasks, engine)}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_failure_is_a_record_and_the_others_go_on(engine: Engine) -> None:
    tasks = [Task("a", multiply, (1,)), Task("b", fail, ("two\nlines",)), Task("c", multiply, (2,))]
    found = outcomes(tasks, engine)
    assert {key: found[key].value for key in "ac"} == {"a": multiply(1), "c": multiply(2)}
    assert found["b"].error is not None
    assert (found["b"].error.kind, found["b"].error.message) == ("ValueError", "two lines")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_takes_too_long_is_ended_and_the_others_go_on(workers: int) -> None:
    started = time.monotonic()
    tasks = [
        Task("long", loop, (60.0,)),
        Task("parts", loop_in_parts, (60.0,)),
        Task("short", loop, (0.01,)),
        Task("a", multiply, (1,)),
    ]
    found = outcomes(tasks, Engine(workers, seconds=2.0))
    for key in ("long", "parts"):
        error = found[key].error
        assert error is not None
        assert (error.kind, error.message) == ("OutOfTime", "it took longer than the 2 s that it may")
    assert (found["short"].value, found["a"].value) == ("done", multiply(1))
    assert time.monotonic() - started < 40


def test_a_time_limit_leaves_no_timer_behind() -> None:
    before, left = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[0]  # pytest's own, if any
    assert outcomes([Task("short", loop, (0.01,))], Engine(seconds=30.0))["short"].value == "done"
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(left, abs=20)


def ignores_interrupts() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_ctrl_c_is_left_to_the_process_that_started_the_workers() -> None:
    found = outcomes([Task("a", ignores_interrupts), Task("b", ignores_interrupts)], Engine(2))
    assert [found["a"].value, found["b"].value] == [True, True]
    assert not ignores_interrupts()


def test_what_still_runs_is_not_waited_for_when_nobody_takes_it() -> None:
    started = time.monotonic()
    running = run_tasks([Task("short", multiply, (1,)), Task("long", loop, (120.0,))], Engine(2))
    assert next(running).key == "short"
    running.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()
    assert time.monotonic() - started < 60


def test_tasks_have_the_same_threads_everywhere() -> None:
    before = torch.get_num_threads()
    values = [outcomes([Task("a", count_threads), Task("b", count_threads)], Engine(n))["b"].value for n in (1, 2)]
    assert values == [1, 1]
    assert torch.get_num_threads() == before


def test_no_tasks_are_no_outcomes() -> None:
    assert outcomes([], Engine(2)) == {}


def test_a_lost_worker_is_replaced(tmp_path: Path) -> None:
    found = outcomes(
        [Task("a", multiply, (1,)), Task("k", die, (str(tmp_path), 2)), Task("c", multiply, (2,))], Engine(2)
    )
    assert found["k"].value == "survived"
    assert (found["a"].value, found["c"].value) == (multiply(1), multiply(2))


def test_a_task_that_always_kills_its_worker_is_given_up_alone(tmp_path: Path) -> None:
    found = outcomes([Task("k", die, (str(tmp_path), 99)), Task("a", multiply, (1,))], Engine(2, losses=1))
    assert found["k"].error is not None
    assert found["k"].error.kind == "WorkerLost"
    assert found["a"].value == multiply(1)


def test_what_cannot_be_pickled_is_an_error_of_its_task() -> None:
    found = outcomes([Task("x", return_a_lambda), Task("a", multiply, (1,))], Engine(2))
    assert found["x"].error is not None
    assert found["a"].value == multiply(1)


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, time\nfrom pathlib import Path\nfrom goodnet.execution import Engine, Task, run_tasks\n"
        f"def note(n):\n    (Path({str(tmp_path)!r}) / f'pid{{n}}').write_text(str(os.getpid()))\n    time.sleep(60)\n"
        "if __name__ == '__main__':\n    list(run_tasks([Task(str(n), note, (n,)) for n in range(2)], Engine(2)))\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)])
    files = [tmp_path / "pid0", tmp_path / "pid1"]
    try:
        wait_until(lambda: all(file.exists() and file.read_text() for file in files), 180)
    finally:
        parent.kill()
        parent.wait()
    places = [Path("/proc", file.read_text()) for file in files]
    wait_until(lambda: not any(place.exists() for place in places), 20)


def test_bad_options_are_refused() -> None:
    with pytest.raises(InvalidOption, match="at least 1 worker"):
        Engine(0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workers": 0}, "expected at least 1 worker, got 0"),
        (
            {"workers": 2, "cluster": "auto"},
            "workers are processes on this machine, and the cluster 'auto' does its work",
        ),
        ({"budget": 0.0}, "expected a budget above 0 s, got 0"),
        ({"budget": float("nan")}, "expected a budget above 0 s, got nan"),
    ],
)
def test_where_no_verb_can_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        Execution(**fields)


@pytest.mark.parametrize(
    ("where", "engine"),
    [
        (Execution("cpu"), Engine(count_cores())),
        (Execution("cpu", workers=3), Engine(3)),
        (Execution(cluster="head:6379"), Engine(cluster="head:6379")),
        # A cluster's machines have devices of their own.
        (Execution("cuda:99", cluster="head:6379"), Engine(cluster="head:6379")),
    ],
)
def test_the_engine_is_the_cluster_or_the_workers(where: Execution, engine: Engine) -> None:
    assert where.engine() == engine
    assert where.engine(5.0) == replace(engine, seconds=5.0)
    where.require_place()


def test_by_default_a_gpu_has_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goodnet.execution.choose_device", lambda name: torch.device("cuda"))
    assert Execution().engine() == Engine(1)
    assert Execution(workers=4).engine() == Engine(4)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_a_time_limit_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidOption, match="expected a time limit above 0 s"):
        Engine(seconds=seconds)


def test_beside_the_main_thread_one_worker_has_no_time_limit() -> None:
    caught: list[Exception] = []

    def call() -> None:
        try:
            list(run_tasks([Task("a", multiply, (1,))], Engine(seconds=5.0)))
        except InvalidOption as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


def wait_until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


# --- Ray -------------------------------------------------------------------------------------------------------------


class Cluster:
    """Two nodes of Ray on this machine, one core each, on the loopback interface alone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ray = folder, str(Path(sys.executable).parent / "ray")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.environment = {
            **os.environ,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_initial_delay_ms": "500",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "3",
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        }
        self.nodes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._start("--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.folder}")
        wait_until(self._is_up, 180)
        self._start(f"--address={self.address}")
        wait_until(lambda: b"Ray runtime started" in (self.folder.parent / "node1.log").read_bytes(), 180)

    def _is_up(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _start(self, *arguments: str) -> None:
        command = [self.ray, "start", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1", *arguments]
        command += ["--object-store-memory=100000000", "--disable-usage-stats"]
        log = (self.folder.parent / f"node{len(self.nodes)}.log").open("wb")
        with log:
            self.nodes.append(
                subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)
            )

    def kill_second_node(self) -> None:
        os.killpg(self.nodes[1].pid, signal.SIGKILL)

    def stop(self) -> None:
        for node in reversed(self.nodes):
            with suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
            node.wait()


@pytest.fixture
def cluster():
    pytest.importorskip("ray", reason="Ray is not installed")
    folder = Path("/tmp") / f"goodnet-ray-{os.getpid()}"  # Ray's sockets need a short path.
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "ray").mkdir(parents=True)
    nodes = Cluster(folder / "ray")
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_bench_on_a_ray_cluster_that_loses_a_node_gives_the_same_table(
    cluster: Cluster, micro_zoo: Path, tmp_path: Path
) -> None:
    from goodnet import api

    spec = tmp_path / "bench.toml"
    spec.write_text(BENCH.replace("[0, 1, 2]", str(list(range(8)))))
    out, alone = tmp_path / "cluster", tmp_path / "alone"
    command = [sys.executable, "-m", "goodnet", "bench", str(spec), "--zoo", str(micro_zoo), "--out", str(out)]
    # A driver that may not use the loopback address would look for the cluster at the machine's own.
    environment = cluster.environment | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    bench = subprocess.Popen([*command, "--cluster", cluster.address], env=environment, stdout=subprocess.DEVNULL)
    try:
        # Two cells under way, one on each node: one of them is lost with its node.
        wait_until(lambda: len(list(out.glob("cells/.*"))) >= 2 and any(out.glob("cells/*/cell.json")), 240)
        cluster.kill_second_node()
        assert bench.wait(240) == 0
    finally:
        bench.kill()
        bench.wait()
    api.bench(spec, out=alone, zoo=micro_zoo, where=Execution(workers=1))
    for table in ("repair.csv", "repair_cells.csv", "guards.csv", "guards_cells.csv", "cells.json"):
        assert (out / table).read_bytes() == (alone / table).read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_is_not_there_is_a_clear_error() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(InvalidOption, match="ray start --head"):
        outcomes([Task("a", multiply, (1,))], Engine(cluster="auto"))


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidOption, match=r"goodnet\[ray\]"):
        outcomes([Task("a", multiply, (1,))], Engine(cluster="auto"))


SCRIPT = """
from goodnet.execution import Engine, Task, run_tasks

{guard}for outcome in run_tasks([Task("a", len, ("four",)), Task("b", len, ((),))], Engine(2, losses=1)):
{indent}    print(outcome.key, outcome.value, outcome.error)
"""


@pytest.mark.parametrize("guarded", [True, False])
def test_a_script_without_a_guard_is_told_what_is_missing_and_nothing_else_is_printed(
    guarded: bool, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    guard, indent = ('if __name__ == "__main__":\n    ', "    ") if guarded else ("", "")
    script.write_text(SCRIPT.format(guard=guard, indent=indent))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    lines = sorted(done.stdout.splitlines())
    if guarded:
        assert lines == ["a 4 None", "b 0 None"]
    else:
        assert len(lines) == 2
        assert all("must do so below if __name__ == '__main__':" in line for line in lines)
