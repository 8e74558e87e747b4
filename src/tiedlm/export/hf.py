"""Export a run as a Hugging Face folder that transformers loads without tiedlm.

``tiedlm.load`` reads the folder too, because it has the tensors and the vocabulary of a run.
Writing the folder needs huggingface_hub for the model card. Checking it needs transformers.

Shape letters: B sequences, T steps, V vocabulary.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save as save_tensors

from tiedlm import files
from tiedlm.data import Vocabulary
from tiedlm.data.find import has_name
from tiedlm.data.pieces import PIECES, PieceVocabulary
from tiedlm.data.tokenizer import EOS
from tiedlm.environment_variables import HF_MODULES_CACHE, read, set_default
from tiedlm.errors import UserError, require
from tiedlm.export.model_card import RECORDED, card_library, model_card, result_of
from tiedlm.export.piece_tokenizer import adds_special_tokens, tokenizer_config, tokenizer_json
from tiedlm.export.start_of_text import start_with
from tiedlm.export.supported import HF_SOURCE, hf_networks, require_network
from tiedlm.export.word_tokenizer import tokenizer_files
from tiedlm.folders import files_together
from tiedlm.model import LanguageModel
from tiedlm.training.run import digest_of, load, read_tensors
from tiedlm.training.run_files import CHECKPOINT, CONFIG, KEPT, VOCABULARY, WEIGHTS, corpus_info
from tiedlm.training.settings import Settings

CODE = sorted(path.name for path in HF_SOURCE.glob("*_*.py") if path.name != "__init__.py")
MARKER = "modeling_tiedlm.py"  # in every export
TOLERANCE = 1e-5
_ABOUT_TEXT = ("name", "tokenizer", PIECES)  # what config.json says about the corpus


class HuggingFaceReport(NamedTuple):
    """The result of an export.

    Args:
        folder: the exported folder.
        parameters: number of distinct parameters.
        largest_difference: largest difference between the logits of transformers and tiedlm, or
            None if they were not compared.
    """

    folder: Path
    parameters: int
    largest_difference: float | None


def export_hf(
    run: Path,
    folder: Path,
    *,
    check: bool = True,
    licence: str | None = None,
    language: str | None = None,
    start: str = "none",
) -> HuggingFaceReport:
    """Export a run's best model as a folder for ``AutoModelForCausalLM.from_pretrained``.

    Args:
        run: a run folder.
        folder: a new or empty folder, or an earlier export.
        check: whether to load the folder with transformers and compare its logits.
        licence: licence of the weights for the model card, such as "apache-2.0".
        language: language of the text for the model card, such as "en".
        start: "eos" has the tokenizer put ``<eos>`` in front of every text; "none" adds nothing.

    Raises:
        UserError: if the run cannot be read, the folder holds something else or has a name that is
            not UTF-8, a library is missing, or the logits differ by more than 1e-5.
    """
    model = prepare(run, folder, check)
    with files_together(folder, MARKER, "export") as new:
        difference = write(
            model, run, new, check=check, licence=licence, language=language, start=start
        )
        refuse_difference(difference, folder)
    return HuggingFaceReport(folder, model.num_params(), difference)


def prepare(run: Path, folder: Path, check: bool) -> LanguageModel:
    """Load the model to export, and refuse what cannot be exported before anything is written.

    Raises:
        UserError: as :func:`export_hf`.
    """
    files.check_utf8(folder, "transformers cannot read such a folder")
    model = load(run)
    require_network(model, "hf", hf_networks())
    card_library()
    if check:
        _copy_code_to_temporary_folder()
        require("transformers", "hf", "checking the export (or pass --no-check)")
    return model


def write(
    model: LanguageModel,
    run: Path,
    new: Path,
    *,
    check: bool,
    licence: str | None = None,
    language: str | None = None,
    start: str = "none",
) -> float | None:
    """Write the files of an export into a temporary folder, and compare their logits.

    Args:
        model: loaded from ``run``.
        run: as in :func:`export_hf`.
        new: an empty folder with the name of the export.
        check: as in :func:`export_hf`.
        licence: licence of the weights for the model card.
        language: language of the text for the model card.
        start: as in :func:`export_hf`.

    Returns:
        The largest difference of a logit, or None if it was not checked.

    Raises:
        UserError: if a file cannot be written.
    """
    vocabulary = model.vocabulary
    assert vocabulary is not None
    run_config = files.read_json(run / CONFIG)
    corpus = corpus_info(run)
    raw_text = corpus["tokenizer"] == "tiedlm"

    result = result_of(run)
    files.write_json(new / CONFIG, _config(model, vocabulary, run_config) | {RECORDED: result})
    _copy_weights(run / WEIGHTS, new / WEIGHTS, digest_of(model, run_config.get("id", "")))
    vocabulary.save(new / VOCABULARY)
    ids = {"bos_token_id": vocabulary.eos_id, "eos_token_id": vocabulary.eos_id}
    ids["pad_token_id"] = vocabulary.eos_id
    files.write_json(new / "generation_config.json", ids)
    mark = EOS
    if isinstance(vocabulary, PieceVocabulary):
        mark = vocabulary.token(vocabulary.eos_id)
        written = {"tokenizer_config.json": tokenizer_config(vocabulary)}
        if start == "eos" or adds_special_tokens(vocabulary):
            written["tokenizer.json"] = tokenizer_json(vocabulary)  # over the run's
    else:
        written = tokenizer_files(vocabulary, raw_text)
    for name, value in written.items():
        if name == "tokenizer.json" and start == "eos":
            value = start_with(mark, vocabulary.eos_id, value)
        files.write_json(new / name, value)
    for name in CODE:
        files.write_text(new / name, (HF_SOURCE / name).read_text(encoding="utf-8"))
    title = files.readable(_title(run))
    card = model_card(
        title, model, Settings.of_run(run), result, corpus["name"], raw_text, licence, language,
        start, run_config["tiedlm"],
    )  # fmt: skip
    files.write_text(new / "README.md", card)
    return largest_difference(model, new) if check else None


def refuse_difference(difference: float | None, folder: Path) -> None:
    """Refuse to write ``folder`` if a logit differs by more than 1e-5.

    Raises:
        UserError: with the difference.
    """
    if difference is not None and difference > TOLERANCE:
        raise UserError(
            f"{folder} was not written: logits in transformers differ by {difference:.1e} from "
            "tiedlm's; please report this"
        )


def _copy_code_to_temporary_folder() -> None:
    """Have transformers copy the code that it checks to a temporary folder, unless the user chose.

    By default transformers uses the home folder, which may be read-only. If there is no home
    folder, it creates a folder called ``~``. It reads the variable when it is first imported.
    """
    if not read(HF_MODULES_CACHE):
        folder = tempfile.mkdtemp(prefix="tiedlm-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        set_default(HF_MODULES_CACHE, folder)


def _title(run: Path) -> str:
    """Return the name of a run, with the number of words for weights kept by ``--keep-at``."""
    run = run.resolve()
    if run.parent.name == KEPT:
        return f"{run.parent.parent.name} after {run.name} words"
    return run.name


def _copy_weights(source: Path, target: Path, digest: str) -> None:
    """Copy a run's tensors, with the metadata that transformers requires.

    Args:
        source: the run's weights.
        target: the file to write.
        digest: the SHA-256 that the weights had when the model was loaded.

    Raises:
        UserError: if training has replaced the weights since.
    """
    tensors, metadata = read_tensors(source)
    if metadata.get("sha256") != digest:
        raise UserError(f"{source} has changed since it was loaded; export it again")
    files.write_bytes(target, save_tensors(tensors, metadata=metadata | {"format": "pt"}))


def _config(
    model: LanguageModel, vocabulary: Vocabulary, run_config: dict[str, Any]
) -> dict[str, Any]:
    """Return ``config.json``, with the fields of transformers and of ``tiedlm.load``.

    Paths on the machine that trained the model are left out.
    """
    corpus = run_config["corpus"]
    settings = run_config["settings"]
    data = settings["data"] if has_name(settings["data"] or "") else ""
    settings = settings | {"data": data, "init_from": None}
    if settings.get("pieces") is not None:
        settings["pieces"] = Path(settings["pieces"]).name
    if settings.get("soft_target_from") is not None:
        settings["soft_target_from"] = Path(settings["soft_target_from"]).name
    return {
        "model_type": "tiedlm",
        "architectures": ["TiedLMForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_tiedlm.TiedLMConfig",
            "AutoModel": "modeling_tiedlm.TiedLMModel",
            "AutoModelForCausalLM": "modeling_tiedlm.TiedLMForCausalLM",
            "AutoModelForSequenceClassification": (
                "modeling_tiedlm.TiedLMForSequenceClassification"
            ),
        },
        "custom_pipelines": {
            "text-generation": {
                "impl": "pipeline_tiedlm.TiedLMTextGenerationPipeline",
                "pt": ["AutoModelForCausalLM"],
            }
        },
        "vocab_size": model.config.vocab_size,
        "network": model.config.network,
        "network_options": dict(model.config.options),
        "d_embed": model.config.d_embed,
        "d_hidden": model.config.d_hidden,
        "n_layers": model.config.n_layers,
        "hidden_size": model.network.d_hidden,
        "decoder_bias": model.config.has_decoder_bias,
        "tie_word_embeddings": model.config.tied,
        "initializer_range": model.config.init_range,
        "bos_token_id": vocabulary.eos_id,
        "eos_token_id": vocabulary.eos_id,
        "pad_token_id": vocabulary.eos_id,
        "torch_dtype": "float32",
        "format": run_config["format"],
        "id": run_config.get("id", ""),
        "tiedlm": run_config["tiedlm"],
        "settings": settings,
        "model": run_config["model"],
        "corpus": {name: corpus[name] for name in _ABOUT_TEXT if name in corpus},
        **({CHECKPOINT: run_config[CHECKPOINT]} if CHECKPOINT in run_config else {}),
    }


def largest_difference(model: LanguageModel, folder: Path, length: int = 200) -> float:
    """Return the largest difference in logits between a model and its export, on random words.

    Both compute in float64, because rounding in float32 can exceed the tolerance.
    """
    transformers = require("transformers", "hf", "checking the export")
    transformers.utils.logging.disable_progress_bar()
    exported = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    generator = np.random.default_rng(0)
    ids_BT = torch.from_numpy(generator.integers(0, model.config.vocab_size, size=(2, length)))
    with torch.no_grad():
        logits_BTV = exported.eval().double()(ids_BT).logits
        hidden_BTH, _ = model.double()(ids_BT)
        difference = float((logits_BTV - model.decode(hidden_BTH)).abs().max())
    model.float()
    return difference
