"""The augmented loss with DistributedDataParallel: the loss is inside the module that is wrapped.

    torchrun --nproc-per-node 2 examples/data_parallel.py

Each process reads its share of the texts; the gradients are averaged.
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tiedlm import augmented_cross_entropy


class Objective(nn.Module):
    """A tied GRU and its loss. DDP sees every parameter in one forward pass."""

    def __init__(self, words, width):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.rnn = nn.GRU(width, width, batch_first=True)

    def forward(self, tokens):
        """Return the loss, and cross-entropy for the log."""
        hidden, _ = self.rnn(self.embedding(tokens[:, :-1]))
        out = augmented_cross_entropy(
            hidden, self.embedding.weight, tokens[:, 1:], alpha=13.0, temperature=20.0
        )
        return out.loss, out.ce


if __name__ == "__main__":
    dist.init_process_group("gloo")  # "nccl" on GPUs
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)  # the same weights and texts in every process
    objective = DistributedDataParallel(Objective(words=12, width=32))
    optimizer = torch.optim.SGD(objective.parameters(), lr=1.0)
    for step in range(60):
        starts = torch.randint(12, (16, 1))
        tokens = (starts + torch.arange(13)) % 12  # each text counts on from its first number
        loss, ce = objective(tokens.chunk(world)[rank])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(objective.parameters(), 5.0)
        optimizer.step()
        if rank == 0 and step % 10 == 9:
            print(f"step {step + 1}  perplexity {ce.exp():.2f}")
    dist.destroy_process_group()
