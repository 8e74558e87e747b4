"""Build the ONNX graph of each network, operator by operator.

Shape letters: B sequences, T steps, E embedding width, H hidden width, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tiedlm.errors import UserError, require
from tiedlm.export.supported import require_network
from tiedlm.model import LanguageModel
from tiedlm.networks import AWDLSTM, GRU, RHN, Elman, VariationalLSTM
from tiedlm.networks.rhn import RHNLayer

OPSET = 17
IR_VERSION = 8  # read by onnxruntime since 1.12

Shape = list[int | str]
Floats = npt.NDArray[np.float32]


class Graph:
    """A graph under construction, which names the outputs of its operators."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix  # of the names in a graph inside another graph
        onnx = require("onnx", "onnx", "export to ONNX")
        self.helper = onnx.helper
        self.types = onnx.TensorProto
        self.from_array = onnx.numpy_helper.from_array
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def input(self, name: str, shape: Shape, integer: bool = False) -> str:
        """Declare an input and return its name."""
        self.inputs.append(self._value(name, shape, integer))
        return name

    def output(self, name: str, source: str, shape: Shape) -> None:
        """Declare an output: the result of an operator under another name."""
        self.nodes.append(self.helper.make_node("Identity", [source], [name]))
        self.outputs.append(self._value(name, shape, False))

    def _value(self, name: str, shape: Shape, integer: bool) -> Any:
        kind = self.types.INT64 if integer else self.types.FLOAT
        return self.helper.make_tensor_value_info(name, kind, shape)

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Store a constant under a name and return it."""
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
        outputs = [f"{self.prefix}{kind}_{len(self.nodes)}_{index}" for index in range(count)]
        self.nodes.append(self.helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def graph(self, name: str) -> Any:
        """Return the graph, for a model or for an operator that has one within."""
        return self.helper.make_graph(
            self.nodes, name, self.inputs, self.outputs, list(self.constants.values())
        )

    def model(self, name: str, metadata: dict[str, str]) -> Any:
        """Return the model that has this graph."""
        opset = self.helper.make_opsetid("", OPSET)
        model = self.helper.make_model(
            self.graph(name), opset_imports=[opset], ir_version=IR_VERSION, producer_name="tiedlm"
        )
        self.helper.set_model_props(model, metadata)
        return model


def array(tensor: Tensor) -> Floats:
    """Return a tensor's numbers."""
    numbers: Floats = tensor.detach().float().cpu().numpy()
    return numbers


Network = Callable[[Graph, Any, str, list[str]], tuple[str, list[str]]]


def _lstm(
    graph: Graph, network: VariationalLSTM, out: str, state: list[str]
) -> tuple[str, list[str]]:
    h, c = (_layers_of(graph, part, network.n_layers) for part in state)
    last_h, last_c = [], []
    for index, layer in enumerate(network.typed_layers()):
        bias_G = _gates_as_onnx(layer.bias)
        biases = (bias_G, 0 * bias_G)
        out, h_1BH, c_1BH = _lstm_layer(
            graph, f"lstm_{index}", layer, biases, out, (h[index], c[index])
        )
        last_h.append(h_1BH)
        last_c.append(c_1BH)
    return out, [graph.op("Concat", *last_h, axis=0), graph.op("Concat", *last_c, axis=0)]


def _lstm_layer(
    graph: Graph,
    name: str,
    layer: Any,
    biases: tuple[Floats, Floats],
    out: str,
    state: tuple[str, str],
) -> tuple[str, str, str]:
    """Append an LSTM layer to a graph.

    Args:
        graph: the graph.
        name: begins the names of the layer's weights.
        layer: a layer with the weights of ``torch.nn.LSTM``.
        biases: of the inputs and of the recurrence, in ONNX's order of gates.
        out: the layer's inputs ``(T, B, E)``.
        state: h and c before the first step, ``(1, B, H)``.

    Returns:
        The outputs ``(T, B, H)``, and h and c after the last step.
    """
    weights = (
        graph.constant(f"{name}_W", _gates_as_onnx(layer.weight_ih)[None]),
        graph.constant(f"{name}_R", _gates_as_onnx(layer.weight_hh)[None]),
        graph.constant(f"{name}_B", np.concatenate(biases)[None]),
    )
    width = layer.weight_hh.shape[1]
    out_T1BH, h_1BH, c_1BH = graph.ops(
        "LSTM", out, *weights, "", *state, count=3, hidden_size=width
    )
    return graph.op("Squeeze", out_T1BH, graph.integers(1)), h_1BH, c_1BH


def _gru(graph: Graph, network: GRU, out: str, state: list[str]) -> tuple[str, list[str]]:
    def weights(layer: Any) -> list[Floats]:
        zeros_2H = np.zeros(2 * network.d_hidden, np.float32)
        recurrent_bias_G = _with_update_first(zeros_2H, array(layer.recurrent_bias))
        bias_G = _with_update_first(array(layer.bias))
        return [
            _with_update_first(array(layer.weight_ih)),
            _with_update_first(array(layer.weight_hh)),
            np.concatenate([bias_G, recurrent_bias_G]),
        ]

    return _stack(graph, network, out, state, "GRU", weights, linear_before_reset=1)


def _elman(graph: Graph, network: Elman, out: str, state: list[str]) -> tuple[str, list[str]]:
    def weights(layer: Any) -> list[Floats]:
        bias_H = array(layer.bias)
        return [
            array(layer.weight_ih),
            array(layer.weight_hh),
            np.concatenate([bias_H, 0 * bias_H]),
        ]

    activation = {"tanh": "Tanh", "relu": "Relu"}[network.activation]
    return _stack(graph, network, out, state, "RNN", weights, activations=[activation])


