"""Import checkpoints of pytorch/examples' word_language_model and of neural-complexity.

Both save a module with ``encoder`` (an embedding), ``rnn`` (``nn.LSTM``, ``nn.GRU`` or ``nn.RNN``)
and ``decoder`` (a linear layer with a bias). State dicts are read. A pickle of the whole module is
refused, because unpickling runs code from the file. ``pytorch_transformer.py`` reads the
Transformer of pytorch/examples.

Source: ``RNNModel`` of pytorch/examples, word_language_model/model.py, and of
vansky/neural-complexity, model.py.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiedlm.data import Vocabulary
from tiedlm.errors import UserError
from tiedlm.files import readable, write_json
from tiedlm.folders import files_together
from tiedlm.importers.pytorch_transformer import is_transformer, read_transformer
from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.training.run import config_of, environment, save_weights
from tiedlm.training.run_files import CONFIG, ENVIRONMENT, VOCABULARY, WEIGHTS
from tiedlm.training.settings import IMPORTED, Settings

SUPPORTED = (
    "LSTM, GRU and RNN checkpoints of pytorch/examples' word_language_model and of "
    "neural-complexity, and Transformers of word_language_model"
)
# Modules that PyTorch wraps around another one and whose names appear in its state dict:
# DataParallel and DistributedDataParallel, torch.compile, FSDP, activation checkpointing.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_KINDS = {1: "elman", 3: "gru", 4: "lstm"}  # keys: rows of a recurrent weight per hidden unit


class Imported(NamedTuple):
    """An imported model and the files it came from.

    Args:
        model: the model, in evaluation mode.
        checkpoint: the file of the checkpoint.
        vocabulary_file: the file of the vocabulary.
        wrappers: names in ``WRAPPERS`` that the tensors' names contained.
    """

    model: LanguageModel
    checkpoint: Path
    vocabulary_file: Path
    wrappers: tuple[str, ...] = ()


def import_checkpoint(
    checkpoint: Path, vocabulary_file: Path, options: Mapping[str, Any] | None = None
) -> Imported:
    """Load a model from a state dict and its vocabulary.

    Where a network uses two biases only as a sum, the sum is stored. The model is tied if the two
    matrices of the checkpoint are equal. Dropout is set to 0, because a state dict does not record
    it. The names in ``WRAPPERS`` are removed from the names of tensors.

    Args:
        checkpoint: a state dict written by ``torch.save``.
        vocabulary_file: a text file with one word per line, in the order of the ids.
        options: settings of the network that a state dict does not record. For a Transformer these
            are n_heads and context, by default 2 and 35 as in the program. For an RNN it is
            activation, by default tanh.

    Raises:
        UserError: if a file is missing or damaged, the checkpoint is a pickled module or has
            another architecture, or the vocabulary does not fit.
    """
    state, wrappers = _unwrapped(_load(checkpoint), checkpoint)
    if is_transformer(state):
        config, tensors = read_transformer(state, checkpoint, options or {})
    else:
        config, tensors = _read_recurrent(state, checkpoint, options or {})
    vocabulary = Vocabulary.load(vocabulary_file)
    if len(vocabulary) != config.vocab_size:
        raise UserError(
            f"{vocabulary_file} has {len(vocabulary)} words and {checkpoint} has word vectors for "
            f"{config.vocab_size}; give the vocabulary that the model was trained with"
        )
    model = LanguageModel(config)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{checkpoint} has tensors of wrong shapes: {reason}") from error
    model.vocabulary = vocabulary
    return Imported(model.eval(), checkpoint, vocabulary_file, wrappers)


def _read_recurrent(
    state: dict[str, Tensor], path: Path, options: Mapping[str, Any]
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the configuration of a recurrent model, and its tensors by their names in it."""
    config = _config(state, path, options)
    tensors = {"embedding.weight": state["encoder.weight"], "decoder.bias": state["decoder.bias"]}
    if not config.tied:
        tensors["decoder.weight"] = state["decoder.weight"]
    for layer in range(config.n_layers):
        prefix = f"{config.network}.layers.{layer}."
        for name in ("weight_ih", "weight_hh"):
            tensors[prefix + name] = state[f"rnn.{name}_l{layer}"]
        bias, recurrent_bias = (
            state[f"rnn.{name}_l{layer}"].double() for name in ("bias_ih", "bias_hh")
        )
        if config.network == "gru":  # the recurrent bias of n is within the product with r
            gates = 2 * config.d_hidden
            tensors[prefix + "recurrent_bias"] = recurrent_bias[gates:]
            recurrent_bias = torch.cat([recurrent_bias[:gates], 0 * recurrent_bias[gates:]])
        tensors[prefix + "bias"] = bias + recurrent_bias
    return config, tensors


