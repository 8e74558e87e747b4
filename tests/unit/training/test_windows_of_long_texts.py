"""Windows are read from disk one by one, in the order of the documents that an epoch asks for."""

import sys

import numpy as np
import pytest
import torch

from tiedlm.data import Corpus, Vocabulary, batch_streams, windows
from tiedlm.data.streams import Shuffled, count_ids, release
from tiedlm.errors import UserError
from tiedlm.evaluation import evaluate, perplexity, segments, token_losses
from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.training.distributed import Ranks
from tiedlm.training.settings import Settings
from tiedlm.training.windows import Windows

IDS = np.random.default_rng(0).integers(0, 30, 1000).astype(np.int32)
STARTS = np.array([0, 3, 4, 100, 101, 500, 980])
VOCABULARY = Vocabulary([f"w{number}" for number in range(29)] + ["<eos>"])


class OnDisk:
    """Token ids that can be read in short pieces only."""

    def __init__(self, ids, most):
        self.ids, self.most, self.dtype = ids, most, ids.dtype

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, span):
        piece = self.ids[span]
        assert len(piece) <= self.most, "read whole"
        return piece

    def __array__(self, *arguments, **options):
        raise AssertionError("read whole")


def corpus(train=IDS, documents=STARTS):
    return Corpus("text", VOCABULARY, train, IDS[:50], IDS[:50], {}, documents)


def epoch(number=1, text=None, ranks=None, **changes):
    settings = Settings(batch_size=4, bptt=7).replace(**changes)
    cut = Windows(text or corpus(), settings, ranks or Ranks(), torch.device("cpu"))
    cut.begin(number)
    return [(x.numpy(), y.numpy()) for x, y in (cut[index] for index in range(len(cut)))]


def test_windows_are_those_of_the_streams_in_memory():
    expected = list(windows(batch_streams(IDS, 4), 7))
    for (x, y), (inputs, targets) in zip(epoch(), expected, strict=True):
        assert x.tolist() == inputs.tolist()
        assert y.tolist() == targets.tolist()
        assert x.dtype == np.int64


def test_each_rank_reads_its_own_streams():
    both = [epoch(ranks=Ranks(rank, 2), shuffle="documents") for rank in (0, 1)]
    for (whole, _), (first, _), (second, _) in zip(epoch(shuffle="documents"), *both, strict=True):
        assert whole.tolist() == [*first.tolist(), *second.tolist()]


def test_training_never_reads_a_text_whole():
    text = corpus(OnDisk(IDS, most=8))
    assert len(epoch(text=text)) == len(epoch())
    text = corpus(OnDisk(IDS, most=500))  # documents may be cut, but not joined
    assert len(epoch(text=text, shuffle="documents")) == len(epoch())


def words_of(pieces):
    """Return the text of an epoch: the inputs of each stream, one after another."""
    return np.concatenate([x for x, _ in pieces], axis=1).flatten()


def test_an_epoch_has_every_document_whole_in_an_order_of_its_own():
    settings = {"shuffle": "documents", "batch_size": 1, "bptt": 999}
    ends = [*STARTS[1:], len(IDS)]
    documents = sorted(IDS[a:b].tolist() for a, b in zip(STARTS, ends, strict=True))
    orders = []
    for number in (1, 2):
        ((x, y),) = epoch(number, **settings)
        text = [int(x[0, 0]), *y[0].tolist()]
        assert sorted(text) == sorted(IDS.tolist())
        rest, found = text, []
        while rest:
            found.append(next(d for d in sorted(documents, key=len, reverse=True)
                              if rest[: len(d)] == d))  # fmt: skip
            rest = rest[len(found[-1]) :]
        assert sorted(found) == documents
        orders.append(found)
    assert orders[0] != orders[1]


def test_the_order_depends_on_the_seed_and_the_epoch_alone():
    settings = {"shuffle": "documents"}
    assert (words_of(epoch(3, **settings)) == words_of(epoch(3, **settings))).all()
    for other in (epoch(4, **settings), epoch(3, seed=2, **settings), epoch(3)):
        assert (words_of(epoch(3, **settings)) != words_of(other)).any()


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6], [6, 2, 4, 0, 5, 1, 3]])
def test_any_slice_of_a_shuffled_text_is_that_of_the_joined_documents(order):
    parts = np.split(IDS, STARTS[1:])
    joined = np.concatenate([parts[number] for number in order])
    text = Shuffled(IDS, STARTS, np.array(order))
    assert len(text) == len(joined)
    for start in range(0, 1000, 13):
        for length in (0, 1, 5, 400, 1000):
            piece = text[start : start + length]
            assert piece.tolist() == joined[start : start + length].tolist()


def test_one_document_cannot_be_shuffled():
    with pytest.raises(UserError, match="--shuffle documents: the training text is one document"):
        epoch(text=corpus(documents=np.zeros(1, np.int64)), shuffle="documents")


def test_evaluation_never_reads_a_text_whole_and_sums_the_same(monkeypatch):
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(vocab_size=30, d_embed=5, d_hidden=5, n_layers=1))
    whole = evaluate(model, IDS, unk_id=3)
    losses = token_losses(model, IDS)
    monkeypatch.setattr(segments, "MOST_LENGTH", 16)
    for least in (10**6, 4):  # one stream, and segments
        monkeypatch.setattr(segments, "LEAST_LENGTH", least)
        for span in (1, 100, 10**6):
            monkeypatch.setattr(sys.modules[token_losses.__module__], "SPAN", span)
            out = evaluate(model, OnDisk(IDS, most=max(span, 193)), unk_id=3, window=16)
            assert out.perplexity == pytest.approx(whole.perplexity, rel=1e-6)
            assert (out.tokens, out.unk_tokens) == (999, int((IDS[1:] == 3).sum()))
            assert token_losses(model, IDS, window=16) == pytest.approx(losses, abs=1e-5)
    assert whole.perplexity == perplexity(float(losses.sum(dtype=np.float64)), 999)


def test_ids_are_counted_and_their_memory_given_back(tmp_path):
    np.save(tmp_path / "ids.npy", IDS)
    mapped = np.load(tmp_path / "ids.npy", mmap_mode="r")
    assert count_ids(mapped, 40).tolist() == np.bincount(IDS, minlength=40).tolist()
    release(mapped)
    assert mapped.tolist() == IDS.tolist()  # read again
    release(IDS)  # nothing to give back
