"""Training steps of a recurrent highway network: fast and readable layer, and the products alone.

The floor is the time of the matrix products of one step, each made once as the fast layer makes it:
the products of the recurrence one after another, the gradients of the weights at once. A step here
is the network alone, forward and backward: no embedding, no classifier.

    python benchmarks/networks.py                        # d = 830, depth 10, batch 20, 35 steps
    python benchmarks/networks.py --hidden 200 --depth 3
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from tiedlm.matmul import adder, matmul
from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.networks import RHN
from tiedlm.training.hardware import fast_arithmetic


def network(hidden: int, depth: int, fast: bool) -> RHN:
    torch.manual_seed(0)
    config = ModelConfig(
        network="rhn", vocab_size=2, d_embed=hidden, d_hidden=hidden, n_layers=1, init_range=0.04,
        dropout_input=0.75, dropout_hidden=0.25, options={"depth": depth, "dropout_output": 0.75},
    )  # fmt: skip
    made = LanguageModel(config).network
    assert isinstance(made, RHN)
    made.fast = fast
    return made


def step_of(made: RHN, x_TBE: Tensor) -> Callable[[], None]:
    def step() -> None:
        made.zero_grad()
        x = x_TBE.detach().requires_grad_()
        output, _ = made.forward_time_major(x, None)
        output.sum().backward()

    return step


def products_of(made: RHN, x_TBE: Tensor) -> Callable[[], None]:
    (layer,) = made.layers
    T, B, H = x_TBE.shape
    weights = [w.detach() for w in layer.weight_hh]
    w_ih = layer.weight_ih.detach()
    gates_TBG, x_NE = torch.randn(T, B, 2 * H) / 100, x_TBE.reshape(T * B, H)
    grad_NG, factor_NH = torch.randn(T * B, 2 * H), torch.randn(T * B, H)
    out_BH, grads = torch.zeros(B, H), torch.empty_like(layer.weight_hh)

    def step() -> None:
        matmul(x_NE, w_ih.t(), gates_TBG.view(T * B, 2 * H))
        add = [adder(w, B) for w in weights]
        for t in range(T):
            for add_product in add:
                add_product(x_TBE[t], gates_TBG[t])
        back = [adder(w.t(), B) for w in weights]
        for t in range(T):
            for add_product in back:
                add_product(grad_NG[t * B : t * B + B], out_BH)
        for grad in grads:
            matmul(grad_NG.t(), factor_NH, out=grad)
        matmul(grad_NG.t(), x_NE, out=torch.empty_like(w_ih))
        matmul(grad_NG, w_ih, out=torch.empty_like(x_NE))

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("hidden", 830), ("depth", 10), ("batch", 20), ("steps", 35)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with fast_arithmetic() as used:
        print(used)
        x_TBE = torch.randn(args.steps, args.batch, args.hidden) / 10
        fast = network(args.hidden, args.depth, True)
        ways = {
            "products alone": products_of(fast, x_TBE),
            "fast layer": step_of(fast, x_TBE),
            "readable layer": step_of(network(args.hidden, args.depth, False), x_TBE),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for round_ in range(args.rounds + 1):
            for name, step in ways.items():
                start = time.perf_counter()
                step()
                if round_:
                    seconds[name].append(time.perf_counter() - start)
    floor = statistics.median(seconds["products alone"])
    for name, found in seconds.items():
        median = statistics.median(found)
        print(f"{name:<16} {1000 * median:8.1f} ms  {median / floor:5.2f} of the products alone")


if __name__ == "__main__":
    main()
