"""Build a model's ONNX graph operator by operator.

The graph is not traced. So the tied matrix is stored once, every variable axis is dynamic, names
are exactly as documented, and the graph does not depend on the version of PyTorch.

The classifier matrix is stored as ``(E, V)``. The product with the hidden state uses it directly
and a word vector is one of its columns, so a tied model needs no other matrix.

Shape letters: B sequences, T steps, N = B sequences of speech tools, V vocabulary, E embedding
width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tiedlm.export.onnx_networks import NETWORKS, Graph, Shape, array
from tiedlm.model import LanguageModel
from tiedlm.networks.state import named


def step_model(model: LanguageModel, metadata: dict[str, str]) -> Any:
    """Build ``tokens, h, c -> log_probs, next_h, next_c``.

    ``h`` and ``c`` are the state of an LSTM. The state of another network has its own names.

    Shape:
        tokens ``(B, T)`` int64; h, c, next_h, next_c ``(L, B, H)``; log_probs ``(B, T, V)``.
    """
    graph = Graph()
    tokens = graph.input("tokens", ["B", "T"], integer=True)
    state = _state_inputs(graph, model, "B")
    out_TBH, next_state = _network(graph, model, tokens, state)
    log_probs = _log_probs(graph, model, graph.op("Transpose", out_TBH, perm=[1, 0, 2]))
    graph.output("log_probs", log_probs, ["B", "T", model.config.vocab_size])
    _state_outputs(graph, model, next_state, "B")
    return graph.model("tiedlm_step", metadata)


def icefall_with_state(model: LanguageModel, metadata: dict[str, str]) -> Any:
    """Build icefall's ``x, h0, c0 -> log_softmax, next_h0, next_c0``.

    ``log_softmax`` is for the word that follows ``x``.

    Shape:
        x ``(N, L)`` int64; states ``(layers, N, H)``; log_softmax ``(N, V)``.
    """
    graph = Graph()
    x = graph.input("x", ["N", "L"], integer=True)
    state = _state_inputs(graph, model, "N", suffix="0")
    out_TBH, next_state = _network(graph, model, x, state)
    last_BH = graph.op("Gather", out_TBH, graph.constant("last", np.array(-1)), axis=0)
    graph.output("log_softmax", _log_probs(graph, model, last_BH), ["N", model.config.vocab_size])
    _state_outputs(graph, model, next_state, "N", suffix="0")
    return graph.model("rnnlm_with_state", metadata)


def icefall_no_state(model: LanguageModel, eos_id: int, metadata: dict[str, str]) -> Any:
    """Build icefall's ``x, x_lens -> nll``, the negative log-likelihood of whole sentences.

    Each sentence is read after ``<eos>``, and ``<eos>`` is predicted at its end.

    Shape:
        x ``(N, L)`` int64, any valid id where padded; x_lens ``(N,)`` int64; nll ``(N,)``.
    """
    graph = Graph()
    x = graph.input("x", ["N", "L"], integer=True)
    x_lens = graph.input("x_lens", ["N"], integer=True)
    eos = graph.constant("eos", np.array([[eos_id]]))
    rows = graph.op("Concat", graph.op("Shape", x, end=1), graph.integers(1), axis=0)
    eos_N1 = graph.op("Expand", eos, rows)
    no_state = ["" for _ in model.initial_state(1)]
    out_TBH, _ = _network(graph, model, graph.op("Concat", eos_N1, x, axis=1), no_state)
    log_probs = _log_probs(graph, model, graph.op("Transpose", out_TBH, perm=[1, 0, 2]))

    one = graph.constant("one", np.array(1))
    columns = graph.op("Squeeze", graph.op("Shape", x, start=1, end=2), graph.integers(0))
    zero = graph.constant("zero", np.array(0))
    positions = graph.op("Range", zero, graph.op("Add", columns, one), one)
    ends_N1 = graph.op("Unsqueeze", x_lens, graph.integers(1))
    targets = graph.op(
        "Where",
        graph.op("Equal", positions, ends_N1),
        eos,
        graph.op("Concat", x, eos_N1, axis=1),
    )
    indices = graph.op("Unsqueeze", targets, graph.integers(2))
    chosen = graph.op("GatherElements", log_probs, indices, axis=2)
    chosen = graph.op("Squeeze", chosen, graph.integers(2))
    counted = graph.op(
        "Where",
        graph.op("LessOrEqual", positions, ends_N1),
        chosen,
        graph.constant("nothing", np.zeros((), np.float32)),
    )
    total = graph.op("ReduceSum", counted, graph.integers(1), keepdims=0)
    graph.output("nll", graph.op("Neg", total), ["N"])
    return graph.model("rnnlm_no_state", metadata)


def _state_shapes(model: LanguageModel, batch: str) -> dict[str, Shape]:
    """Return the shape of each part of the state, by its name."""
    parts = named(model.initial_state(1))
    return {name: [part.shape[0], batch, *part.shape[2:]] for name, part in parts.items()}


def _state_inputs(graph: Graph, model: LanguageModel, batch: str, suffix: str = "") -> list[str]:
    shapes = _state_shapes(model, batch)
    return [graph.input(name + suffix, shape) for name, shape in shapes.items()]


def _state_outputs(
    graph: Graph, model: LanguageModel, state: list[str], batch: str, suffix: str = ""
) -> None:
    shapes = _state_shapes(model, batch)
    for source, (name, shape) in zip(state, shapes.items(), strict=True):
        graph.output(f"next_{name}{suffix}", source, shape)


def _network(
    graph: Graph, model: LanguageModel, tokens_BT: str, state: list[str]
) -> tuple[str, list[str]]:
    """Append embedding and network, and return the outputs ``(T, B, H)`` and the next state.

    Empty names stand for a state of zeros.
    """
    tokens_TB = graph.op("Transpose", tokens_BT, perm=[1, 0])
    if model.config.tied:
        x_ETB = graph.op("Gather", _classifier(graph, model), tokens_TB, axis=1)
        out = graph.op("Transpose", x_ETB, perm=[1, 2, 0])
    else:
        embedding = graph.constant("embedding", array(model.embedding.weight))
        out = graph.op("Gather", embedding, tokens_TB, axis=0)
    return NETWORKS[model.config.network](graph, model.network, out, state)


def _log_probs(graph: Graph, model: LanguageModel, hidden: str) -> str:
    """Append classifier and log-softmax, and return log-probabilities ``(..., V)``."""
    projection = getattr(model.decoder, "projection", None)
    if projection is not None:
        weight_HE = graph.constant("projection", array(projection.weight).T)
        hidden = graph.op("MatMul", hidden, weight_HE)
    logits = graph.op("MatMul", hidden, _classifier(graph, model))
    if model.decoder.bias is not None:
        logits = graph.op("Add", logits, graph.constant("bias", array(model.decoder.bias)))
    return graph.op("LogSoftmax", logits, axis=-1)


def _classifier(graph: Graph, model: LanguageModel) -> str:
    return graph.constant("classifier", array(model.decoder.weight).T)
