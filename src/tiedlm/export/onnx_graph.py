"""Build a model's ONNX graph operator by operator.

The graph is written by hand, not traced. So the tied matrix is stored once, every variable axis is
dynamic, names are exactly as documented, and no version of PyTorch changes the graph.

The classifier matrix is stored as ``(E, V)``. The product with the hidden state uses it directly
and a word vector is one of its columns, so a tied model needs no other matrix.

Shape letters: B sequences, T steps, N = B sequences of speech tools, V vocabulary, E embedding
width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tiedlm.errors import require
from tiedlm.export.supported import lstm_of
from tiedlm.model import LanguageModel

OPSET = 17
IR_VERSION = 8  # read by onnxruntime since 1.12

_Shape = list[int | str]


class _Graph:
    """A graph under construction, which names the outputs of its operators."""

    def __init__(self) -> None:
        onnx = require("onnx", "onnx", "export to ONNX")
        self.helper = onnx.helper
        self.types = onnx.TensorProto
        self.from_array = onnx.numpy_helper.from_array
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def input(self, name: str, shape: _Shape, integer: bool = False) -> str:
        self.inputs.append(self._value(name, shape, integer))
        return name

    def output(self, name: str, source: str, shape: _Shape) -> None:
        self.nodes.append(self.helper.make_node("Identity", [source], [name]))
        self.outputs.append(self._value(name, shape, False))

    def _value(self, name: str, shape: _Shape, integer: bool) -> Any:
        kind = self.types.INT64 if integer else self.types.FLOAT
        return self.helper.make_tensor_value_info(name, kind, shape)

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        self.constants[name] = self.from_array(np.asarray(value, order="C"), name)
        return name

    def integers(self, *values: int) -> str:
        """Add a constant vector and return its name."""
        return self.constant("_".join(["integers", *map(str, values)]), np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator and return the name of its only output."""
        return self.ops(kind, *inputs, count=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, count: int, **attributes: Any) -> list[str]:
        """Append an operator and return the names of its outputs."""
        outputs = [f"{kind}_{len(self.nodes)}_{index}" for index in range(count)]
        self.nodes.append(self.helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def model(self, name: str, metadata: dict[str, str]) -> Any:
        graph = self.helper.make_graph(
            self.nodes, name, self.inputs, self.outputs, list(self.constants.values())
        )
        opset = self.helper.make_opsetid("", OPSET)
        model = self.helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="tiedlm"
        )
        self.helper.set_model_props(model, metadata)
        return model


def step_model(model: LanguageModel, metadata: dict[str, str]) -> Any:
    """Build ``tokens, h, c -> log_probs, next_h, next_c``.

    Shape:
        tokens ``(B, T)`` int64; h, c, next_h, next_c ``(L, B, H)``; log_probs ``(B, T, V)``.
    """
    graph = _Graph()
    tokens = graph.input("tokens", ["B", "T"], integer=True)
    state = _state_inputs(graph, model, "h", "c", "B")
    out_TBH, next_state = _network(graph, model, tokens, state)
    log_probs = _log_probs(graph, model, graph.op("Transpose", out_TBH, perm=[1, 0, 2]))
    graph.output("log_probs", log_probs, ["B", "T", model.config.vocab_size])
    _state_outputs(graph, model, next_state, "next_h", "next_c", "B")
    return graph.model("tiedlm_step", metadata)


def icefall_with_state(model: LanguageModel, metadata: dict[str, str]) -> Any:
    """Build icefall's ``x, h0, c0 -> log_softmax, next_h0, next_c0``.

    ``log_softmax`` is for the word that follows ``x``.

    Shape:
        x ``(N, L)`` int64; states ``(layers, N, H)``; log_softmax ``(N, V)``.
    """
    graph = _Graph()
    x = graph.input("x", ["N", "L"], integer=True)
    state = _state_inputs(graph, model, "h0", "c0", "N")
    out_TBH, next_state = _network(graph, model, x, state)
    last_BH = graph.op("Gather", out_TBH, graph.constant("last", np.array(-1)), axis=0)
    graph.output("log_softmax", _log_probs(graph, model, last_BH), ["N", model.config.vocab_size])
    _state_outputs(graph, model, next_state, "next_h0", "next_c0", "N")
    return graph.model("rnnlm_with_state", metadata)


