"""Save and load the model of a run folder, and check what is loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

import tiedlm
from tiedlm import native
from tiedlm.arithmetic import is_compiled
from tiedlm.cores import available_cores
from tiedlm.cpuinfo import processor_name
from tiedlm.data.pieces import load_vocabulary
from tiedlm.errors import UserError
from tiedlm.files import read_json, reading, write_bytes
from tiedlm.json_text import parse_json
from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.native import triton
from tiedlm.networks import registered
from tiedlm.training.run_files import CONFIG, VOCABULARY, WEIGHTS, check_is_run
from tiedlm.tying import is_tied


def save_weights(model: LanguageModel, path: Path, run_id: str = "") -> None:
    """Write the distinct parameters of a model; a tied one is written once, as ``embedding``.

    The SHA-256 in the file covers the run's id, too, so that another run's file is noticed.
    """
    tensors = _tensors(model)
    # One key only: the library writes several in an order that changes from call to call.
    write_bytes(path, save_tensors(tensors, metadata={"sha256": _digest(tensors, run_id)}))


def digest_of(model: LanguageModel, run_id: str = "") -> str:
    """Return the SHA-256 that :func:`save_weights` writes for a model."""
    return _digest(_tensors(model), run_id)


def _tensors(model: LanguageModel) -> dict[str, Tensor]:
    return {
        name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()
    }


def _digest(tensors: Mapping[str, Tensor], run_id: str) -> str:
    """Return the SHA-256 of a run's id and its tensors: names, types, shapes and bytes."""
    digest = hashlib.sha256(run_id.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file; return its tensors and its metadata.

    The library cannot open a file whose name is not UTF-8, so it is given the bytes.

    Raises:
        UserError: if the file is missing or damaged.
    """
    with reading(path, ": the run has no trained model yet"):
        data = path.read_bytes()
    try:
        tensors = load_tensors(data)
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")].decode(), str(path))
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it or train again") from error
    return tensors, header.get("__metadata__", {})


def read_weights(path: Path, run_id: str = "") -> dict[str, Tensor]:
    """Return the tensors of a weights file, checked against its SHA-256.

    Raises:
        UserError: if the file is missing or damaged, another run's, or another program's.
    """
    tensors, metadata = read_tensors(path)
    if "sha256" not in metadata:
        raise UserError(
            f"{path} has no SHA-256 to check it by: it is damaged, or another program than tiedlm "
            "wrote it; open it with that program"
        )
    if metadata["sha256"] != _digest(tensors, run_id):
        raise UserError(
            f"{path} is damaged, or another run's: its SHA-256 is not the one it should have; "
            "restore it or train again"
        )
    return tensors


def load_weights(model: LanguageModel, path: Path, run_id: str = "") -> None:
    """Load a weights file into a model of the same configuration.

    Raises:
        UserError: if the file is missing, damaged or another run's, if a tensor is missing,
            unexpected, of another shape or not finite, or if the tie that the configuration
            promises does not hold.
    """
    put_tensors(read_weights(path, run_id), model, path)


def put_tensors(tensors: Mapping[str, Tensor], model: LanguageModel, path: Path) -> None:
    """Copy the tensors of a file into a model.

    Args:
        tensors: name of a parameter -> its values.
        model: of the same configuration.
        path: the file, for messages.

    Raises:
        UserError: as in :func:`load_weights`.
    """
    expected = dict(model.named_parameters())
    for name in expected.keys() | tensors.keys():
        if name not in tensors:
            raise UserError(f"{path}: tensor {name!r} is missing; is it another model's file?")
        if name not in expected:
            raise UserError(
                f"{path}: tensor {name!r} does not belong to a model of this configuration"
            )
        if tensors[name].shape != expected[name].shape:
            raise UserError(
                f"{path}: tensor {name!r} has shape {tuple(tensors[name].shape)}, "
                f"{CONFIG} says {tuple(expected[name].shape)}"
            )
        if not tensors[name].isfinite().all():
            raise UserError(f"{path}: tensor {name!r} has values that are not finite")
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(tensors[name])
    if model.config.tied != is_tied(model.embedding, model.decoder):
        raise UserError(f"{path}: {CONFIG} says tied={model.config.tied}, the model is otherwise")


def _check_knows_network(config: Any, folder: Path) -> None:
    """Refuse the run of a network that nobody has registered in this process."""
    model = config.get("model") if isinstance(config, dict) else None
    name = model.get("network") if isinstance(model, dict) else None
    if isinstance(name, str) and name not in registered():
        raise UserError(
            f"{folder}: network {name!r} is not registered; tiedlm does not have it, so use the "
            "run in the program that registers it, which can call tiedlm.cli.main"
        )


def load(folder: Path | str, device: str | torch.device = "cpu") -> LanguageModel:
    """Load the best model of a run, in evaluation mode.

    Args:
        folder: a run folder, or a folder that ``tiedlm export --to hf`` wrote.
        device: where its parameters go.

    Returns:
        The model; ``model.vocabulary`` is the :class:`tiedlm.Vocabulary` it was trained with.

    Raises:
        UserError: if the folder is neither, or one of its files is missing or damaged.
    """
    folder = Path(folder)
    check_is_run(folder)
    config = read_json(folder / CONFIG)
    _check_knows_network(config, folder)
    try:
        model_config = ModelConfig(**config["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / CONFIG}: 'model' is not a model configuration: {error}"
        ) from error
    corpus = config.get("corpus")
    tokenizer = corpus.get("tokenizer") if isinstance(corpus, dict) else None
    vocabulary = load_vocabulary(folder / VOCABULARY, tokenizer)
    if len(vocabulary) != model_config.vocab_size:
        raise UserError(
            f"{folder / VOCABULARY} has {len(vocabulary)} words, {CONFIG} says "
            f"{model_config.vocab_size}: the vocabulary does not match the model"
        )
    tensors = read_weights(folder / WEIGHTS, config.get("id", ""))
    try:
        if model_config.num_params() > (folder / WEIGHTS).stat().st_size:
            raise UserError(
                f"{folder / CONFIG}: 'model' has more parameters than {WEIGHTS} has bytes; does it "
                "belong to another run?"
            )
        model = LanguageModel(model_config)
    except (RuntimeError, OverflowError, TypeError, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{folder / CONFIG}: 'model' describes a model that cannot be built here: {reason}"
        ) from error
    put_tensors(tensors, model, folder / WEIGHTS)
    model.vocabulary = vocabulary
    return model.to(device).eval()


# The keys of the environment that decide how numbers are rounded.
ARITHMETIC = (
    "torch",
    "processor",
    "threads",
    "compiled",
    "cuda",
    "triton",
    "gpu_shared_by",
    "cuda_graph",
    "device",
    "processes",
)


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Return everything on which a result depends: versions, processor, threads, and the device."""
    with_cuda = torch.cuda.is_available()
    return {
        "tiedlm": tiedlm.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "compiled": is_compiled(),
        "cuda": torch.cuda.get_device_name() if with_cuda else None,
        "triton": triton.version(),
        **({"gpu_shared_by": native.gpu_shared_by()} if with_cuda else {}),
        **({} if device is None else {"device": device.type}),
    }


def config_of(
    model: LanguageModel, settings: dict[str, Any], corpus: dict[str, Any]
) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    return {
        "format": 1,
        "tiedlm": tiedlm.__version__,
        "settings": settings,
        "model": dataclasses.asdict(model.config),
        "corpus": corpus,
    }
