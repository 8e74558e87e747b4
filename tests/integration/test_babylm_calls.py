"""Exported folders answer the calls that BabyLM's evaluation pipeline makes, for every network.

Source: https://github.com/babylm/evaluation-pipeline-2025, whose calls are repeated here.
"""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from export_support import make_run
from tests_support import blocks
from tiedlm.evaluation.perplexity import token_losses
from tiedlm.export.hf import export_hf

transformers = pytest.importorskip(
    "transformers", reason="transformers (tiedlm[hf]) is not installed"
)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.usefixtures("quiet_transformers"),
]

SHAPES = {
    "lstm": {"d_embed": 10, "d_hidden": 11, "tied": True},
    "awd_lstm": {"d_embed": 9, "d_hidden": 12, "tied": True, "n_layers": 2},
    "gru": {"d_embed": 8, "d_hidden": 8, "tied": False},
    "elman": {"d_embed": 8, "d_hidden": 8, "tied": True},
    "rhn": {"d_embed": 8, "d_hidden": 8, "tied": True, "n_layers": 1, "options": {"depth": 2}},
    "transformer": {
        "d_embed": 10, "d_hidden": 12, "tied": True, "options": {"n_heads": 3, "memory": 4},
    },
    "encoder": {"d_embed": 12, "d_hidden": 12, "options": {"context": 5, "d_inner": 7}},
}  # fmt: skip
TEXTS = ["The cat doesn't see the dog, a dog.", "It does.", "A zebra sees it, the cat."]
WORDS = [
    ["the", "cat", "does", "n't", "see", "the", "dog", ",", "a", "dog", "."],
    ["it", "does", "."],
    ["a", "<unk>", "<unk>", "it", ",", "the", "cat", "."],
]


@pytest.fixture(scope="module", params=SHAPES)
def exported(request, tmp_path_factory):
    """Return (tiedlm's model, the folder), exported with ``<eos>`` in front."""
    folder = tmp_path_factory.mktemp(request.param)
    shape = {"network": request.param, **SHAPES[request.param]}
    model = make_run(folder / "run", shape, "tiedlm")
    export_hf(folder / "run", folder / "hf", check=False, start="eos")
    return model, folder / "hf"


def load(kind, folder, **options):
    return getattr(transformers, kind).from_pretrained(folder, trust_remote_code=True, **options)


@pytest.fixture(scope="module")
def causal(exported):
    return load("AutoModelForCausalLM", exported[1]).eval()


@pytest.fixture(scope="module")
def base(exported):
    return load("AutoModel", exported[1]).eval()


@pytest.fixture(scope="module")
def tokenizer(exported):
    return load("AutoProcessor", exported[1], padding_side="right")


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def losses(model, words):
    """Return tiedlm's surprisals in nats, the first word's after <eos>."""
    return token_losses(model, model.vocabulary.encode(["<eos>", *words]))


def test_the_base_model_gives_the_hidden_states_of_tiedlm(exported, base, causal):
    model, _ = exported
    ids_BT = torch.randint(model.config.vocab_size, (2, 9), generator=torch.manual_seed(1))
    out = base(ids_BT, output_hidden_states=True)
    assert not hasattr(out, "logits")
    assert out.last_hidden_state.shape == (2, 9, base.config.hidden_size)
    close(out.last_hidden_state, model(ids_BT)[0].detach())
    assert torch.equal(out.hidden_states[-1], out.last_hidden_state)
    close(causal.decoder(out.last_hidden_state), causal(ids_BT).logits)
    names = {name for name, _ in base.named_parameters()}
    assert names <= {name for name, _ in causal.named_parameters()}


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_no_logit_and_no_hidden_state(base, causal, tokenizer, side):
    batch = tokenizer(TEXTS, return_tensors="pt", padding=True, padding_side=side)
    hidden, logits = base(**batch).last_hidden_state, causal(**batch).logits
    for row, text in enumerate(TEXTS):
        words = batch["attention_mask"][row].bool()
        assert words.all() == (row == 0)
        alone = tokenizer(text, return_tensors="pt")
        hidden_alone = base(**alone).last_hidden_state[0]
        close(hidden[row, words], hidden_alone)
        close(hidden[row, -1], hidden_alone[-1])  # what a classifier of texts takes
        close(logits[row, words], causal(**alone).logits[0])