def icefall_no_state(model: LanguageModel, eos_id: int, metadata: dict[str, str]) -> Any:
    """Build icefall's ``x, x_lens -> nll``, the negative log-likelihood of whole sentences.

    Each sentence is read after ``<eos>``, and ``<eos>`` is predicted at its end.

    Shape:
        x ``(N, L)`` int64, any valid id where padded; x_lens ``(N,)`` int64; nll ``(N,)``.
    """
    graph = _Graph()
    x = graph.input("x", ["N", "L"], integer=True)
    x_lens = graph.input("x_lens", ["N"], integer=True)
    eos = graph.constant("eos", np.array([[eos_id]]))
    rows = graph.op("Concat", graph.op("Shape", x, end=1), graph.integers(1), axis=0)
    eos_N1 = graph.op("Expand", eos, rows)
    out_TBH, _ = _network(graph, model, graph.op("Concat", eos_N1, x, axis=1), ("", ""))
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


def _state_inputs(
    graph: _Graph, model: LanguageModel, h: str, c: str, batch: str
) -> tuple[str, str]:
    shape: _Shape = [model.config.n_layers, batch, model.config.d_hidden]
    return graph.input(h, shape), graph.input(c, shape)


def _state_outputs(
    graph: _Graph, model: LanguageModel, state: tuple[str, str], h: str, c: str, batch: str
) -> None:
    shape: _Shape = [model.config.n_layers, batch, model.config.d_hidden]
    graph.output(h, state[0], shape)
    graph.output(c, state[1], shape)


def _network(
    graph: _Graph, model: LanguageModel, tokens_BT: str, state: tuple[str, str]
) -> tuple[str, tuple[str, str]]:
    """Append embedding and layers, and return the outputs ``(T, B, H)`` and the next state.

    Two empty names stand for a state of zeros.
    """
    n_layers = model.config.n_layers
    tokens_TB = graph.op("Transpose", tokens_BT, perm=[1, 0])
    if model.config.tied:
        x_ETB = graph.op("Gather", _classifier(graph, model), tokens_TB, axis=1)
        out = graph.op("Transpose", x_ETB, perm=[1, 2, 0])
    else:
        embedding = graph.constant("embedding", _array(model.embedding.weight))
        out = graph.op("Gather", embedding, tokens_TB, axis=0)
    h, c = (
        [name] * n_layers
        if name == "" or n_layers == 1
        else graph.ops("Split", name, count=n_layers, axis=0)
        for name in state
    )
    last_h, last_c = [], []
    for index, layer in enumerate(lstm_of(model, "onnx").typed_layers()):
        bias_G = _gates_as_onnx(layer.bias)
        weights = (
            graph.constant(f"lstm_{index}_W", _gates_as_onnx(layer.weight_ih)[None]),
            graph.constant(f"lstm_{index}_R", _gates_as_onnx(layer.weight_hh)[None]),
            graph.constant(f"lstm_{index}_B", np.concatenate([bias_G, 0 * bias_G])[None]),
        )
        out_T1BH, h_1BH, c_1BH = graph.ops(
            "LSTM", out, *weights, "", h[index], c[index],
            count=3, hidden_size=model.config.d_hidden,
        )  # fmt: skip
        out = graph.op("Squeeze", out_T1BH, graph.integers(1))
        last_h.append(h_1BH)
        last_c.append(c_1BH)
    return out, (graph.op("Concat", *last_h, axis=0), graph.op("Concat", *last_c, axis=0))


def _log_probs(graph: _Graph, model: LanguageModel, hidden: str) -> str:
    """Append classifier and log-softmax, and return log-probabilities ``(..., V)``."""
    projection = getattr(model.decoder, "projection", None)
    if projection is not None:
        weight_HE = graph.constant("projection", _array(projection.weight).T)
        hidden = graph.op("MatMul", hidden, weight_HE)
    logits = graph.op("MatMul", hidden, _classifier(graph, model))
    if model.decoder.bias is not None:
        logits = graph.op("Add", logits, graph.constant("bias", _array(model.decoder.bias)))
    return graph.op("LogSoftmax", logits, axis=-1)


def _classifier(graph: _Graph, model: LanguageModel) -> str:
    return graph.constant("classifier", _array(model.decoder.weight).T)


def _gates_as_onnx(rows_G: Tensor) -> npt.NDArray[np.float32]:
    """Reorder the gates from PyTorch's i, f, g, o to ONNX's i, o, f, g."""
    i, f, g, o = np.split(_array(rows_G), 4)
    return np.concatenate([i, o, f, g])


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array