def _stack(
    graph: Graph,
    network: GRU | Elman,
    out: str,
    state: list[str],
    kind: str,
    weights: Callable[[Any], list[Floats]],
    **attributes: Any,
) -> tuple[str, list[str]]:
    """Append a stack of one of ONNX's own recurrent layers."""
    h, last = _layers_of(graph, state[0], network.n_layers), []
    for index, layer in enumerate(network.layers):
        names = [
            graph.constant(f"{kind}_{index}_{letter}", value[None])
            for letter, value in zip("WRB", weights(layer), strict=True)
        ]
        out_T1BH, h_1BH = graph.ops(
            kind, out, *names, "", h[index], count=2, hidden_size=network.d_hidden, **attributes
        )
        out = graph.op("Squeeze", out_T1BH, graph.integers(1))
        last.append(h_1BH)
    return out, [graph.op("Concat", *last, axis=0)]


def _rhn(graph: Graph, network: RHN, out: str, state: list[str]) -> tuple[str, list[str]]:
    H = network.d_hidden
    first = graph.integers(0)
    if state[0] == "":
        batch = graph.op("Shape", out, start=1, end=2)
        shape = graph.op("Concat", graph.integers(1), batch, graph.integers(H), axis=0)
        zeros = graph.op("ConstantOfShape", shape)  # of float32, as ONNX has it
        parts = [zeros] * network.n_layers
    else:
        parts = _layers_of(graph, state[0], network.n_layers)
    last = []
    for index, layer in enumerate(network.layers):
        assert isinstance(layer, RHNLayer)
        weight_EG = graph.constant(f"rhn_{index}_W", array(layer.weight_ih).T)
        input_TBG = graph.op("MatMul", out, weight_EG)
        s_BH = graph.op("Squeeze", parts[index], first)
        s_BH, out = graph.ops(
            "Scan", s_BH, input_TBG, count=2, num_scan_inputs=1, body=_highway(graph, layer, index)
        )
        last.append(graph.op("Unsqueeze", s_BH, first))
    return out, [graph.op("Concat", *last, axis=0)]


def _highway(graph: Graph, layer: RHNLayer, index: int) -> Any:
    """Return the graph of one step of a recurrent highway layer; its weights are the caller's."""
    body = Graph(prefix := f"rhn_{index}_step_")
    D, G, H = layer.weight_hh.shape
    s, inputs = body.input(f"{prefix}s", ["B", H]), body.input(f"{prefix}x", ["B", G])
    for depth in range(D):
        weight_HG = graph.constant(f"rhn_{index}_R_{depth}", array(layer.weight_hh[depth]).T)
        bias_G = graph.constant(f"rhn_{index}_B_{depth}", array(layer.bias[depth]))
        gates = body.op("Add", body.op("MatMul", s, weight_HG), bias_G)
        if depth == 0:
            gates = body.op("Add", gates, inputs)
        h, t = body.ops("Split", gates, count=2, axis=1)
        change = body.op("Sub", body.op("Tanh", h), s)
        s = body.op("Add", s, body.op("Mul", body.op("Sigmoid", t), change))
    body.output(f"{prefix}next_s", s, ["B", H])
    body.output(f"{prefix}y", s, ["B", H])
    return body.graph(f"rhn_{index}")


def _with_update_first(*rows_G: Floats) -> Floats:
    """Reorder the gates from PyTorch's r, z, n to ONNX's z, r, n."""
    r, z, n = np.split(np.concatenate(rows_G), 3)
    return np.concatenate([z, r, n])


def _awd_lstm(graph: Graph, network: AWDLSTM, out: str, state: list[str]) -> tuple[str, list[str]]:
    sizes = graph.integers(*network.widths)
    n_layers = len(network.widths)
    h, c = (
        [""] * n_layers if part == "" else graph.ops("Split", part, sizes, count=n_layers, axis=2)
        for part in state
    )
    last_h, last_c = [], []
    for index, layer in enumerate(network.typed_layers()):
        biases = (_gates_as_onnx(layer.bias_ih), _gates_as_onnx(layer.bias_hh))
        out, h_1BH, c_1BH = _lstm_layer(
            graph, f"awd_lstm_{index}", layer, biases, out, (h[index], c[index])
        )
        last_h.append(h_1BH)
        last_c.append(c_1BH)
    return out, [graph.op("Concat", *last_h, axis=2), graph.op("Concat", *last_c, axis=2)]


def _layers_of(graph: Graph, part: str, n_layers: int) -> list[str]:
    """Return each layer's part ``(1, B, H)`` of a state; an empty name stands for zeros."""
    if part == "" or n_layers == 1:
        return [part] * n_layers
    return graph.ops("Split", part, count=n_layers, axis=0)


def _gates_as_onnx(rows_G: Tensor) -> Floats:
    """Reorder the gates from PyTorch's i, f, g, o to ONNX's i, o, f, g."""
    i, f, g, o = np.split(array(rows_G), 4)
    return np.concatenate([i, o, f, g])


# Name of a network -> a function that appends it to a graph. It takes the graph, the network, the
# word vectors (T, B, E) and the parts of the state, and returns the outputs and the next state.
NETWORKS: dict[str, Network] = {
    "lstm": _lstm,
    "awd_lstm": _awd_lstm,
    "gru": _gru,
    "elman": _elman,
    "rhn": _rhn,
}


def check_network(model: LanguageModel) -> None:
    """Refuse a network that ONNX does not have.

    Raises:
        UserError: naming what takes the network instead.
    """
    require_network(model, "onnx", NETWORKS)
    network = model.network
    if isinstance(network, AWDLSTM) and any(len(layer.gates) for layer in network.typed_layers()):
        raise UserError(
            "--to onnx is for the network awd_lstm without mogrifier_rounds, whose gates are no "
            "ONNX layer; --to hf exports it"
        )