def test_a_causal_mask_of_three_axes_is_read_as_its_padding_mask(base, tokenizer):
    batch = tokenizer(TEXTS, return_tensors="pt", padding=True)
    mask_BT = batch["attention_mask"]
    mask_BTT = mask_BT.unsqueeze(1).repeat(1, mask_BT.size(-1), 1).tril(diagonal=0)
    one, other = (
        base(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        for mask in (mask_BT, mask_BTT)
    )
    close(one, other)
    with pytest.raises(ValueError, match="times a causal mask"):
        base(input_ids=batch["input_ids"], attention_mask=torch.ones_like(mask_BTT))


def sums(model, tokenizer, texts, completions):
    """Return the log-probability of the end of every text, scored as the pipeline scores pairs."""
    tokens, masks, phrases = [], [], []
    for text, completion in zip(texts, completions, strict=True):
        encoded = tokenizer(text=text, return_offsets_mapping=True)
        start = len(text) - len(completion)
        tokens.append(torch.LongTensor(encoded["input_ids"]))
        masks.append(torch.LongTensor(encoded["attention_mask"]))
        phrases.append(torch.LongTensor([int(end > start) for _, end in encoded["offset_mapping"]]))
    padded = pad_sequence(tokens, batch_first=True, padding_value=tokenizer.pad_token_id)
    mask = pad_sequence(masks, batch_first=True)[:, :-1]
    with torch.no_grad():
        logits = model(input_ids=padded[:, :-1], attention_mask=mask)["logits"]
    found = logits.log_softmax(-1).gather(-1, padded[:, 1:, None]).squeeze(-1)
    return (found * pad_sequence(phrases, batch_first=True)[:, 1:]).sum(1)


def test_a_sentence_has_the_score_of_tiedlm_with_its_first_word(exported, causal, tokenizer):
    found = sums(causal, tokenizer, TEXTS, TEXTS)
    expected = [-float(losses(exported[0], words).sum()) for words in WORDS]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_a_completion_has_the_score_of_its_own_words(exported, causal, tokenizer):
    ends = [" a dog.", "It does.", " it, the cat."]
    lengths = [3, 3, 5]
    found = sums(causal, tokenizer, TEXTS, ends)
    expected = [
        -float(losses(exported[0], words)[-length:].sum())
        for words, length in zip(WORDS, lengths, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_sentences_that_differ_in_unknown_words_only_tie(causal, tokenizer):
    pair = ["The zebra doesn't see.", "The gnu doesn't see."]
    good, bad = sums(causal, tokenizer, pair, pair).tolist()
    assert good == pytest.approx(bad, abs=1e-5)  # the pipeline takes the first of equal ones


def test_the_next_word_of_reading_has_the_probability_of_tiedlm(exported, causal, tokenizer):
    inputs = tokenizer("The cat doesn't", return_tensors="pt")
    with torch.no_grad():
        logits_V = causal(**inputs).logits[0, -1]
    for word, known in ((" see", "see"), (" dogs", "<unk>")):
        [number] = tokenizer(word, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(number) == known
        expected = losses(exported[0], ["the", "cat", "does", "n't", known])[-1]
        assert -float(logits_V.log_softmax(-1)[number]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("context", "before"), [("A dog", ["a", "dog"]), ("", [])])
def test_a_word_after_a_context_has_the_surprisal_of_tiedlm(
    exported, causal, tokenizer, context, before
):
    text = f"{context} ".strip() + " "
    found = -float(sums(causal, tokenizer, [text + "does"], ["does"])[0])
    expected = losses(exported[0], [*before, "does"])[-1]
    assert found == pytest.approx(expected, abs=1e-5)
    assert tokenizer(tokenizer.bos_token + "does").input_ids[-2:] == [0, 6]


class Classifier(torch.nn.Module):
    """A head on the base model, which takes the last position, as the pipeline fine-tunes."""

    def __init__(self, base):
        super().__init__()
        self.transformer = base
        self.classifier = torch.nn.Linear(base.config.hidden_size, 2)

    def forward(self, ids_BT, mask_BT):
        out = self.transformer(input_ids=ids_BT, attention_mask=mask_BT)
        return self.classifier(out.last_hidden_state[:, -1])


@pytest.mark.parametrize("side", ["left", "right"])
def test_fine_tuning_learns_two_classes_through_every_layer(exported, tokenizer, side):
    torch.manual_seed(0)
    model = Classifier(load("AutoModel", exported[1])).train()
    copy.deepcopy(model).eval()
    texts = [("The cat.", "It does."), ("The dog.", "It does."), ("A cat, a dog.", "It does n't.")]
    batch = tokenizer(
        texts, return_tensors="pt", padding=True, truncation=True, max_length=9, padding_side=side
    )
    assert batch["input_ids"].shape == (3, 9)
    labels = torch.tensor([0, 1, 0])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    found = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = cross_entropy(model(batch["input_ids"], batch["attention_mask"]), labels)
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.8 * found[0]
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_a_classifier_of_texts_is_saved_and_loaded_and_ignores_padding(
    exported, tokenizer, tmp_path
):
    torch.manual_seed(0)
    kind = "AutoModelForSequenceClassification"
    model = load(kind, exported[1], num_labels=3).eval()
    right = tokenizer(TEXTS, return_tensors="pt", padding=True)
    out = model(**right, labels=torch.tensor([0, 1, 2]))
    assert out.logits.shape == (3, 3)
    close(out.loss, cross_entropy(out.logits, torch.tensor([0, 1, 2])))
    left = tokenizer(TEXTS, return_tensors="pt", padding=True, padding_side="left")
    close(model(**left).logits, out.logits)
    model.save_pretrained(tmp_path)
    again = load(kind, tmp_path).eval()
    close(again(**right).logits, out.logits)
    assert again.num_labels == 3


def test_the_base_model_is_saved_and_loaded(base, tokenizer, tmp_path):
    base.save_pretrained(tmp_path)
    batch = tokenizer(TEXTS, return_tensors="pt", padding=True)
    again = load("AutoModel", tmp_path).eval()
    close(again(**batch).last_hidden_state, base(**batch).last_hidden_state)


@pytest.fixture(scope="module")
def both_starts(tmp_path_factory):
    """Return tokenizers of the same run with and without ``<eos>`` in front."""
    folder = tmp_path_factory.mktemp("start")
    make_run(folder / "run", "tied", "tiedlm")
    for start in ("eos", "none"):
        export_hf(folder / "run", folder / start, check=False, start=start)
    return [load("AutoTokenizer", folder / start) for start in ("eos", "none")]


def test_eos_is_in_front_of_a_text_and_between_two_if_asked_for(both_starts):
    eos, none = both_starts
    assert none("The cat.").input_ids == [2, 4, 11]
    assert none("The cat.", "It does.").input_ids == [2, 4, 11, 12, 6, 11]
    found = eos("The cat.", return_offsets_mapping=True)
    assert found.input_ids == [0, 2, 4, 11]
    assert found.offset_mapping == [(0, 0), (0, 3), (4, 7), (7, 8)]
    assert eos("The cat.", "It does.").input_ids == [0, 2, 4, 11, 0, 12, 6, 11]
    assert eos("The cat.", add_special_tokens=False).input_ids == [2, 4, 11]
    assert eos.decode(found.input_ids, skip_special_tokens=True) == "the cat ."


def test_the_model_card_says_who_begins_a_text_with_eos(tmp_path):
    make_run(tmp_path / "run", "tied", "tiedlm")
    for start, words in (("eos", "the tokenizer begins a text"), ("none", "begin a text")):
        export_hf(tmp_path / "run", tmp_path / start, check=False, start=start)
        card = (tmp_path / start / "README.md").read_text()
        assert f"stands before the first one: {words} with it" in card
        assert ('tokenizer("<eos> ' in card) == (start == "none")


def test_a_trained_model_with_large_logits_is_not_refused_for_rounding(tmp_path):
    from tiedlm.training.run import save_weights

    model = make_run(tmp_path / "run", {"network": "awd_lstm", **SHAPES["awd_lstm"]})
    with torch.no_grad():
        model.embedding.weight.mul_(300)
    save_weights(model, tmp_path / "run" / "model.safetensors", "0123456789abcdef")
    report = export_hf(tmp_path / "run", tmp_path / "hf")
    assert report.largest_difference < 1e-9  # in float64


def test_the_repository_of_the_documentation_has_its_revisions_without_a_network(
    tmp_path, monkeypatch
):
    models = {}
    for seed, name in enumerate(("main", "chck_1M")):
        make_run(tmp_path / name, {"d_embed": 4 + seed, "d_hidden": 4 + seed, "tied": True})
        export_hf(tmp_path / name, tmp_path / "mine-hf" / name, check=False, start="eos")
        models[name] = 4 + seed
    page = (Path(__file__).parents[2] / "docs" / "babylm.md").read_text(encoding="utf-8")
    (snippet,) = [block for block in blocks(page, "python") if "snapshots" in block]
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # again, after another export
        exec(snippet, {})
    for revision in (None, "chck_1M"):
        options = {"cache_dir": tmp_path / "hub", "revision": revision or "main"}
        loaded = load("AutoModelForCausalLM", "you/mine", **options)
        assert loaded.config.hidden_size == models[revision or "main"]
        assert load("AutoTokenizer", "you/mine", **options)("the cat").input_ids == [0, 2, 4]
