"""Where work runs: a device; this process, the machine's cores, or a Ray cluster; the same tasks, the same results.

A task is a function at the top of a module and its arguments, all of which can be pickled. Each task runs with the
same number of torch threads whatever the engine, because the last digit of a sum depends on it. A task that raises, or
takes longer than it may, is a recorded error and the others go on; a task whose worker is lost (killed, out of memory)
is tried again.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from goodnet.core.errors import InvalidOption
from goodnet.core.one_line import describe_error
from goodnet.core.results import Failure
from goodnet.devices import choose_device
from goodnet.time_limits import OutOfTime, TimeLimit
from goodnet.worker_pools import end_pool, make_pool

#: How long the head of a cluster may take to answer.
_SECONDS_TO_ANSWER = 10.0


#: The kind of failure of a task that took longer than its engine allows.
OUT_OF_TIME = "OutOfTime"


@dataclass(frozen=True)
class Task:
    """What is to be done: `function(*arguments)`; `key` names it in the outcome."""

    key: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a task: the function's value, or the error that ended it."""

    key: str
    value: Any = None
    error: Failure | None = None


@dataclass(frozen=True)
class Engine:
    """What runs tasks.

    `workers` processes on this machine (1: this process); `cluster` is "auto" or the address of a Ray cluster, which
    then does the work instead. `threads` of torch for each task; `losses` is how often a task's worker may be lost;
    `seconds` is how long a task may take (None: as long as it needs).
    """

    workers: int = 1
    cluster: str | None = None
    threads: int = 1
    losses: int = 3
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.workers < 1 or self.threads < 1 or self.losses < 0:
            raise InvalidOption(
                f"expected at least 1 worker and 1 thread, got {self.workers} and {self.threads}; leave the number of "
                "workers out to use all cores"
            )
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise InvalidOption(f"expected a time limit above 0 s, got {self.seconds:g}")
        if self.seconds is not None and not hasattr(signal, "setitimer"):
            raise InvalidOption("this system has no timer that could end a task; leave the time limit out")


@dataclass(frozen=True)
class Execution:
    """Where a verb works, and for how long.

    A verb that cannot use a field refuses it with `InvalidOption`, unless the field has its default.

    Attributes:
        device: where networks compute: auto (a GPU where there is one), cpu or cuda. A network of the caller goes back
            to the device that it came from.
        workers: processes on this machine; None: one per core, or one if that is faster, as on a GPU.
        cluster: "auto" or the address of a Ray cluster, which does the work instead.
        budget: seconds: a scan begins no further work after them, repair and guard end what they do.

    Raises:
        InvalidOption: a field is out of its bounds, or there are both workers and a cluster.
    """

    device: str = "auto"
    workers: int | None = None
    cluster: str | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InvalidOption(f"expected at least 1 worker, got {self.workers}; leave it out to use all cores")
        if self.workers is not None and self.cluster is not None:
            raise InvalidOption(
                f"workers are processes on this machine, and the cluster '{self.cluster}' does its work; give one of them"
            )
        if self.budget is not None and not 0 < self.budget < math.inf:
            raise InvalidOption(f"expected a budget above 0 s, got {self.budget:g}")

    def place(self) -> torch.device:
        """Return the device.

        Raises:
            InvalidOption: there is no such device here.
        """
        return choose_device(self.device)

    def require_place(self) -> None:
        """Refuse a device that tasks cannot have; the machines of a cluster have devices of their own.

        Raises:
            InvalidOption: there is no such device here.
        """
        if self.cluster is None:
            self.place()

    def engine(self, seconds: float | None = None) -> Engine:
        """Return what runs tasks, each of which may take so many `seconds`: the cluster, or processes on this machine."""
        if self.cluster is not None:
            return Engine(cluster=self.cluster, seconds=seconds)
        default = 1 if self.place().type == "cuda" else count_cores()
        return Engine(default if self.workers is None else self.workers, seconds=seconds)


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(tasks: Sequence[Task], engine: Engine) -> Iterator[Outcome]:
    """Run tasks and yield their outcomes as they come, in any order, one for each task.

    Raises:
        InvalidOption: there is no Ray, or no cluster at the address; a time limit, one worker and a thread that no signal
            reaches.
    """
    if not tasks:
        return iter(())
    here = engine.workers == 1 and engine.cluster is None
    if here and engine.seconds is not None and threading.current_thread() is not threading.main_thread():
        raise InvalidOption(
            "a task in this process can only be ended in its main thread; give it two workers, or no limit"
        )
    if engine.cluster is not None:
        return _run_on_ray(tasks, engine)
    if engine.workers == 1:
        return (_attempt(task, engine) for task in tasks)
    return _run_in_processes(tasks, engine)


