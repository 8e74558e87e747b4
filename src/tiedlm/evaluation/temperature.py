r"""Divide a model's logits by a temperature.

.. math:: p_\tau(w) = \frac{e^{z_w / \tau}}{\sum_v e^{z_v / \tau}}

Above 1 the distribution is flatter. That helps a model that is too sure of itself, such as one
trained for long on little text. The order of words by probability does not change.

Source: Guo et al. (2017), "On Calibration of Modern Neural Networks", section 4.2.
"""

from __future__ import annotations

import copy
from typing import cast

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from tiedlm.model import LanguageModel
from tiedlm.tying import Decoder, TiedDecoder

# The temperatures at which the validation loss is computed; the best one is then interpolated.
GRID = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0)


class TemperedDecoder(nn.Module):
    """A classifier whose logits are divided by a temperature.

    It reads the parameters of another classifier, and has none of its own.

    Args:
        decoder: the other classifier.
        temperature: tau.
    """

    def __init__(self, decoder: Decoder | TiedDecoder, temperature: float) -> None:
        super().__init__()
        self.base, self.temperature = decoder, temperature

    @property
    def weight(self) -> Tensor:
        """The other classifier's own parameter."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The other classifier's bias, divided by the temperature."""
        return None if self.base.bias is None else self.base.bias / self.temperature

    def project(self, hidden: Tensor) -> Tensor:
        """Return the vectors to multiply by ``weight``, divided by the temperature."""
        return self.base.project(hidden) / self.temperature

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits of ``hidden``."""
        return nn.functional.linear(self.project(hidden), self.weight, self.bias)


def with_temperature(model: LanguageModel, temperature: float) -> LanguageModel:
    """Return the model with its logits divided by a temperature; both share all parameters.

    Args:
        model: the model, which does not change.
        temperature: tau; 1 returns the model itself.

    Raises:
        ValueError: if the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: expected a positive number, got {temperature}")
    if temperature == 1:
        return model
    tempered = copy.copy(model)
    tempered._modules = dict(model._modules)
    tempered.decoder = cast(Decoder, TemperedDecoder(model.decoder, temperature))
    return tempered


def best_temperature(
    temperatures: tuple[float, ...], losses_GN: npt.NDArray[np.floating]
) -> tuple[float, float]:
    r"""Return the temperature with the smallest mean loss, and the loss expected there.

    The mean loss is a convex function of :math:`1 / \tau`. A parabola through the best temperature
    of the grid and its neighbours gives the minimum.

    Args:
        temperatures: G of them, in ascending order.
        losses_GN: the losses of N words at each temperature, in nats.
    """
    mean_G = losses_GN.mean(axis=1, dtype=np.float64)
    best = int(mean_G.argmin())
    if not 0 < best < len(temperatures) - 1:
        return temperatures[best], float(mean_G[best])
    inverse = 1 / np.array(temperatures[best - 1 : best + 2])
    a, b, c = np.polyfit(inverse - inverse[1], mean_G[best - 1 : best + 2], 2)
    if not a > 0:
        return temperatures[best], float(mean_G[best])
    step = -b / (2 * a)
    found = round(float(1 / (inverse[1] + step)), 4)
    return found, float(c + b * step / 2)
