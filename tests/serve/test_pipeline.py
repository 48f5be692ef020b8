"""Batches: what waits goes together, up to the limit; each answer, or its own failure, to its own request."""

import asyncio
import threading

import numpy as np
import pytest

from goodnet.pair.onnx import OnnxOutputs
from goodnet.serve.pipeline import Pipeline
from goodnet.serve.rejections import Rejected


class Network:
    """Says of each picture its own number; waits for `gate` and keeps the sizes of its batches."""

    def __init__(self):
        self.gate = threading.Event()
        self.batches = []

    def run(self, pixels):
        self.gate.wait(10)
        self.batches.append(len(pixels))
        numbers = pixels[:, 0, 0, 0]
        return OnnxOutputs(numbers[:, None].astype(np.float32), np.stack([numbers, numbers], axis=1).astype(np.int64))


def decode(data):
    if data == b"\xff":
        raise Rejected(422, "damaged")
    return np.full((1, 2, 2), data[0], np.uint8)


async def first_job_runs(network, pipeline):
    """Send a job and wait until the runner has taken it, so that what comes next waits together."""
    job = asyncio.create_task(pipeline.answer([b"\x01"]))
    await asyncio.sleep(0.3)
    return job


def run(scenario, most=8):
    network = Network()

    async def play():
        pipeline = Pipeline(decode, network.run, most=most, decoders=2)
        try:
            return await scenario(network, pipeline)
        finally:
            network.gate.set()
            await asyncio.to_thread(pipeline.close)
            assert not pipeline.alive

    return asyncio.run(play()), network


def test_what_waits_goes_together_up_to_the_limit():
    async def scenario(network, pipeline):
        first = await first_job_runs(network, pipeline)
        sizes = (3, 4, 2, 1, 8)
        jobs = [
            asyncio.create_task(pipeline.answer([bytes([10 * n + i]) for i in range(s)])) for n, s in enumerate(sizes)
        ]
        await asyncio.sleep(0.3)
        assert pipeline.pending == 6
        network.gate.set()
        answers = await asyncio.gather(first, *jobs)
        assert pipeline.pending == 0
        return [answer.opinions[:, 0].tolist() for answer in answers]

    answers, network = run(scenario)
    assert answers == [[1], [0, 1, 2], [10, 11, 12, 13], [20, 21], [30], list(range(40, 48))]
    assert network.batches[0] == 1
    assert sum(network.batches) == 19
    assert max(network.batches) <= 8
    assert len(network.batches) <= 5


def test_a_picture_that_cannot_be_read_fails_its_own_request_alone():
    async def scenario(network, pipeline):
        network.gate.set()
        jobs = (pipeline.answer(pictures) for pictures in ([b"\x05"], [b"\x06", b"\xff"], [b"\xff"], [b"\x07"]))
        return await asyncio.gather(*jobs, return_exceptions=True)

    answers, network = run(scenario)
    assert [answers[place].opinions[0, 0] for place in (0, 3)] == [5, 7]
    assert [str(answers[place]) for place in (1, 2)] == ["picture 2: damaged", "damaged"]
    assert sum(network.batches) == 2


def test_what_was_given_up_is_not_run():
    async def scenario(network, pipeline):
        first = await first_job_runs(network, pipeline)
        given_up = asyncio.create_task(pipeline.answer([b"\x02"]))
        kept = asyncio.create_task(pipeline.answer([b"\x03"]))
        await asyncio.sleep(0.3)
        given_up.cancel()
        await asyncio.sleep(0)
        assert pipeline.pending == 3
        network.gate.set()
        answers = await asyncio.gather(first, given_up, kept, return_exceptions=True)
        return answers, pipeline.pending

    (answers, pending), network = run(scenario)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert answers[2].opinions.tolist() == [[3, 3]]
    assert (sum(network.batches), pending) == (2, 0)


def test_a_run_that_fails_is_told_to_all_in_it_and_the_next_one_works(caplog):
    async def scenario(network, pipeline):
        network.run, sound = None, network.run
        pipeline._run = lambda pixels: 1 / 0
        with pytest.raises(Rejected, match="the server failed; nothing was answered") as failed:
            await pipeline.answer([b"\x01"])
        assert failed.value.status == 503
        pipeline._run = sound
        network.gate.set()
        return await pipeline.answer([b"\x02"])

    answer, _ = run(scenario)
    assert answer.opinions.tolist() == [[2, 2]]
    assert "ZeroDivisionError" in caplog.text


def test_closing_finishes_what_was_taken():
    async def scenario(network, pipeline):
        jobs = [asyncio.create_task(pipeline.answer([bytes([number])])) for number in range(5)]
        await asyncio.sleep(0.2)
        network.gate.set()
        await asyncio.to_thread(pipeline.close)
        return [answer.opinions[0, 0] for answer in await asyncio.gather(*jobs)]

    answers, _ = run(scenario)
    assert answers == [0, 1, 2, 3, 4]
