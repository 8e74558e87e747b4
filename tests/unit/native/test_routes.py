"""Which way of a product is the fastest: measured once, kept, and the same ever after."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tiedlm.native import routes
from tiedlm.native.routes import Choice, Trial, choose


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A process that has measured nothing, with an empty cache."""
    monkeypatch.setenv("TIEDLM_CACHE", str(tmp_path))
    monkeypatch.setattr(routes, "_choices", {})
    monkeypatch.setattr(routes, "_reason", "")
    return tmp_path


class Ways:
    """Ways that take given seconds and have given errors, and count what they do."""

    def __init__(self, monkeypatch, seconds, errors=None):
        self.measured, self.seconds, self.errors = 0, seconds, errors or {}
        monkeypatch.setattr(routes, "_seconds", lambda way, uses: self.seconds[way()()])

    def trial(self):
        self.measured += 1

        def way(name):
            return lambda: lambda: name

        return Trial({name: way(name) for name in self.seconds}, self._error)

    def _error(self, name):
        if self.errors.get(name) == "fails":
            raise RuntimeError(name)
        return self.errors.get(name, 0.0)


def new_process(monkeypatch):
    monkeypatch.setattr(routes, "_choices", {})


def test_a_kind_is_measured_once_on_a_machine(empty, monkeypatch):
    ways = Ways(monkeypatch, {"usual": 2.0, "other": 1.0})
    assert choose("kind", "usual", ways.trial).route == "other"
    ways.seconds = {"usual": 1.0, "other": 2.0}  # would be chosen now
    assert choose("kind", "usual", ways.trial).route == "other"
    new_process(monkeypatch)
    assert choose("kind", "usual", ways.trial).route == "other"
    assert ways.measured == 1
    assert choose("another kind", "usual", ways.trial).route == "usual"
    assert ways.measured == 2
    new_process(monkeypatch)
    assert choose("kind", "usual", ways.trial) == Choice(
        "other", {"usual": 2000.0, "other": 1000.0}, {"usual": 0.0, "other": 0.0}
    )


def test_each_number_of_threads_has_its_own_choice(empty, monkeypatch):
    ways = Ways(monkeypatch, {"usual": 2.0, "other": 1.0})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert choose("kind", "usual", ways.trial).route == "other"
    ways.seconds = {"usual": 1.0, "other": 2.0}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert choose("kind", "usual", ways.trial).route == "usual"


@pytest.mark.parametrize(("other", "route"), [(0.97, "usual"), (0.94, "other")])
def test_the_usual_way_stays_unless_another_is_clearly_faster(empty, monkeypatch, other, route):
    ways = Ways(monkeypatch, {"usual": 1.0, "other": other})
    assert choose("kind", "usual", ways.trial).route == route


def test_a_way_that_is_clearly_slower_twice_is_left_out(empty, monkeypatch):
    ways = Ways(monkeypatch, {"usual": 1.0, "slow": 1.4, "fast": 0.9})
    runs = dict.fromkeys(ways.seconds, 0)

    def seconds(way, uses):
        name = way()()
        runs[name] += 1
        return ways.seconds[name]

    monkeypatch.setattr(routes, "_seconds", seconds)
    monkeypatch.setattr(routes, "_SECONDS", 60)
    assert choose("kind", "usual", ways.trial).route == "fast"
    assert runs == {"usual": 1 + routes._ROUNDS, "slow": 2, "fast": 1 + routes._ROUNDS}


@pytest.mark.parametrize("error", [2e-6, float("nan"), float("inf"), "fails"])
def test_a_way_that_is_not_exact_or_fails_is_never_chosen(empty, monkeypatch, error):
    ways = Ways(
        monkeypatch, {"usual": 3.0, "wrong": 1.0, "right": 2.0}, {"wrong": error, "right": 9e-7}
    )
    assert choose("kind", "usual", ways.trial).route == "right"
    new_process(monkeypatch)
    assert choose("kind", "usual", ways.trial).route == "right"
    assert ways.measured == 1


@pytest.mark.parametrize("content", ["", "[]", '{"kind, 1 threads": 3}', '{"x": {"route": 1}}'])
def test_a_damaged_file_is_measured_anew(empty, monkeypatch, content):
    ways = Ways(monkeypatch, {"usual": 2.0, "other": 1.0})
    choose("kind", "usual", ways.trial)
    (path,) = (empty / "native").glob("routes-*.json")
    path.write_text(content)
    new_process(monkeypatch)
    assert choose("kind", "usual", ways.trial).route == "other"
    assert len(json.loads(path.read_text())) == 1
    assert ways.measured == 2


