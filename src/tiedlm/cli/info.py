"""``tiedlm info``: show what this machine has, and what tiedlm uses of it."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from tiedlm.cli import help_groups
from tiedlm.errors import UserError
from tiedlm.json_text import to_json

_USED_BY = {"library": "bare calls", "commands": "commands"}
_LEGEND = """
used by     bare calls: a script that calls the library and changes no setting;
            commands: `tiedlm train` and the others, where PyTorch's own way is oneDNN
d           width of the embedding and of every layer, at 10,000 words and 20 streams
made by     the way in use: plain, unless another one takes at most 0.95 of its time
the ways    milliseconds of a part of such a product, so compare inside a row only.
            plain: PyTorch's own way; blocks: the same, block by block; compiled: tiedlm's kernel;
            transposed: the product of the transposed factors; MKL, oneDNN: by that library, for
            the recurrent steps with the weight laid out once
error       largest error against float64, relative to |a| |b|; float32 has up to 1e-06"""

_SHOWN, _OUTPUT = help_groups("What to show", "Output")


def info(
    *,
    measure: Annotated[bool, Parameter(group=_SHOWN, negative="")] = False,
    networks: Annotated[bool, Parameter(group=_SHOWN, negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", group=_OUTPUT, negative="")] = False,
) -> None:
    """Show versions, threads, and the arithmetic in use and why.

    Parameters
    ----------
    measure
        Show how the matrix products of training are computed, and the time of each way. Products
        that are new on this machine are measured first.
    networks
        Show the networks that `tiedlm train --network` takes, and their options.
    json_
        Print JSON instead of text.
    """
    if networks and measure:
        raise UserError("--networks and --measure show different things: give one of them")
    if networks:
        _show_networks(json_)
        return
    from tiedlm.training.hardware import machine_info, measured_products

    found = machine_info()
    if measure:
        found["products"] = measured_products()
    if json_:
        print(to_json(found))
        return
    products = found.pop("products", [])
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {value}")
    if products:
        print(f"\n{_table(products)}{_LEGEND}")


def _table(products: list[dict[str, Any]]) -> str:
    """Return the measured products as a table of milliseconds."""
    from tiedlm.experiments.reproduce import markdown_table

    ways = list(dict.fromkeys(way for row in products for way in row["milliseconds"]))
    body = []
    for row in products:
        times, errors, route = row["milliseconds"], row["errors"], row["route"]
        each = (f"{times[way]:.2f}" if way in times else "" for way in ways)
        error = f"{errors[route]:.0e}" if route in errors else ""
        body.append((_USED_BY[row["in"]], f"{row['d']}", row["product"], route, *each, error))
    heading = ("used by", "d", "product", "made by", *(f"{way}, ms" for way in ways), "error")
    return markdown_table(heading, body)


def _show_networks(as_json: bool) -> None:
    """Print the networks and their options: name, default, help."""
    from tiedlm.networks import about, describe_options, options_class, registered

    found = {name: describe_options(options_class(name)) for name in registered()}
    if as_json:
        keys = ("name", "default", "help")
        print(
            to_json(
                {name: [dict(zip(keys, o, strict=True)) for o in found[name]] for name in found}
            )
        )
        return
    for name, options in found.items():
        facts = "; ".join(filter(None, (about(name), "" if options else "no options")))
        print(f"{name}: {facts}" if facts else name)
        for option, default, text in options:
            print(f"  --option {option}={default:<{24 - len(option)}} {text}")
