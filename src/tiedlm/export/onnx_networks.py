"""Build an ONNX graph operator by operator, and the networks that are made of operators.

Shape letters: B sequences, T steps, E embedding width, H hidden width, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tiedlm.errors import UserError, require
from tiedlm.networks import AWDLSTM, VariationalLSTM

OPSET = 17
IR_VERSION = 8  # read by onnxruntime since 1.12

Shape = list[int | str]


class Graph:
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
        outputs = [f"{kind}_{len(self.nodes)}_{index}" for index in range(count)]
        self.nodes.append(self.helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def model(self, name: str, metadata: dict[str, str]) -> Any:
        """Return the model that has this graph."""
        graph = self.helper.make_graph(
            self.nodes, name, self.inputs, self.outputs, list(self.constants.values())
        )
        opset = self.helper.make_opsetid("", OPSET)
        model = self.helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="tiedlm"
        )
        self.helper.set_model_props(model, metadata)
        return model


def array(tensor: Tensor) -> npt.NDArray[np.float32]:
    """Return a tensor's numbers."""
    numbers: npt.NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return numbers


Network = Callable[[Graph, Any, str, list[str]], tuple[str, list[str]]]


def _lstm(
    graph: Graph, network: VariationalLSTM, out: str, state: list[str]
) -> tuple[str, list[str]]:
    h, c = (_layers_of(graph, part, network.n_layers) for part in state)
    last_h, last_c = [], []
    for index, layer in enumerate(network.typed_layers()):
        bias_G = _gates_as_onnx(layer.bias)
        weights = (
            graph.constant(f"lstm_{index}_W", _gates_as_onnx(layer.weight_ih)[None]),
            graph.constant(f"lstm_{index}_R", _gates_as_onnx(layer.weight_hh)[None]),
            graph.constant(f"lstm_{index}_B", np.concatenate([bias_G, 0 * bias_G])[None]),
        )
        out_T1BH, h_1BH, c_1BH = graph.ops(
            "LSTM", out, *weights, "", h[index], c[index], count=3, hidden_size=network.d_hidden
        )
        out = graph.op("Squeeze", out_T1BH, graph.integers(1))
        last_h.append(h_1BH)
        last_c.append(c_1BH)
    return out, [graph.op("Concat", *last_h, axis=0), graph.op("Concat", *last_c, axis=0)]


def _awd_lstm(graph: Graph, network: AWDLSTM, out: str, state: list[str]) -> tuple[str, list[str]]:
    if any(len(layer.gates) for layer in network.typed_layers()):
        raise UserError(
            "--to onnx is for the network awd_lstm without mogrifier_rounds, whose gates are no "
            "ONNX layer; --to hf exports it"
        )
    sizes = graph.integers(*network.widths)
    n_layers = len(network.widths)
    h, c = (
        [""] * n_layers if part == "" else graph.ops("Split", part, sizes, count=n_layers, axis=2)
        for part in state
    )
    last_h, last_c = [], []
    for index, layer in enumerate(network.typed_layers()):
        biases = [_gates_as_onnx(layer.bias_ih), _gates_as_onnx(layer.bias_hh)]
        weights = (
            graph.constant(f"awd_lstm_{index}_W", _gates_as_onnx(layer.weight_ih)[None]),
            graph.constant(f"awd_lstm_{index}_R", _gates_as_onnx(layer.weight_hh)[None]),
            graph.constant(f"awd_lstm_{index}_B", np.concatenate(biases)[None]),
        )
        out_T1BH, h_1BH, c_1BH = graph.ops(
            "LSTM", out, *weights, "", h[index], c[index], count=3, hidden_size=layer.d_hidden
        )
        out = graph.op("Squeeze", out_T1BH, graph.integers(1))
        last_h.append(h_1BH)
        last_c.append(c_1BH)
    return out, [graph.op("Concat", *last_h, axis=2), graph.op("Concat", *last_c, axis=2)]


def _layers_of(graph: Graph, part: str, n_layers: int) -> list[str]:
    """Return each layer's part ``(1, B, H)`` of a state; an empty name stands for zeros."""
    if part == "" or n_layers == 1:
        return [part] * n_layers
    return graph.ops("Split", part, count=n_layers, axis=0)


def _gates_as_onnx(rows_G: Tensor) -> npt.NDArray[np.float32]:
    """Reorder the gates from PyTorch's i, f, g, o to ONNX's i, o, f, g."""
    i, f, g, o = np.split(array(rows_G), 4)
    return np.concatenate([i, o, f, g])


# Name of a network -> a function that appends it to a graph. It takes the graph, the network, the
# word vectors (T, B, E) and the parts of the state, and returns the outputs and the next state.
NETWORKS: dict[str, Network] = {"lstm": _lstm, "awd_lstm": _awd_lstm}
