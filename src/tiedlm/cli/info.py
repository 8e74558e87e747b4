"""``tiedlm info``: show what this machine has, and what tiedlm uses of it."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter


def info(
    *,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
    networks: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show versions, threads, and the arithmetic in use and why.

    Parameters
    ----------
    json_
        Print JSON instead of text.
    networks
        Show the networks that `tiedlm train --network` takes, and their options.
    """
    if networks:
        _show_networks(json_)
        return
    from tiedlm.training.hardware import machine_info

    found = machine_info()
    if json_:
        print(json.dumps(found))
        return
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {value}")


def _show_networks(as_json: bool) -> None:
    """Print the networks and their options: name, default, help."""
    from tiedlm.networks import describe_options, options_class, registered

    found = {name: describe_options(options_class(name)) for name in registered()}
    if as_json:
        keys = ("name", "default", "help")
        print(
            json.dumps(
                {name: [dict(zip(keys, o, strict=True)) for o in found[name]] for name in found}
            )
        )
        return
    for name, options in found.items():
        print(name + ("" if options else "  no options"))
        for option, default, text in options:
            print(f"  --option {option}={default:<{24 - len(option)}} {text}")