def test_without_a_cache_nothing_is_measured_and_the_reason_is_known(empty, monkeypatch):
    ways = Ways(monkeypatch, {"usual": 2.0, "other": 1.0})
    monkeypatch.setenv("TIEDLM_CACHE", "/proc/nowhere")
    assert choose("kind", "usual", ways.trial) == Choice("usual", {}, {})
    assert ways.measured == 0
    assert routes.why_not().startswith("cannot write /proc/nowhere")


def test_threads_that_ask_at_once_measure_once(empty, monkeypatch):
    ways = Ways(monkeypatch, {"usual": 2.0, "other": 1.0})
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(choose, "kind", "usual", ways.trial) for _ in range(16)]
        assert {one.result().route for one in found} == {"other"}
    assert ways.measured == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_forked_while_a_thread_measures_is_not_held_up(empty, monkeypatch):
    ways = Ways(monkeypatch, {"usual": 2.0, "other": 1.0})
    with routes._measuring:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if choose("kind", "usual", ways.trial).route == "other" else 1)
        assert os.waitpid(pid, 0)[1] == 0
    assert choose("kind", "usual", ways.trial).route == "other"
    assert ways.measured == 0  # here: the child has


def test_what_the_caller_has_switched_on_is_off_while_time_is_measured(empty):
    seen = {}

    def trial():
        def run():
            seen.update(
                autocast=torch.is_autocast_enabled("cpu"),
                grad=torch.is_grad_enabled(),
                inference=torch.is_inference_mode_enabled(),
                product=torch.ones(2, 2) @ torch.ones(2, 2),
            )

        return Trial({"usual": lambda: run}, lambda _: 0.0)

    before = torch.get_rng_state()
    with torch.device("meta"), torch.autocast("cpu"), torch.inference_mode():
        choose("kind", "usual", trial)
    assert (seen["autocast"], seen["grad"], seen["inference"]) == (False, False, False)
    assert seen["product"].device.type == "cpu"
    assert seen["product"].dtype == torch.float32
    assert torch.equal(torch.get_rng_state(), before)


def test_recorded_choices_serve_inside_the_block_on_the_same_machine_only(empty, monkeypatch):
    ways = Ways(monkeypatch, {"usual": 1.0, "other": 2.0})
    assert choose("kind", "usual", ways.trial).route == "usual"
    record = json.loads(json.dumps(routes.in_use()))
    (name,) = record["choices"]
    record["choices"][name] = "other"
    with routes.as_recorded(record):
        assert choose("kind", "usual", ways.trial).route == "other"
    assert choose("kind", "usual", ways.trial).route == "usual"
    with routes.as_recorded({**record, "machine": "another"}):
        assert choose("kind", "usual", ways.trial).route == "usual"
    with routes.as_recorded(None):
        assert choose("kind", "usual", ways.trial).route == "usual"


def test_another_processor_or_setting_of_the_libraries_is_another_machine(monkeypatch):
    before = routes.machine()
    for change in (
        lambda: monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41"),
        lambda: monkeypatch.setattr(routes, "processor_lines", lambda: ["flags: none"]),
        lambda: monkeypatch.setattr(torch, "__version__", "0"),
    ):
        change()
        routes.machine.cache_clear()
        assert routes.machine() != before
        monkeypatch.undo()
        routes.machine.cache_clear()
    assert routes.machine() == before


def test_the_error_of_a_product_is_found_wherever_it_is():
    a, b = torch.randn(100, 30), torch.randn(30, 60)
    product = a @ b
    assert routes.error_of(product, a, b) < routes.FP32_LEVEL
    assert routes.error_of(a.bfloat16() @ b.bfloat16(), a, b) > 1e-4
    product[-1, -1] += 1
    assert routes.error_of(product, a, b) > 1e-3


def test_the_preparation_is_shared_by_the_products_that_it_serves(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(routes.time, "perf_counter", lambda: clock[0])

    def way():
        clock[0] += 70.0

        def run():
            clock[0] += 3.0

        return run

    assert routes._seconds(way, 35) == 5.0
