"""The augmented loss in a bare PyTorch loop: reused embeddings plus augmented loss (REAL).

A small GRU learns a text of made-up sentences. Two lines are tiedlm's: the import and the loss.
"""

import random

import torch
from torch import nn

from tiedlm import augmented_cross_entropy

random.seed(0)
torch.manual_seed(0)
words = ["the", "a", "cat", "dog", "bird", "sees", "hears", "man", "house", "today", "."]
pick = random.choice
text = [[pick(words[:2]), pick(words[2:5]), "sees", "the", "house", "."] for _ in range(400)]
tokens = torch.tensor([words.index(word) for line in text for word in line])
streams = tokens[: len(tokens) // 10 * 10].view(10, -1)  # (batch, time)

embedding = nn.Embedding(len(words), 32)
nn.init.uniform_(embedding.weight, -0.1, 0.1)
rnn = nn.GRU(32, 32, batch_first=True)
optimizer = torch.optim.SGD([*embedding.parameters(), *rnn.parameters()], lr=1.0)

state = None
for step, start in enumerate(range(0, streams.shape[1] - 1, 5)):
    inputs, targets = streams[:, start : start + 5], streams[:, start + 1 : start + 6]
    hidden, state = rnn(embedding(inputs)[:, : targets.shape[1]], state)
    out = augmented_cross_entropy(hidden, embedding.weight, targets, alpha=13.0, temperature=20.0)
    optimizer.zero_grad()
    out.loss.backward()
    optimizer.step()
    state = state.detach()
    if step % 8 == 0:
        print(f"step {step:2d}  perplexity {out.ce.exp():6.2f}  augmented loss {out.aug:.4f}")
