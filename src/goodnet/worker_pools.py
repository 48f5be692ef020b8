"""Pools of worker processes: how they are made, and how they end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection
from multiprocessing.context import BaseContext


def end_pool(pool: ProcessPoolExecutor, *, stop: bool) -> None:
    """End a pool; with `stop`, what still runs in it is not waited for: nobody takes the outcome."""
    if stop:
        for worker in list((pool._processes or {}).values()):
            worker.kill()
    pool.shutdown(cancel_futures=True)


def make_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of fresh processes; where the system can, they are forked from one that has imported torch already.

    That process is made once and has run nothing: what this one holds, threads and locks included, is not inherited.

    Raises:
        SystemExit: this is a process of such a pool, and it is only importing the caller's script, see `_imports_script`.
    """
    if _imports_script():
        raise SystemExit(1)
    context: BaseContext = multiprocessing.get_context("spawn")
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch"])
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)


def _prepare_worker() -> None:
    """Leave Ctrl-C, which reaches all processes of a terminal, to the process that started this one, and end with that one.

    A killed parent cannot tell its workers to end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(sentinel: int = parent.sentinel) -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _imports_script() -> bool:
    """Whether this is a worker that is importing the script which has started it, and the script calls us once more.

    It does so where the call is not below `if __name__ == "__main__":`. A pool of a pool would never end; multiprocessing
    prints three pages in each worker, so the worker ends without a word. The first process says what is wrong.
    """
    frames = (frame for frame, _ in traceback.walk_stack(None))
    return any(
        frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__mp_main__" for frame in frames
    )
