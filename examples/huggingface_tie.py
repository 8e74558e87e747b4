"""Tie any Hugging Face causal model, and train it with the augmented loss of a recipe.

    python examples/huggingface_tie.py EleutherAI/pythia-70m my.txt --recipe small-real

MODEL is a folder or a name on the hub, with its tokenizer. Its classifier becomes its embedding
(RE), and the loss gets the recipe's alpha and temperature (AL); the optimiser is the Trainer's.
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from tiedlm import augmented_cross_entropy
from tiedlm.experiments.recipes import get_recipe


def tie(model):
    """Let the model's classifier be its embedding, from now on and in what it saves."""
    model.config.tie_word_embeddings = True
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head.weight.shape != embedding.weight.shape:
        raise ValueError("the classifier and the embedding have different shapes")
    head.weight = embedding.weight
    return model


class AugmentedTrainer(Trainer):
    """A Trainer whose loss reads what goes into the classifier, whatever the model is.

    The classifier is linear, with a bias or not. Scores that a model scales or caps afterwards are
    not seen.
    """

    def __init__(self, model, recipe, **options):
        super().__init__(model, **options)
        self.loss_settings = {"alpha": recipe.alpha, "temperature": recipe.temperature}
        self.read = None  # what the classifier last read
        self.head = model.get_output_embeddings()
        self.head.register_forward_pre_hook(lambda _, inputs: setattr(self, "read", inputs[0]))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the augmented loss per predicted token."""
        targets = inputs["input_ids"][:, 1:].where(inputs["attention_mask"][:, 1:] > 0, -100)
        outputs = model(**inputs)
        out = augmented_cross_entropy(
            self.read[:, :-1], self.head.weight, targets, bias=self.head.bias, **self.loss_settings
        )
        return (out.loss, outputs) if return_outputs else out.loss


def main():
    """Train on blocks of a text and save the tied model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--recipe", default="small-real")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--block", type=int, default=128)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--out", default="tied-model")
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = tie(AutoModelForCausalLM.from_pretrained(options.model))
    ids = torch.tensor(tokenizer(options.text.read_text(encoding="utf-8"))["input_ids"])
    blocks = ids[: len(ids) // options.block * options.block].view(-1, options.block)
    rows = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in blocks]
    arguments = TrainingArguments(
        options.out, max_steps=options.steps, learning_rate=options.lr, logging_steps=10,
        save_strategy="no", report_to="none",
    )  # fmt: skip
    trainer = AugmentedTrainer(model, get_recipe(options.recipe), args=arguments,
                               train_dataset=rows)  # fmt: skip
    trainer.train()
    trainer.save_model(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
