"""The loss on more scores than 32 bits can count, against float64 on the tokens that repeat."""

import pytest
import torch

from tiedlm import augmented_cross_entropy

TOKENS, TIMES, VOCAB, WIDTH = 1021, 64, 33_001, 5


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"target_grad": False}, {}])
def test_repeated_tokens_have_the_loss_and_gradients_of_one_copy(options):
    assert TOKENS * TIMES * VOCAB > 2**31
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator)
    weight = torch.randn(VOCAB, WIDTH, generator=generator)
    # Words that repeat, and the first and the last of the vocabulary.
    targets = torch.randint(VOCAB, (TOKENS,), generator=generator) // 20 * 20
    targets[0], targets[-1] = 0, VOCAB - 1

    def losses(hidden, weight, targets, impl):
        inputs = hidden.requires_grad_(), weight.requires_grad_()
        out = augmented_cross_entropy(
            *inputs, targets, **{"alpha": 13.0, "temperature": 2.0, "impl": impl, **options}
        )
        out.loss.backward()
        return out, hidden.grad, weight.grad

    one, of_hidden, of_weight = losses(hidden.double(), weight.double(), targets, "reference")
    all_, of_hiddens, of_weights = losses(
        hidden.repeat(TIMES, 1), weight.clone(), targets.repeat(TIMES), "fused"
    )
    for found, expected in zip(all_, one, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)
    copies = TIMES * of_hiddens.view(TIMES, TOKENS, WIDTH).double()
    for found, expected in (*((copy, of_hidden) for copy in copies), (of_weights, of_weight)):
        assert (found - expected).norm() < 1e-4 * expected.norm()
