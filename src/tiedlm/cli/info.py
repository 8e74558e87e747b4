"""``tiedlm info``: show what this machine has, and what tiedlm uses of it."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter


def info(
    *,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show versions, threads, and the arithmetic in use and why.

    Parameters
    ----------
    json_
        Print JSON instead of text.
    """
    from tiedlm.training.hardware import machine_info

    found = machine_info()
    if json_:
        print(json.dumps(found))
        return
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {value}")
