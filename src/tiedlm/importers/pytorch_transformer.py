"""Read the Transformer checkpoints of pytorch/examples' word_language_model.

Its ``TransformerModel`` has been saved under two sets of names. Since 2023 it is an
``nn.Transformer`` with ``input_emb``, ``encoder`` (the layers and a last norm) and ``decoder``.
Before, the layers were ``transformer_encoder``, without a last norm, and ``encoder`` the embedding.

Source: ``TransformerModel`` of pytorch/examples, word_language_model/model.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiedlm.errors import UserError
from tiedlm.model import ModelConfig
from tiedlm.networks.encoder import EncoderOptions, position_table

_OLD = (("encoder.weight", "input_emb.weight"), ("transformer_encoder.", "encoder."))
_NOT_RECORDED = ("n_heads", "context")  # which the checkpoint does not record
_PER_LAYER = (
    "self_attn.in_proj_weight",
    "self_attn.in_proj_bias",
    *(
        f"{module}.{kind}"
        for module in ("self_attn.out_proj", "linear1", "linear2", "norm1", "norm2")
        for kind in ("weight", "bias")
    ),
)


def is_transformer(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict has the names of such a Transformer."""
    return any("encoder.layers." in name for name in state)


def read_transformer(
    state: Mapping[str, Tensor], path: Path, given: Mapping[str, Any]
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the configuration of a model, and its tensors by their names in it.

    Args:
        state: the state dict.
        path: its file, for messages.
        given: n_heads and context. As in the program, the defaults are 2 heads and windows of 35
            words.

    Raises:
        UserError: if the checkpoint has other tensors or positions, or an option is not one of the
            two or does not fit.
    """
    for name in given:
        if name not in _NOT_RECORDED:
            raise UserError(f"--option {name}: give only n_heads or context; {path} has the rest")
    state = _renamed(state)
    layers = [int(found[1]) for name in state if (found := _layer_of(name))]
    n_layers = 1 + max(layers, default=0)
    expected = {"input_emb.weight", "decoder.weight", "decoder.bias", "pos_encoder.pe"}
    expected |= {f"encoder.layers.{n}.{name}" for n in range(n_layers) for name in _PER_LAYER}
    final_norm = "encoder.norm.weight" in state
    if final_norm:
        expected |= {"encoder.norm.weight", "encoder.norm.bias"}
    for name in sorted(state.keys() ^ expected):
        what = "has no" if name in expected else "has an unknown"
        raise UserError(f"{path} {what} tensor {name!r} for a Transformer of pytorch/examples")
    embedding, decoder = state["input_emb.weight"], state["decoder.weight"]
    for name in ("input_emb.weight", "decoder.weight", "encoder.layers.0.linear1.weight"):
        if state[name].dim() != 2 or not state[name].numel():
            shape = tuple(state[name].shape)
            raise UserError(f"{path}: tensor {name!r} is not a matrix (its shape is {shape})")
    inner = state["encoder.layers.0.linear1.weight"].shape[0]
    config = ModelConfig(
        vocab_size=embedding.shape[0],
        network="encoder",
        d_embed=embedding.shape[1],
        d_hidden=embedding.shape[1],
        n_layers=n_layers,
        tied=torch.equal(embedding, decoder),
        decoder_bias=True,
        options={"d_inner": inner, "final_norm": final_norm, **given},
    )
    _check_positions(state["pos_encoder.pe"], config, path)
    tensors = {"embedding.weight": embedding, "decoder.bias": state["decoder.bias"]}
    if not config.tied:
        tensors["decoder.weight"] = decoder
    of_network = (name for name in state if name.startswith("encoder."))
    return config, tensors | {name: state[name] for name in of_network}


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the newer names."""
    if not any(name.startswith("transformer_encoder.") for name in state):
        return dict(state)
    found = {}
    for name, tensor in state.items():
        new = next((new + name[len(old) :] for old, new in _OLD if name.startswith(old)), name)
        found[new] = tensor
    return found


def _layer_of(name: str) -> re.Match[str] | None:
    return re.match(r"encoder\.layers\.(\d{1,3})\.", name)


def _check_positions(table: Tensor, config: ModelConfig, path: Path) -> None:
    """Refuse a checkpoint whose position vectors are not the sines and cosines."""
    options: EncoderOptions = config.network_options
    width, context = config.d_embed, options.context
    length = len(table) if table.dim() else 0
    # The table has a row for each position of a context, or --option context=N is too large.
    fits = width % 2 == 0 and context <= length and table.numel() == length * width
    if not fits or not _holds_positions(table.reshape(length, width)[:context]):
        raise UserError(
            f"{path}: 'pos_encoder.pe' does not hold the sines and cosines of {context} positions, "
            "which the network computes"
        )


def _holds_positions(rows: Tensor) -> bool:
    """Tell whether the rows are the vectors of positions, up to the rounding of their type."""
    own = position_table(len(rows), rows.shape[1], torch.empty(0))
    rounding = torch.finfo(rows.dtype).eps if rows.is_floating_point() else 0.0
    return torch.allclose(rows.float(), own, atol=max(1e-4, rounding))
