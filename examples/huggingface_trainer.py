"""The augmented loss in a Hugging Face Trainer: a tiny GPT-2 with tied embeddings, from a config.

Needs 'tiedlm[hf]' and accelerate. `logits_to_keep=1` spares the model its own logits.
"""

import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from tiedlm import augmented_cross_entropy
from tiedlm.loss import release_buffers


def augmented_loss(model, outputs, labels, num_items_in_batch=None, alpha=13.0):
    """Return the loss per predicted token, as the Trainer counts them."""
    hidden, weight = outputs.hidden_states[-1][:, :-1], model.lm_head.weight
    out = augmented_cross_entropy(hidden, weight, labels[:, 1:], alpha=alpha, temperature=20.0,
                                  reduction="sum")  # fmt: skip
    release_buffers()  # the model's backward pass needs the memory
    return out.loss / (labels[:, 1:].numel() if num_items_in_batch is None else num_items_in_batch)


def collate(rows):
    """Make a batch whose labels are its tokens."""
    return dict.fromkeys(("input_ids", "labels"), torch.stack(rows)) | {"logits_to_keep": 1}


if __name__ == "__main__":
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=1,
        n_head=2, bos_token_id=0, eos_token_id=0, output_hidden_states=True))  # fmt: skip
    counting = [torch.arange(start, start + 16) % 50 for start in range(50)] * 8
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, max_steps=100, per_device_train_batch_size=20,
            learning_rate=1e-2, logging_steps=20, save_strategy="no", use_cpu=True,
            remove_unused_columns=False)  # fmt: skip
        Trainer(model, arguments, train_dataset=counting, data_collator=collate,
            compute_loss_func=lambda *of, **n: augmented_loss(model, *of, **n)).train()  # fmt: skip
