"""`Pipeline`: pictures of many requests -> decoded in threads, run in batches by one thread, each answer to its own request."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

import numpy as np

from goodnet.core.errors import MethodFailed
from goodnet.pair.onnx import OnnxOutputs
from goodnet.serve.network import Pixels
from goodnet.serve.rejections import Rejected

_LOG = logging.getLogger("uvicorn.error")


@dataclass(eq=False, slots=True)
class _Job:
    """The pictures of one request on their way; the future belongs to the loop that asked."""

    pictures: Sequence[bytes]
    answer: asyncio.Future[OnnxOutputs]
    pixels: Pixels | None = None

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.answer.done()


class Pipeline:
    """Decodes pictures in a pool of threads and runs the network in a thread of its own.

    A run takes every request that waits, up to `most` pictures, and waits for no further ones: while one batch runs, the
    next one gathers. A job carries its own pixels and its own future, so that an answer cannot go astray.

    Args:
        decode: the bytes of a picture -> pixels (C, H, W) uint8; may raise `Rejected`.
        run: pixels (n, C, H, W) -> `OnnxOutputs` of n; may raise `MethodFailed`.
        most: pictures in a run.
        decoders: threads that decode.
        on_batch: is told the pictures of each run.
    """

    def __init__(
        self,
        decode: Callable[[bytes], Pixels],
        run: Callable[[Pixels], OnnxOutputs],
        *,
        most: int,
        decoders: int,
        on_batch: Callable[[int], object] = lambda images: None,
    ) -> None:
        self._decode, self._run, self._most, self._on_batch = decode, run, most, on_batch
        self._loop = asyncio.get_running_loop()
        # Plain queues: a pool's bookkeeping for each task took a fifth of the loop's time under load.
        self._taken: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._decoded: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._held: _Job | None = None
        self._decoders = [_start(self._decode_jobs, f"goodnet-decode-{number}") for number in range(decoders)]
        self._runner = _start(self._run_batches, "goodnet-run")
        #: Requests that were taken and not yet answered, given up ones included: their pictures are still in memory.
        self.pending = 0

    @property
    def alive(self) -> bool:
        """Whether the threads that decode and run the network are there."""
        return all(thread.is_alive() for thread in (*self._decoders, self._runner))

    async def answer(self, pictures: Sequence[bytes]) -> OnnxOutputs:
        """Return what the network says of the pictures of one request, in their order.

        Raises:
            Rejected: a picture cannot be read, or 503 the network could not be run.
        """
        job = _Job(pictures, self._loop.create_future())
        self.pending += 1
        self._taken.put(job)
        return await job.answer

    def close(self) -> None:
        """Finish what was taken, then stop the threads."""
        for _ in self._decoders:
            self._taken.put(None)
        for thread in self._decoders:
            thread.join()
        self._decoded.put(None)
        self._runner.join()

    def _decode_jobs(self) -> None:
        while (job := self._taken.get()) is not None:
            try:
                if not job.given_up:
                    job.pixels = np.stack([self._decode_one(job, place) for place in range(len(job.pictures))])
            except Exception as error:
                self._hand_back([job], error)
            else:
                self._decoded.put(job)

    def _decode_one(self, job: _Job, place: int) -> Pixels:
        try:
            return self._decode(job.pictures[place])
        except Rejected as error:
            raise error.in_picture(place + 1) if len(job.pictures) > 1 else error from error

    def _run_batches(self) -> None:
        while (jobs := self._gather()) is not None:
            wanted = [job for job in jobs if job.pixels is not None and not job.given_up]
            try:
                outputs = self._run_jobs(wanted) if wanted else None
            except Exception as error:
                self._hand_back(jobs, error)
            else:
                self._hand_back([job for job in jobs if job not in wanted], None)
                self._hand_back(wanted, outputs)

    def _gather(self) -> list[_Job] | None:
        """Wait for a job and return it with those that wait behind it; None when there will be no more."""
        job = self._held or self._decoded.get()
        self._held = None
        if job is None:
            return None
        jobs, images = [job], len(job.pictures)
        with suppress(queue.Empty):
            while images < self._most and (job := self._decoded.get_nowait()) is not None:
                images += len(job.pictures)
                if images > self._most:
                    self._held = job
                else:
                    jobs.append(job)
            if job is None:
                self._decoded.put(None)  # the end: to be found again by the next call
        return jobs

    def _run_jobs(self, jobs: Sequence[_Job]) -> OnnxOutputs:
        pixels = np.concatenate([job.pixels for job in jobs if job.pixels is not None])
        self._on_batch(len(pixels))
        return self._run(pixels)

    def _hand_back(self, jobs: Sequence[_Job], result: OnnxOutputs | Exception | None) -> None:
        """Bring results from a thread to the loop, one call for all jobs."""
        if jobs:
            with suppress(RuntimeError):  # the loop has ended: nobody is there to be told
                self._loop.call_soon_threadsafe(self._settle, jobs, result)

    def _settle(self, jobs: Sequence[_Job], result: OnnxOutputs | Exception | None) -> None:
        self.pending -= len(jobs)
        start = 0
        for job in jobs:
            stop = start + len(job.pictures)
            if job.answer.done():
                pass
            elif isinstance(result, OnnxOutputs):
                job.answer.set_result(OnnxOutputs(result.scores[start:stop], result.opinions[start:stop]))
            else:
                job.answer.set_exception(_as_rejection(result))
            start = stop


def _start(work: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


def _as_rejection(error: Exception | None) -> Rejected:
    """Return what the client is told; the log keeps what went wrong inside."""
    if isinstance(error, Rejected):
        return error
    _LOG.error("a request could not be answered", exc_info=error)
    what = str(error) if isinstance(error, MethodFailed) else "the server failed"
    return Rejected(HTTPStatus.SERVICE_UNAVAILABLE, f"{what}; nothing was answered")
