"""Export a run as ONNX files: a step model, icefall's two signatures, and int8 versions."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import tiedlm
from tiedlm import files
from tiedlm.data import Vocabulary
from tiedlm.data.pieces import TOKENIZER, PieceVocabulary
from tiedlm.errors import UserError, require
from tiedlm.export.onnx_check import largest_difference, onnx_perplexity
from tiedlm.export.onnx_graph import icefall_no_state, icefall_with_state, step_model
from tiedlm.export.onnx_networks import IR_VERSION, OPSET, check_network
from tiedlm.export.piece_tokenizer import adds_special_tokens, tokenizer_json
from tiedlm.export.word_tokenizer import tokenizer_files
from tiedlm.folders import files_together
from tiedlm.model import LanguageModel
from tiedlm.networks.state import named
from tiedlm.training.run import load
from tiedlm.training.run_files import VOCABULARY, corpus_info

STEP, WITH_STATE, NO_STATE = "step", "with-state", "no-state"
REPORT = "export.json"
TOLERANCE = 1e-4


class OnnxReport(NamedTuple):
    """The result of an export, which ``export.json`` records too.

    Args:
        folder: the exported folder.
        sizes: size of each file in bytes.
        largest_difference: largest difference between the log-probabilities of onnxruntime and
            PyTorch.
        perplexity: perplexity of the given text under ``step.onnx``; None without a text.
        perplexity_int8: the same under ``step.int8.onnx``.
    """

    folder: Path
    sizes: dict[str, int]
    largest_difference: float
    perplexity: float | None
    perplexity_int8: float | None


def export_onnx(
    run: Path, folder: Path, *, int8_text: npt.NDArray[np.integer] | None = None
) -> OnnxReport:
    """Export a run's best model as ONNX files, and check them with onnxruntime.

    Args:
        run: a run folder.
        folder: a new or empty folder, or an earlier export.
        int8_text: word ids of a text. If given, every file also gets an int8 version, whose
            perplexity is measured on this text.

    Raises:
        UserError: if the run cannot be read, the folder holds something else, onnx or onnxruntime
            is not installed, the folder's name is not UTF-8, or log-probabilities differ by more
            than 1e-4.
    """
    files.check_utf8(folder, "onnxruntime cannot read such a folder")
    model = load(run)
    check_network(model)
    for module in ("onnx", "onnxruntime"):
        require(module, "onnx", "export to ONNX")
    vocabulary = model.vocabulary
    assert vocabulary is not None
    kind = corpus_info(run)["tokenizer"]
    graphs = _graphs(model, vocabulary, kind)
    with files_together(folder, f"{STEP}.onnx", "export") as new:
        paths = [_write(new / f"{name}.onnx", graph) for name, graph in graphs.items()]
        vocabulary.save(new / VOCABULARY)
        if not isinstance(vocabulary, PieceVocabulary):
            tokenizer = tokenizer_files(vocabulary, kind == "tiedlm")[TOKENIZER]
            files.write_json(new / TOKENIZER, tokenizer)
        elif adds_special_tokens(vocabulary):
            files.write_json(new / TOKENIZER, tokenizer_json(vocabulary))  # over the run's
        difference = largest_difference(model, paths[0])
        if difference > TOLERANCE:
            raise UserError(
                f"{folder} was not written: log-probabilities differ by {difference:.1e} from "
                "PyTorch's; please report this"
            )
        perplexities: list[float] = []
        if int8_text is not None:
            paths += [_quantize(path) for path in paths]
            perplexities = [
                onnx_perplexity(new / f"{STEP}{suffix}.onnx", int8_text) for suffix in ("", ".int8")
            ]
        report = OnnxReport(
            folder,
            {path.name: path.stat().st_size for path in paths},
            difference,
            *(perplexities or (None, None)),
        )
        about = {"tiedlm": tiedlm.__version__, "opset": OPSET, "ir_version": IR_VERSION}
        measured = report._asdict()
        del measured["folder"]
        tokens = None if int8_text is None else len(int8_text) - 1
        files.write_json(new / REPORT, about | measured | {"perplexity_tokens": tokens})
        for name in (STEP, WITH_STATE, NO_STATE):  # of an earlier export, perhaps of another run
            for suffix in ("", ".int8"):
                if f"{name}{suffix}.onnx" not in report.sizes:
                    (folder / f"{name}{suffix}.onnx").unlink(missing_ok=True)
    return report


def _graphs(model: LanguageModel, vocabulary: Vocabulary, tokenizer: str | None) -> dict[str, Any]:
    """Build the graphs with their metadata.

    The two icefall graphs have the metadata that icefall writes and sherpa-onnx reads. The graph
    with a state is written only for an LSTM, because these programs read no other state.
    """
    sizes = {
        "num_layers": str(model.config.n_layers),
        "hidden_size": str(model.config.d_hidden),
        "embedding_dim": str(model.config.d_embed),
    }
    words = {
        "sos_id": str(vocabulary.eos_id),
        "eos_id": str(vocabulary.eos_id),
        "vocab_size": str(len(vocabulary)),
    }
    icefall = {"model_type": "rnnlm", "version": "1", "model_author": "tiedlm", **words}
    unk = {} if vocabulary.unk_id is None else {"unk_id": str(vocabulary.unk_id)}
    step = {
        "model_type": "tiedlm-step",
        "version": "1",
        "tokenizer": tokenizer or "blanks",
        **words,
        **unk,
        **sizes,
    }
    with_state = icefall | {"comment": "rnnlm state"} | sizes
    no_state = icefall | {"comment": "rnnlm without state"}
    graphs = {STEP: step_model(model, step)}
    of_lstm = [model.config.n_layers, 1, model.config.d_hidden]
    state = named(model.initial_state(1))
    if list(state) == ["h", "c"] and list(state["h"].shape) == of_lstm:
        graphs[WITH_STATE] = icefall_with_state(model, with_state)
    return graphs | {NO_STATE: icefall_no_state(model, vocabulary.eos_id, no_state)}


def _write(path: Path, graph: Any) -> Path:
    require("onnx", "onnx", "export to ONNX").checker.check_model(graph, full_check=True)
    files.write_bytes(path, graph.SerializeToString())
    return path


def _quantize(path: Path) -> Path:
    """Write the int8 version of a file, with dynamically quantized activations.

    A tied matrix stays tied: word vectors and classifier share the quantized weights.
    """
    quantization = require("onnxruntime.quantization", "onnx", "--int8")
    target = path.with_suffix(".int8.onnx")
    with files.atomic_path(target) as temporary, _quiet():
        quantization.quantize_dynamic(
            path,
            temporary,
            op_types_to_quantize=["Gather", "MatMul", "LSTM"],
            weight_type=quantization.QuantType.QInt8,
        )
    return target


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantizer's warnings, which are advice for traced graphs."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