def _attempt(task: Task, engine: Engine) -> Outcome:
    """Run one task; what it raises becomes a record, so that it can cross to another process."""
    with torch_threads(engine.threads):
        limit = TimeLimit(engine.seconds)
        try:
            with limit:
                return Outcome(task.key, task.function(*task.arguments))
        except OutOfTime as error:
            if not limit.is_over:  # It is the limit of a task that this one is a part of.
                raise
            return Outcome(task.key, error=Failure(kind=OUT_OF_TIME, message=str(error)))
        except Exception as error:
            return Outcome(task.key, error=Failure(kind=type(error).__name__, message=describe_error(error)))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads inside the block: the last digit of a sum depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _lost(task: Task, times: int) -> Outcome:
    message = (
        f"the worker was lost {times} times while it ran this; was it killed, or out of memory? A script that calls goodnet "
        "must do so below if __name__ == '__main__':, or with one worker"
    )
    return Outcome(task.key, error=Failure(kind="WorkerLost", message=message))


@dataclass
class _Pending:
    """A task that has no outcome yet, and how often the worker that ran it was lost."""

    task: Task
    losses: int = 0


def _run_in_processes(tasks: Sequence[Task], engine: Engine) -> Iterator[Outcome]:
    """Run tasks in a pool of processes; after a loss, make a new pool and run what was under way one at a time.

    Only then is it known which task takes its worker down with it.
    """
    waiting = deque(_Pending(task) for task in tasks)
    while waiting:
        pool = make_pool(min(engine.workers, len(waiting)))
        running: dict[Future[Outcome], _Pending] = {}
        try:
            yield from _drain(pool, waiting, running, engine)
        except BrokenProcessPool:
            pass
        finally:
            end_pool(pool, stop=bool(running))
        for item in running.values():
            item.losses += 1
            if item.losses > engine.losses:
                yield _lost(item.task, item.losses)
            else:
                waiting.appendleft(item)


def _drain(
    pool: ProcessPoolExecutor, waiting: deque[_Pending], running: dict[Future[Outcome], _Pending], engine: Engine
) -> Iterator[Outcome]:
    """Yield outcomes until nothing waits or runs.

    Raises:
        BrokenProcessPool: a worker was lost; what was under way is in `running`.
    """
    while waiting or running:
        while waiting and _may_start(waiting[0], running, engine.workers):
            future = pool.submit(_attempt, waiting[0].task, engine)
            running[future] = waiting.popleft()
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            outcome = _outcome(future, running[future].task)
            del running[future]
            yield outcome


def _may_start(item: _Pending, running: dict[Future[Outcome], _Pending], workers: int) -> bool:
    """Whether a task may start now. A task whose worker was lost may only run alone."""
    alone = item.losses > 0 or any(other.losses for other in running.values())
    return not running if alone else len(running) < workers


def _outcome(future: Future[Outcome], task: Task) -> Outcome:
    """Return what a worker returned; arguments or values that cannot be pickled are an error of the task."""
    try:
        return future.result()
    except BrokenProcessPool:
        raise
    except Exception as error:
        return Outcome(task.key, error=Failure(kind=type(error).__name__, message=describe_error(error)))


def _run_on_ray(tasks: Sequence[Task], engine: Engine) -> Iterator[Outcome]:
    """Run tasks on a Ray cluster; Ray tries again where a worker or its node is lost.

    The cluster's machines need goodnet and see the same paths (a shared folder). A connection that was there before
    stays, one that is made here ends here.
    """
    ray = _import_ray()
    connected_here = not ray.is_initialized()
    if connected_here:
        _connect(ray, str(engine.cluster))
    try:
        remote = ray.remote(num_cpus=engine.threads, max_retries=engine.losses)(_attempt)
        running = {remote.remote(task, engine): task for task in tasks}
        while running:
            for reference in ray.wait(list(running))[0]:
                yield _ray_outcome(ray, reference, running.pop(reference), engine.losses)
    finally:
        if connected_here:
            ray.shutdown()


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise InvalidOption("--cluster needs Ray, which is not installed: pip install 'goodnet[ray]'") from error
    return ray


def _connect(ray: Any, address: str) -> None:
    _require_answer(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise InvalidOption(
            f"no Ray cluster at '{address}': {describe_error(error)}; start one with: ray start --head"
        ) from error


def _require_answer(address: str) -> None:
    """Check that something answers at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise InvalidOption(
            f"no Ray cluster at '{address}': {describe_error(error)}; start one with: ray start --head"
        ) from error


def _ray_outcome(ray: Any, reference: Any, task: Task, losses: int) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
        return outcome
    except ray.exceptions.WorkerCrashedError:
        return _lost(task, losses + 1)
    except ray.exceptions.RayError as error:
        return Outcome(task.key, error=Failure(kind=type(error).__name__, message=describe_error(error)))
