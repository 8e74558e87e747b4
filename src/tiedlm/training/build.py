"""Build the model of a run from its settings, with new weights or an earlier run's weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from tiedlm.data import Corpus
from tiedlm.errors import UserError
from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.networks.options import of_evaluation
from tiedlm.training import run, run_files
from tiedlm.training.settings import Settings


def model_config(settings: Settings, vocab_size: int) -> ModelConfig:
    """Return the configuration of the model that some settings ask for."""
    names = {field.name for field in dataclasses.fields(ModelConfig)} & settings.to_dict().keys()
    shared = {name: getattr(settings, name) for name in names - {"vocab_size"}}
    return ModelConfig(vocab_size=vocab_size, **shared)


def build_model(settings: Settings, corpus: Corpus, resumes: bool) -> LanguageModel:
    """Seed the random generators and return a model with the weights that a run begins with.

    Args:
        settings: of the run.
        corpus: its vocabulary is the model's.
        resumes: whether the weights will come from a checkpoint. Then the run that ``init_from``
            names is not read.

    Raises:
        UserError: if a model of these settings cannot be made, or if the run that ``init_from``
            names cannot be loaded or does not fit.
    """
    torch.manual_seed(settings.seed)
    try:
        model = LanguageModel(model_config(settings, len(corpus.vocabulary)))
    except (ValueError, RuntimeError, OverflowError, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"a model of these settings cannot be made here: {reason}") from error
    if settings.init_from is not None and not resumes:
        start_from(model, Path(settings.init_from), corpus)
    if settings.unit_norm:
        model.normalize_word_vectors()
    return model


def start_from(model: LanguageModel, folder: Path, corpus: Corpus) -> None:
    """Load the best weights of an earlier run: a second session (the paper's footnote 4).

    Raises:
        UserError: if that run has another architecture or another vocabulary.
    """
    earlier = run.load(folder)
    for name, (theirs, ours) in _architectures(earlier.config, model.config).items():
        if theirs != ours:
            raise UserError(
                f"--init-from {folder} has {name.removeprefix('has_')} {_as_flag(theirs)}, "
                f"this run {_as_flag(ours)}: give it the same"
            )
    if earlier.vocabulary != corpus.vocabulary:
        raise UserError(f"--init-from {folder}: its vocabulary is not this corpus's")
    run.put_tensors(dict(earlier.named_parameters()), model, folder / run_files.WEIGHTS)


def _architectures(*configs: ModelConfig) -> dict[str, tuple[Any, ...]]:
    """Return, for each configuration, the values that decide the architecture by name."""
    names = ("network", "d_embed", "d_hidden", "n_layers", "tied", "has_decoder_bias")
    found = {name: tuple(getattr(config, name) for config in configs) for name in names}
    return found | {"options": tuple(of_evaluation(config.network_options) for config in configs)}


def _as_flag(value: Any) -> str:
    """Return a value of a configuration as the command line gives it."""
    if isinstance(value, dict):
        return " ".join(f"{name}={one}" for name, one in value.items()) or "none"
    return str(value)
