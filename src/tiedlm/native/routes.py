"""Measure once which way to compute a matrix product is fastest here, and keep the choice.

Which library is fastest depends on the processor and on the shapes, and they differ by up to a
factor of two. So the first product of a kind is timed in each way, for some hundredths of a second,
and compared with float64. PyTorch's own way is kept unless another way takes at most 0.95 of its
time.

The choice is kept in the cache folder, for this processor, this PyTorch and this number of threads.
It is never measured again, because another choice would round differently in the next process. If
the cache cannot be written, nothing is measured, and PyTorch's own way is used.

:mod:`tiedlm.matmul` and ``processor.py`` define the trials that are measured here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiedlm.cpuinfo import processor_lines
from tiedlm.environment_variables import of_libraries
from tiedlm.errors import UserError
from tiedlm.files import cache_folder, lock, read_json, write_json
from tiedlm.native.locks import ForkSafeLock

# The largest |C - C_exact| / (|A| |B|) that still counts as float32 arithmetic: 16 units in the
# last place. bfloat16 operands leave about 2**-9.
FP32_LEVEL = 16 * 2.0**-24

_VERSION = 3  # raised when a way changes, so that all kinds are measured anew
_MARGIN = 0.95  # a way replaces the usual one if it takes at most this share of its time
_ROUNDS, _SECONDS = 10, 0.04  # of timing a kind: most rounds, and the time after which none begins
_SLOWER = 1.3  # after a round, ways that are this many times slower than the fastest are left out
_PATIENCE = 120  # seconds to wait for another process that measures

# Does the preparation that is needed once, and returns the function that computes a product.
Way = Callable[[], Callable[[], Any]]


class Trial(NamedTuple):
    """The ways to compute one kind of product, which are to be measured.

    Args:
        ways: name -> way; the first one is the usual way.
        error: returns the relative error of a product.
        level: the largest error that is allowed.
        uses: number of products that share one preparation.
    """

    ways: Mapping[str, Way]
    error: Callable[[Any], float]
    level: float = FP32_LEVEL
    uses: int = 1


class Choice(NamedTuple):
    """The way that was chosen, and what was measured.

    Args:
        route: name of the way.
        milliseconds: name of each way -> time of a product; empty if nothing was measured.
        errors: name of each way -> its relative error; empty if nothing was measured.
    """

    route: str
    milliseconds: dict[str, float]
    errors: dict[str, float]


_choices: dict[str, Choice] = {}
_measuring = ForkSafeLock()
_reason = ""


def choose(kind: str, usual: str, trial: Callable[[], Trial]) -> Choice:
    """Return the choice for a kind of product with the threads in use.

    Args:
        kind: name of the kind, under which the choice is kept.
        usual: the way to use if nothing can be measured.
        trial: returns the trial; called if the kind has to be measured.
    """
    name = f"{kind}, {torch.get_num_threads()} threads"
    choice = _choices.get(name)
    if choice is None:
        with _measuring:
            choice = _choices.get(name)
            if choice is None:
                choice = _choices[name] = _kept(name, usual, trial)
    return choice


def why_not() -> str:
    """Return why nothing can be measured here; "" if it can, or was not needed yet."""
    return _reason


def info() -> str:
    """Return the line of ``tiedlm info`` on how tiedlm makes its products."""
    if _reason:
        return f"PyTorch's usual way (nothing is measured: {_reason})"
    return "the fastest way, measured once for each kind; --measure shows it"


def _kept(name: str, usual: str, trial: Callable[[], Trial]) -> Choice:
    """Return the choice from the cache; measure a new kind first."""
    global _reason
    try:
        path = cache_folder() / "native" / f"routes-{machine()}.json"
        found = _read(path).get(name)
        if found is None:
            with lock(path.parent, _PATIENCE):
                kept = _read(path)  # another process may have measured
                found = kept.get(name)
                if found is None:
                    found = kept[name] = _measure_apart(trial)
                    write_json(path, {name: one._asdict() for name, one in kept.items()})
        return found
    except (UserError, OSError) as error:
        _reason = " ".join(str(error).split())
        return Choice(usual, {}, {})


def _read(path: Path) -> dict[str, Choice]:
    """Return the choices of a file; a file that is missing or damaged has none."""
    try:
        return {name: Choice(**choice) for name, choice in read_json(path).items()}
    except (UserError, TypeError, AttributeError):
        return {}


def _measure_apart(trial: Callable[[], Trial]) -> Choice:
    """Measure in another thread, where the caller's autocast and PyTorch modes are not on."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: measure(trial())).result()


@torch.no_grad()
def measure(trial: Trial) -> Choice:
    """Time each way that works and is exact, in turns, and choose."""
    errors = {}
    for name, way in trial.ways.items():  # first, because timing may add to the result
        try:
            error = trial.error(way()())
        except (RuntimeError, AttributeError, NotImplementedError):
            continue  # this PyTorch cannot do it
        errors[name] = error if error < 1 else 1.0  # also for NaN
    times = {name: _seconds(trial.ways[name], trial.uses) for name in errors}
    usual = next(iter(trial.ways))
    exact = [name for name in times if errors[name] <= trial.level or name == usual]
    end = time.perf_counter() + _SECONDS
    for number in range(_ROUNDS):
        for name in exact:
            if number == 0 or times[name] <= _SLOWER * min(times[one] for one in exact):
                times[name] = min(times[name], _seconds(trial.ways[name], trial.uses))
        if time.perf_counter() > end:
            break
    fastest = min(exact, key=times.__getitem__, default=usual)
    wins = usual not in times or times[fastest] <= _MARGIN * times[usual]
    milliseconds = {name: round(1e3 * seconds, 3) for name, seconds in times.items()}
    return Choice(fastest if wins else usual, milliseconds, errors)


def error_of(product: Tensor, a: Tensor, b: Tensor) -> float:
    """Return the largest error of ``a @ b`` against float64, relative to ``|A| |B|``.

    Only some rows and columns at the beginning and the end of the matrices are compared.
    """
    rows, columns = (
        torch.cat((every[:24], every[-24:]))
        for every in (torch.arange(count, device="cpu") for count in product.shape)
    )
    a, b = a[rows].double(), b[:, columns].double()
    difference = product[rows][:, columns].double() - a @ b
    return float((difference.abs() / (a.abs() @ b.abs())).max())


def _seconds(way: Way, uses: int) -> float:
    """Return the time of a product, including its share of the preparation."""
    start = time.perf_counter()
    run = way()
    prepared = time.perf_counter()
    run()
    return (prepared - start) / uses + time.perf_counter() - prepared


@cache
def machine() -> str:
    """Return a name for everything on which the choices depend, such as processor and PyTorch."""
    parts = (
        str(_VERSION), torch.__version__, torch.backends.cpu.get_cpu_capability(),
        *processor_lines(), *of_libraries(),
    )  # fmt: skip
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def in_use() -> dict[str, Any]:
    """Return the machine and the choices that this process has made, for :func:`as_recorded`."""
    return {"machine": machine(), "choices": {name: one.route for name, one in _choices.items()}}


@contextmanager
def as_recorded(record: Mapping[str, Any] | None) -> Iterator[None]:
    """Use the choices of :func:`in_use` of an earlier process inside a ``with`` block.

    A record of another machine is ignored. At the end of the block its choices are forgotten.
    """
    before = dict(_choices)
    if record is not None and record["machine"] == machine():
        _choices.update({name: Choice(route, {}, {}) for name, route in record["choices"].items()})
    try:
        yield
    finally:
        _choices.clear()
        _choices.update(before)
