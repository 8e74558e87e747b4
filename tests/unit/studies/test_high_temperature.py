"""Equation 4.3 holds: the gradient of J_aug reaches its limit at high temperature."""

import pytest
import torch

from studies.high_temperature import high_temperature_gap


def test_the_gradient_of_the_augmented_loss_reaches_its_limit_at_high_temperature():
    generator = torch.Generator().manual_seed(0)
    scores, soft = (torch.randn(5, 40, generator=generator).double() * 3 for _ in range(2))
    z = scores.clone().requires_grad_()
    for temperature, least, most in ((1.0, 0.3, 9.0), (50.0, 1e-3, 0.1), (1e4, 0.0, 1e-3)):
        target = torch.softmax(soft / temperature, 1)
        loss = -(target * torch.log_softmax(z / temperature, 1)).sum()
        (gradient,) = torch.autograd.grad(loss, z)
        limit = (scores - soft) - (scores - soft).mean(1, keepdim=True)
        error = (temperature**2 * 40 * gradient - limit).norm(dim=1) / limit.norm(dim=1)
        gap = high_temperature_gap(scores, soft, temperature)
        assert gap["relative_error"] == pytest.approx(float(error.mean()), rel=1e-6)
        assert least <= gap["relative_error"] < most