def _load(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; expected a PyTorch checkpoint") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        if "global" not in str(error).lower():
            raise UserError(f"{path} is not a PyTorch checkpoint or is damaged") from error
        converted = f"{path.with_suffix('')}.state.pt"
        raise UserError(
            f"{path} is a whole pickled module, and unpickling runs code from the file; if you "
            f"trust it, convert it in Python, in the folder of the program that made it: "
            f"import torch; model = torch.load({str(path)!r}, map_location='cpu', "
            f"weights_only=False); torch.save(model.state_dict(), {converted!r})"
        ) from error
    except Exception as error:  # PyTorch's reader fails in many ways on other files
        raise UserError(f"{path} is not a PyTorch checkpoint or is damaged") from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(x, Tensor) for name, x in state.items()
    ):
        raise UserError(f"{path} is not a state dict; import what model.state_dict() returns")
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise UserError(
                f"{path}: tensor {name!r} has values that are not finite; use a checkpoint from "
                "before the training diverged"
            )
    return state


def _unwrapped(state: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return a state dict without the names in ``WRAPPERS``, and the names removed.

    Raises:
        UserError: if two tensors then have the same name.
    """
    found: dict[str, Tensor] = {}
    parts_of = {name: name.split(".") for name in state}
    for name, parts in parts_of.items():
        plain = ".".join(part for part in parts if part not in WRAPPERS)
        if plain in found:
            raise UserError(
                f"{path} has tensor {plain!r} twice, once inside {parts[0]!r}; save the state dict "
                "of one model"
            )
        found[plain] = state[name]
    seen = {part for parts in parts_of.values() for part in parts}
    return found, tuple(wrapper for wrapper in WRAPPERS if wrapper in seen)


def _config(state: dict[str, Tensor], path: Path, options: Mapping[str, Any]) -> ModelConfig:
    """Return the model configuration that the tensors' shapes imply.

    Raises:
        UserError: if the checkpoint is no recurrent model of one of the two programs.
    """
    for name in ("rnn.weight_hh_l0", "encoder.weight", "decoder.weight"):
        if name in state and (state[name].dim() != 2 or not state[name].numel()):
            raise UserError(
                f"{path}: tensor {name!r} is not a matrix (its shape is {tuple(state[name].shape)})"
            )
    n_layers = sum(name.startswith("rnn.weight_hh_l") for name in state)
    expected = {"encoder.weight", "decoder.weight", "decoder.bias"} | {
        f"rnn.{name}_l{layer}"
        for layer in range(max(n_layers, 1))
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    for name in sorted(state.keys() ^ expected):
        what = "has no" if name in expected else "has an unknown"
        raise UserError(f"{path} {what} tensor {name!r}; supported are {SUPPORTED}")
    embedding, decoder = state["encoder.weight"], state["decoder.weight"]
    rows, width = state["rnn.weight_hh_l0"].shape
    network = _KINDS.get(rows // width, "lstm")
    for name, bias in state.items():
        if ".bias_" in name and bias.shape != (rows,):
            raise UserError(
                f"{path} has tensors of wrong shapes: {name!r} has the shape {tuple(bias.shape)}, "
                f"expected ({rows},)"
            )
    return ModelConfig(
        network=network,
        options=options,
        vocab_size=embedding.shape[0],
        d_embed=embedding.shape[1],
        d_hidden=decoder.shape[1],
        n_layers=n_layers,
        tied=torch.equal(embedding, decoder),
        decoder_bias=True,
    )


def write_run(imported: Imported, folder: Path) -> None:
    """Write a run folder that ``score``, ``predict`` and other commands read.

    Raises:
        UserError: if the folder already holds a run or cannot be written.
    """
    if (folder / CONFIG).exists():
        raise UserError(f"{folder} already holds a run; choose another --out")
    model = imported.model
    assert model.vocabulary is not None
    names = ("network", "d_embed", "d_hidden", "n_layers", "tied")
    shape = {name: getattr(model.config, name) for name in names}
    settings = Settings(recipe=IMPORTED, options=dict(model.config.options), **shape)
    corpus = {
        "name": "unknown",
        "origin": f"imported from {readable(imported.checkpoint.name)}",
        "sha256": {
            readable(path.name): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (imported.checkpoint, imported.vocabulary_file)
        },
        "tokenizer": None,
    }
    with files_together(folder, CONFIG, "run") as new:
        model.vocabulary.save(new / VOCABULARY)
        save_weights(model, new / WEIGHTS)
        write_json(new / ENVIRONMENT, environment())
        write_json(new / CONFIG, config_of(model, settings.to_dict(), corpus))
