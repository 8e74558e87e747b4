"""Questions that come faster than they are answered do not queue up."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("starlette")

from tiedlm.web.turns import Superseded, Turns


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as made:
        yield made


def test_of_many_questions_only_the_first_and_the_newest_are_computed(executor):
    done, began, go_on = [], threading.Event(), threading.Event()

    def work(number):
        began.set()
        assert go_on.wait(20)
        done.append(number)
        return number

    async def ask_all():
        turns = Turns(executor)
        tasks = [asyncio.create_task(turns.take("page words", lambda: work(0)))]
        while not began.is_set():
            await asyncio.sleep(0)
        for number in range(1, 20):
            tasks.append(asyncio.create_task(turns.take("page words", lambda n=number: work(n))))
        other = asyncio.create_task(turns.take("another page", lambda: "its own"))
        await asyncio.sleep(0)
        go_on.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        return answers, await other, turns._newest

    answers, other, left = asyncio.run(ask_all())
    assert done == [0, 19]
    assert answers[0] == 0
    assert answers[-1] == 19
    assert all(isinstance(answer, Superseded) for answer in answers[1:-1])
    assert other == "its own"
    assert left == {}


def test_a_long_answer_lets_others_in_and_ends_when_it_is_overtaken(executor):
    log = []

    def long(name):
        for number in range(1000):
            log.append((name, number))
            yield number

    async def read():
        turns = Turns(executor)
        first, second = [], []
        async for number in turns.stream("page", lambda: long("first")):
            first.append(number)
            if number == 3:
                assert await turns.take("page words", lambda: "between") == "between"
                newer = turns.stream("page", lambda: long("second"))
                second.append(await anext(newer))
        async for number in newer:
            second.append(number)
        return first, second

    first, second = asyncio.run(read())
    assert first == [0, 1, 2, 3]
    assert second == list(range(1000))


def test_an_error_is_that_of_the_question_alone(executor):
    async def ask():
        turns = Turns(executor)
        with pytest.raises(ZeroDivisionError):
            await turns.take("page", lambda: 1 / 0)
        return await turns.take("page", lambda: "fine")

    assert asyncio.run(ask()) == "fine"


def test_work_never_overlaps(executor):
    running, most = 0, 0

    def work():
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.001)
        running -= 1

    async def ask():
        turns = Turns(executor)
        await asyncio.gather(*(turns.take(f"page {n}", work) for n in range(20)))

    asyncio.run(ask())
    assert most == 1
