from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys, torch
from tiedlm.training.compiler_import import leave_compiler_out
leave_compiler_out()
weight = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.{name}([weight], lr=0.5)
weight.sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
assert weight.grad is None and weight.tolist() != [1, 1]
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_an_optimizer_works_without_the_compiler(name: str):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(name=name)], check=True, capture_output=True, text=True
    )
    assert done.stdout == "False\n"
