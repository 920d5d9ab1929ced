"""Jobs of many requests share runs; each gets its own answers, and a long or broken one harms no other."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

import obert_edge
from obert_edge.device.tokenizers.tokenizer import Encoding
from obert_edge.errors import InputError
from obert_edge.serve.batcher import Batcher, Work
from obert_edge.serve.models import Model
from obert_edge.serve.refusal import RefusedError


@pytest.fixture(scope="module")
def model(plain_embedder):
    with obert_edge.load(plain_embedder, threads=1) as session:
        yield Model("model", session)


def work_of(model, *texts):
    answerer = model.answerer()
    return [Work([model.tokenizer.encode(text, max_length=96) for text in texts], answerer.reader)]


def samples(batcher, name):
    found = [one for family in batcher.metrics.registry.collect() for one in family.samples]
    return next(one.value for one in found if one.name == name)


def run(batcher, *jobs):
    """Begin jobs in order, then start the thread; what each came to, and the order in which they ended."""
    order = []

    async def one(number, begin):
        try:
            answer = await begin()
        except (InputError, RefusedError) as error:
            answer = error
        order.append(number)
        return answer

    async def all_of_them():
        tasks = [asyncio.ensure_future(one(number, begin)) for number, begin in enumerate(jobs)]
        await asyncio.sleep(0)  # every job is in the queue before the first is run
        await asyncio.sleep(0)
        batcher.start()
        return await asyncio.gather(*tasks)

    try:
        return asyncio.run(all_of_them()), order
    finally:
        batcher.close()


def test_what_waits_is_run_together_up_to_so_many_tokens(model):
    texts = ["the film is good"] * 10
    tokens = len(model.tokenizer.encode(texts[0]))
    batcher = Batcher(4 * tokens + 1, 100, 10**6)
    answers, _ = run(batcher, *(lambda t=text: batcher.run(model, work_of(model, t)) for text in texts))
    expected = model.session.encode(texts[0]).tobytes()
    assert all(lots[0][0].tobytes() == expected for lots in answers)
    assert samples(batcher, "obert_edge_batch_texts_count") == 3  # of 4, 4 and 2
    assert samples(batcher, "obert_edge_batch_tokens_sum") == 10 * tokens


def test_a_text_with_more_tokens_than_a_batch_is_run_alone(model):
    batcher = Batcher(1, 100, 10**6)
    ((answer,), _), _ = run(
        batcher,
        lambda: batcher.run(model, work_of(model, "the film is good " * 10)),
        lambda: batcher.run(model, work_of(model, "a")),
    )
    assert answer[0].tobytes() == model.session.encode("the film is good " * 10).tobytes()
    assert samples(batcher, "obert_edge_batch_texts_count") == 2


def test_a_short_job_does_not_wait_for_a_long_one_that_came_before(model):
    batcher = Batcher(64, 100, 10**6)
    long = [f"{'a ' * (i % 9)}the film is good" for i in range(60)]
    (first, second), order = run(
        batcher,
        lambda: batcher.run(model, work_of(model, *long)),
        lambda: batcher.run(model, work_of(model, "bob and anna")),
    )
    assert order == [1, 0]
    assert np.stack(first[0]).tobytes() == model.session.encode(long).tobytes()
    assert second[0][0].tobytes() == model.session.encode("bob and anna").tobytes()


def test_a_job_that_the_model_refuses_fails_alone(model):
    batcher = Batcher(1024, 100, 10**6)
    reader = model.answerer().reader
    broken = [Work([Encoding([10**6], [0], [], [], [])] * 3, reader)]
    (good, bad, other), _ = run(
        batcher,
        lambda: batcher.run(model, work_of(model, "the film")),
        lambda: batcher.run(model, broken),
        lambda: batcher.run(model, work_of(model, "paris", "new york")),
    )
    assert isinstance(bad, InputError)
    assert good[0][0].tobytes() == model.session.encode("the film").tobytes()
    assert np.stack(other[0]).tobytes() == model.session.encode(["paris", "new york"]).tobytes()
    assert samples(batcher, "obert_edge_queue_tokens") == 0


def test_more_tokens_than_may_wait_are_refused_with_a_time(model):
    batcher = Batcher(1024, 100, 10)
    (accepted, refused), _ = run(
        batcher,
        lambda: batcher.run(model, work_of(model, "the film is good " * 5)),  # nothing waits: accepted
        lambda: batcher.run(model, work_of(model, "a")),
    )
    assert accepted[0][0].shape == (32,)
    assert (refused.status, refused.code) == (429, "queue_full") and refused.retry_after >= 1


def test_places_are_taken_and_given_back():
    batcher = Batcher(1024, 2, 10)
    batcher.enter()
    batcher.enter()
    with pytest.raises(RefusedError, match="2 requests"):
        batcher.enter()
    batcher.leave()
    batcher.enter()


def test_texts_of_a_client_that_is_gone_are_not_run(model):
    batcher = Batcher(8, 100, 10**6)
    hold, running = threading.Event(), threading.Event()

    def whole():
        running.set()
        assert hold.wait(60)
        return "held"

    async def scenario():
        first = asyncio.ensure_future(batcher.run(model, whole=whole, tokens=1))
        await asyncio.get_running_loop().run_in_executor(None, running.wait, 60)

        async def gone():
            return None

        with pytest.raises(RefusedError) as refused:
            await batcher.run(model, work_of(model, *["the film is good"] * 20), disconnected=gone)
        hold.set()
        return refused.value, await first, await batcher.run(model, work_of(model, "a"))

    batcher.start()
    refused, held, last = asyncio.run(scenario())
    batcher.close()
    assert refused.status == 499 and held == "held" and len(last[0]) == 1
    assert samples(batcher, "obert_edge_abandoned_total") == 1
    # "whole" counts as one text; of the twenty that nobody waits for, none was run.
    assert samples(batcher, "obert_edge_texts_total") == 2
    assert samples(batcher, "obert_edge_queue_tokens") == 0


def test_a_run_that_is_under_way_is_ended_when_its_client_goes(model):
    batcher = Batcher(1024, 100, 10**6)
    encodings = [model.tokenizer.encode("the film is good " * 20, max_length=96)] * 16
    running = threading.Event()

    def without_end():
        while True:
            model.session.run_encodings(encodings)
            running.set()

    async def scenario():
        async def gone():
            await asyncio.get_running_loop().run_in_executor(None, running.wait, 60)

        with pytest.raises(RefusedError) as refused:
            await batcher.run(model, whole=without_end, tokens=5, disconnected=gone)
        return refused.value, await batcher.run(model, work_of(model, "a"))

    batcher.start()
    refused, next_one = asyncio.run(scenario())
    batcher.close()
    assert refused.status == 499 and len(next_one[0]) == 1
    assert not batcher.is_alive
    assert samples(batcher, "obert_edge_queue_tokens") == 0
    assert samples(batcher, "obert_edge_texts_total") == 1


def test_closing_refuses_what_waits_and_what_is_under_way(model):
    batcher = Batcher(8, 100, 10**6)
    running = threading.Event()

    def without_end():
        while True:
            model.session.run_encodings([model.tokenizer.encode("a")])
            running.set()

    async def scenario():
        jobs = [
            asyncio.ensure_future(batcher.run(model, whole=without_end, tokens=5)),
            asyncio.ensure_future(batcher.run(model, work_of(model, "a", "the film"))),
            asyncio.ensure_future(batcher.run(model, whole=without_end, tokens=7)),
        ]
        await asyncio.get_running_loop().run_in_executor(None, running.wait, 60)
        await asyncio.get_running_loop().run_in_executor(None, batcher.close)
        return await asyncio.gather(*jobs, return_exceptions=True)

    batcher.start()
    found = asyncio.run(scenario())
    assert [(one.status, one.code) for one in found] == [(503, "stopping")] * 3
    assert not batcher.is_alive
    assert samples(batcher, "obert_edge_queue_tokens") == 0
