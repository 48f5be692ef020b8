"""A long computation in parts: spread over cores or a cluster, remembered on disk, stopped when its time is up."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from goodnet.core.errors import InvalidOption, MethodFailed
from goodnet.core.method import PartFunction, Progress, no_progress
from goodnet.execution import OUT_OF_TIME, Engine, Task, run_tasks
from goodnet.formats.checkpoints import write_torch
from goodnet.formats.files import output_folder, remove, write_text
from goodnet.time_limits import Clock

_MARK = "mark.txt"


@dataclass
class Shards:
    """Runs the parts of a computation and keeps what is done; see `core.method.RunParts` for the call.

    Attributes:
        engine: this process, processes on this machine, or a Ray cluster.
        memory: folder in which finished parts are kept, None: nowhere. Parts that lie there are not run again.
        seconds: no part is started later than this many seconds after the first call, and what then still runs is ended
            (in this process only in its main thread); None: no limit.
    """

    engine: Engine = field(default_factory=lambda: Engine(threads=torch.get_num_threads()))
    memory: Path | None = None
    seconds: float | None = None
    _clock: Clock | None = None

    def __call__(
        self,
        stage: str,
        function: PartFunction,
        common: tuple[Any, ...],
        parts: Sequence[tuple[int, ...]],
        progress: Progress = no_progress,
    ) -> list[tuple[Tensor, ...] | None]:
        """Return function(*common, part) for each part, in order; None for those that there was no time for.

        Raises:
            MethodFailed: a part failed; the message is that of its error.
        """
        self._clock = self._clock or Clock(self.seconds)
        values = [self._recall(stage, number) for number in range(len(parts))]
        total = sum(map(len, parts))
        done = sum(len(part) for part, value in zip(parts, values, strict=True) if value is not None)
        tasks = [Task(str(n), function, (*common, parts[n])) for n, value in enumerate(values) if value is None]
        for number, value in self._run(tasks):
            values[number] = value
            self._remember(stage, number, value)
            done += len(parts[number])
            progress(done, total)
        return values

    def _run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        if self._late():
            return
        # One part is not worth a pool of processes.
        engine = self.engine if len(tasks) > 1 or self.engine.cluster else Engine(threads=self.engine.threads)
        alone = engine.workers == 1 and engine.cluster is None
        for some in [[task] for task in tasks] if alone else [tasks]:
            for outcome in run_tasks(some, self._limit(engine)):
                if outcome.error is None:
                    yield int(outcome.key), outcome.value
                elif outcome.error.kind != OUT_OF_TIME:
                    raise MethodFailed(f"{outcome.error.kind}: {outcome.error.message}")
                if self._late():
                    return

    def _limit(self, engine: Engine) -> Engine:
        """Return the engine with the time that is left as the limit of each part."""
        if self._clock is None or threading.current_thread() is not threading.main_thread():
            return engine
        return replace(engine, seconds=self._clock.share(1.0))

    def _late(self) -> bool:
        return self._clock is not None and self._clock.is_over

    def open_memory(self, folder: Path, mark: str, *, resume: bool) -> None:
        """Keep parts in `folder` from now on; what lies there is used again if `resume`, else removed.

        Args:
            folder: is made where it is missing.
            mark: says what is computed; parts of something else are never used.
            resume: whether to go on from what lies there.

        Raises:
            InvalidOption: the parts there belong to another computation.
            UnwritableOutput: the folder cannot be written to.
        """
        found = (folder / _MARK).read_text(encoding="utf-8") if (folder / _MARK).exists() else None
        if resume and found not in (mark, None):
            raise InvalidOption(
                f"{folder}: what lies there belongs to another network, other data or other options; run without --resume"
            )
        if not resume or found is None:  # Parts without a mark: a run was killed while it removed another's.
            remove(folder)
        self.memory = output_folder(folder)
        write_text(folder / _MARK, mark)

    def close_memory(self) -> None:
        """Remove what was kept: the computation is done."""
        if self.memory is not None:
            remove(self.memory)

    def _recall(self, stage: str, number: int) -> tuple[Tensor, ...] | None:
        path = self._path(stage, number)
        if path is None or not path.exists():
            return None
        try:
            return tuple(torch.load(path, weights_only=True))
        except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError):
            return None  # Damaged: it is computed again.

    def _remember(self, stage: str, number: int, value: tuple[Tensor, ...]) -> None:
        path = self._path(stage, number)
        if path is not None:
            write_torch(list(value), path)

    def _path(self, stage: str, number: int) -> Path | None:
        return None if self.memory is None else self.memory / f"{stage}_{number:05d}.pt"
