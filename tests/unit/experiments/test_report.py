"""The report shows every number in true sentences, escapes its text and is self-contained."""

import base64
import copy
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedlm.analysis.plots import STYLES
from tiedlm.errors import UserError
from tiedlm.experiments import findings
from tiedlm.experiments.report import _commands, write_report

VOID = {"meta", "img", "col"}


def made_up_model(
    valid, test, *, tied=False, alpha=0.0, parameters=2_000, distance=0.9, unk=0.04, best=3
):
    """Return one model's results with invented numbers."""
    curve = [
        {"epoch": e, "train_ppl": 500.0, "valid_ppl": valid + 90.0 * (3 - e)} for e in (1, 2, 3)
    ]
    return {
        "recipe": "demo", "seed": 7, "valid_ppl": valid, "test_ppl": test,
        "parameters": parameters, "subspace_distance": distance, "mean_p_unk": unk,
        "tokens_per_second": 1234.5, "epochs": 3, "best_epoch": best, "seconds": 9.0,
        "curve": curve, "tied": tied, "has_bias": True, "alpha": alpha,
    }  # fmt: skip


def made_up_results():
    """Return results with invented numbers and words."""
    top = [{"word": w, "probability": p} for w, p in [("zig", 0.31), ("<unk>", 0.2), ("zag", 1e-5)]]
    return {
        "corpus": {
            "name": "invented-corpus", "origin": "nowhere", "split": "by nobody", "types": 1000,
            "fraction": 0.6,
            "parts": {
                "train": {"tokens": 43_210, "unk": 4_321},
                "valid": {"tokens": 5_000, "unk": 50},
                "test": {"tokens": 6_000, "unk": 300},
            },
        },
        "models": {
            "vd-lstm": made_up_model(111.11, 122.22, distance=0.951, unk=0.041),
            "vd-lstm-al": made_up_model(109.55, 120.44, alpha=13.5, distance=0.876, unk=0.037),
            "vd-lstm-re": made_up_model(
                105.66, 116.77, tied=True, parameters=1_200, distance=0.0, unk=0.033
            ),
            "vd-lstm-real": made_up_model(
                103.88, 114.99, tied=True, alpha=13.5, parameters=1_210, distance=0.0, unk=0.029
            ),
        },
        "phrases": [
            {
                "context": "so we <unk> on", "next": "zag",
                "top": {"vd-lstm": top, "vd-lstm-real": list(reversed(top))},
                "next_probability": {"vd-lstm": 0.0123, "vd-lstm-real": 0.0456},
            }
        ],
        "settings": {
            "d_hidden": 36, "n_layers": 2, "dropout_input": 0.25, "dropout_hidden": 0.35,
            "alpha": 13.5, "temperature": 18.0, "epochs": 3, "tied": None,
        },
        "environment": {"processor": "Invented 1", "torch": "9.9.9", "cuda": None},
        "seconds": 90.0,
    }  # fmt: skip


class Page(HTMLParser):
    """Parse a page as a browser would: its text, its resources and the nesting of its tags."""

    def __init__(self, html):
        super().__init__()
        self.text, self.tags, self.attributes, self.open = "", [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def page_of(results, folder):
    return Page(write_report(results, folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made_up_page(tmp_path_factory):
    return page_of(made_up_results(), tmp_path_factory.mktemp("demo"))


@pytest.mark.parametrize("name", STYLES)
def test_table_holds_every_number_of(name, made_up_page):
    model = made_up_results()["models"][name]
    row = (
        f"{STYLES[name].label}{model['valid_ppl']:.1f}{model['test_ppl']:.1f}"
        f"{model['parameters']:,}{model['subspace_distance']:.3f}{model['mean_p_unk']:.1%}"
        f"{model['tokens_per_second']:,.0f}3 of 3"
    )
    assert row in made_up_page.text


def test_the_page_describes_each_model(tmp_path, made_up_page):
    for row in (
        "VD-LSTMtwo matrices L and W, and a bias bJ\n",
        "+ AL, augmented losstwo matrices L and W, and a bias bJ + α Jaug",
        "+ RE, reused embeddingone matrix, W = LT, and a bias bJ\n",
        "+ REAL, bothone matrix, W = LT, and a bias bJ + α Jaug",
        "scores W hₜ + b", "scores Lᵀ hₜ + b", "The tied models here keep it",
    ):  # fmt: skip
        assert row in made_up_page.text
    assert "no bias" not in made_up_page.text
    results = made_up_results()
    for name in ("vd-lstm-re", "vd-lstm-real"):
        results["models"][name]["has_bias"] = False
    text = page_of(results, tmp_path).text
    for row in (
        "VD-LSTMtwo matrices L and W, and a bias bJ\n",
        "+ RE, reused embeddingone matrix, W = LT, no biasJ\n",
        "scores W hₜ + b", "the tied models have no bias (b = 0)",
    ):  # fmt: skip
        assert row in text
    assert "scores Lᵀ hₜ + b" not in text


def test_the_page_takes_tying_and_loss_from_the_models(tmp_path, made_up_page):
    for text in ("Two: VD-LSTM, + AL", "One: + RE, + REAL", "The soft target: + AL, + REAL"):
        assert text in made_up_page.text
    results = made_up_results()
    results["models"]["vd-lstm-al"] |= {"tied": True, "alpha": 0.0}
    text = page_of(results, tmp_path).text
    for row in (
        "+ AL, reused embeddingone matrix, W = LT, and a bias bJ\n",
        "Two: VD-LSTM\n", "One: + AL, + RE, + REAL", "The soft target: + REAL",
        "given here for + REAL",
    ):  # fmt: skip
        assert row in text


def test_page_holds_corpus_settings_and_machine(made_up_page):
    for text in (
        "invented-corpus", "nowhere", "by nobody", "1,000 words", "43,210", "4,321", "10.0%",
        "13.5", "= 0.75", "probability 0.25", "probability 0.35", "36 × 1,000", "Invented 1",
        "9.9.9", "1.5 minutes", "one seed: 7",
    ):  # fmt: skip
        assert text in made_up_page.text


def test_the_page_holds_no_number_of_another_run(tmp_path, made_up_page):
    changed = made_up_results()
    for model in changed["models"].values():
        model["valid_ppl"] += 40
        model["test_ppl"] += 40
    other = page_of(changed, tmp_path).text
    for model in made_up_results()["models"].values():
        for key in ("valid_ppl", "test_ppl"):
            assert f"{model[key]:.1f}" in made_up_page.text
            assert f"{model[key]:.1f}" not in other


def test_phrases_mark_the_word_that_followed_and_explain_unknown_words(tmp_path):
    html = write_report(made_up_results(), tmp_path).read_text(encoding="utf-8")
    assert "<mark>zag</mark>" in html
    assert "<mark>zig</mark>" not in html
    text = Page(html).text
    assert "so we unknown word on" in text
    assert "<unk>" not in text
    assert "zag1.2%zag4.6%" in text
    assert "zag0.0010%" in text


@pytest.mark.parametrize(
    ("probability", "written"),
    [(0.314, "31.4%"), (0.001, "0.1%"), (0.00042, "0.042%"), (3.1e-6, "0.00031%"), (0, "<0.0001%")],
)
def test_small_probabilities_stay_readable(probability, written, tmp_path):
    results = made_up_results()
    results["phrases"][0]["next_probability"]["vd-lstm"] = probability
    assert f"zag{written}zag4.6%" in page_of(results, tmp_path).text


def test_unknown_word_that_followed_is_marked_too(tmp_path):
    results = made_up_results()
    results["phrases"][0]["next"] = "<unk>"
    html = write_report(results, tmp_path).read_text(encoding="utf-8")
    assert '<mark><span class="unk">unknown word</span></mark>' in html


def test_text_from_data_is_escaped_everywhere(tmp_path):
    evil = '"><script>alert("$headline")</script>'
    results = made_up_results()
    results["corpus"] |= {"name": evil, "origin": evil, "split": evil}
    results["environment"] = {evil: evil}
    results["settings"][evil] = evil
    phrase = results["phrases"][0]
    phrase |= {"context": evil, "next": evil}
    phrase["top"]["vd-lstm"][0]["word"] = evil
    folder = tmp_path / "<script>x<" / "demo"
    page = page_of(results, folder)
    assert "script" not in page.tags
    assert page.text.count(evil) >= 9
    assert "<script>x<" in page.text


def test_page_is_self_contained_and_accessible(made_up_page):
    resources = [
        (tag, value)
        for tag, name, value in made_up_page.attributes
        if name in ("src", "href", "srcset", "data", "poster") and tag != "a"
    ]
    assert resources
    for tag, value in resources:
        assert tag == "img"
        assert value.startswith("data:image/png;base64,")
    assert not {"script", "link", "iframe", "object"} & set(made_up_page.tags)
    assert ("html", "lang", "en") in made_up_page.attributes
    assert made_up_page.tags.count("title") == 1 + made_up_page.tags.count("svg")
    alts = [v for tag, name, v in made_up_page.attributes if (tag, name) == ("img", "alt")]
    assert len(alts) == 2
    assert all("103.9" in alt for alt in alts)
    assert made_up_page.tags.count("table") == made_up_page.tags.count("caption")
    scopes = sum((tag, name) == ("th", "scope") for tag, name, _ in made_up_page.attributes)
    assert scopes == made_up_page.tags.count("th")


def test_no_stylesheet_loads_anything(tmp_path):
    html = write_report(made_up_results(), tmp_path).read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


def test_pictures_beside_the_page_are_those_inside_it(tmp_path):
    html = write_report(made_up_results(), tmp_path).read_text(encoding="utf-8")
    assert {p.name for p in tmp_path.iterdir()} == {"curves.png", "perplexity.png", "report.html"}
    inside = {base64.b64decode(code) for code in re.findall(r"base64,([^\"]+)", html)}
    assert inside == {(tmp_path / n).read_bytes() for n in ("curves.png", "perplexity.png")}


def test_commands_name_this_folder_and_the_next_seed(tmp_path):
    page = page_of(made_up_results(), tmp_path / "my demo")
    assert f"tiedlm predict '{tmp_path}/my demo/vd-lstm-real' 'we must'" in page.text
    assert f"tiedlm demo --seed 8 --out '{tmp_path}/my demo-seed8'" in page.text


@pytest.mark.parametrize("given", [".", "..", "inside/.."])
def test_the_next_seeds_folder_has_a_name_whatever_the_first_is_called(
    tmp_path, monkeypatch, given
):
    here = tmp_path / "x" / "y"
    (here / "inside").mkdir(parents=True)
    monkeypatch.chdir(here)
    commands = _commands(Path(given), 2)["commands_seed"]
    assert commands[0].endswith(f"--out {Path(given).resolve()}-seed2")


def test_missing_matplotlib_is_reported_and_leaves_no_page(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="matplotlib"):
        write_report(made_up_results(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_page_says_so_when_real_loses(tmp_path, made_up_page):
    results = made_up_results()
    models = results["models"]
    models["vd-lstm"], models["vd-lstm-real"] = models["vd-lstm-real"], models["vd-lstm"]
    results["models"] = {name: models[name] for name in STYLES}
    lost = page_of(results, tmp_path).text
    assert "5.9% below VD-LSTM's: 115.0 against 122.2" in made_up_page.text
    assert "the paper's claim shows" in made_up_page.text
    assert "6.3% above VD-LSTM's: 122.2 against 115.0" in lost
    assert "the paper's claim does not show" in lost
    assert "claim shows" not in lost


perplexities = st.floats(2, 3000)


def four(base, al, re_, real):
    return {
        "vd-lstm": made_up_model(base, base),
        "vd-lstm-al": made_up_model(al, al),
        "vd-lstm-re": made_up_model(re_, re_),
        "vd-lstm-real": made_up_model(real, real),
    }


@given(perplexities, perplexities, perplexities, perplexities)
def test_sentences_agree_with_the_numbers(base, al, re_, real):
    models = four(base, al, re_, real)
    headline, verdict = findings.headline(models), findings.verdict(models)
    parts = findings.parts(models)
    change = real / base - 1
    assert (" below " in headline) == (change <= -findings.LEVEL)
    assert (" above " in headline) == (change >= findings.LEVEL)
    assert ("better" in verdict) == (" below " in headline)
    assert ("worse" in verdict) == (" above " in headline)
    alone = min(al, re_)
    assert ("Both together are better" in parts) == (real / alone - 1 <= -findings.LEVEL)
    assert ("better than both together" in parts) == (real / alone - 1 >= findings.LEVEL)
    assert "-" not in headline.replace("VD-LSTM", "")  # a difference has a word, not a sign


@given(st.lists(st.tuples(perplexities, perplexities), min_size=1, max_size=6))
def test_course_names_the_epoch_from_which_real_is_ahead(pairs):
    models = {"vd-lstm": {}, "vd-lstm-real": {}}
    for index, model in enumerate(models.values()):
        model["curve"] = [{"epoch": e, "valid_ppl": p[index]} for e, p in enumerate(pairs, start=1)]
    text = findings.course(models)
    ahead = [real < base for base, real in pairs]
    if all(ahead):
        assert "ahead after every epoch" in text
    elif not ahead[-1]:
        assert "after the last, REAL is not ahead" in text
    else:
        first = int(re.search(r"from epoch (\d+) on", text).group(1))
        assert all(ahead[first - 1 :])
        assert not ahead[first - 2]


@pytest.mark.parametrize(
    ("al", "expected"),
    [
        (0.8, "brought them nearer"),
        (0.99, "not brought them nearer"),
        (0.9, "hardly moved them"),
        (0.897, "hardly moved them"),
    ],
)
def test_distance_sentence(al, expected):
    models = four(100, 100, 100, 100)
    models["vd-lstm-al"]["subspace_distance"] = al
    text = findings.distance(models, vocab_size=1000, width=36)
    assert expected in text
    assert "about 0.982" in text  # sqrt(1 - 36 / 1000)


@pytest.mark.parametrize(
    ("real", "expected"), [(0.01, "less than"), (0.09, "more than"), (0.04, "as much as")]
)
def test_unknown_sentence(real, expected):
    models = four(100, 100, 100, 100)
    models["vd-lstm-real"]["mean_p_unk"] = real
    assert expected in findings.unknown(models, {"tokens": 200, "unk": 10})
    assert "5.0% of the test text" in findings.unknown(models, {"tokens": 200, "unk": 10})


def test_models_that_were_still_learning_are_named():
    models = four(100, 100, 100, 100)
    names = {name: STYLES[name].label for name in models}
    for name in ("vd-lstm", "vd-lstm-re"):
        models[name]["best_epoch"] = 2
    assert "best one of + AL and + REAL:" in findings.unfinished(models, names)
    for model in models.values():
        model["best_epoch"] = 2
    assert "before the last one" in findings.unfinished(models, names)


def test_phrases_are_counted():
    phrase = made_up_results()["phrases"][0]
    other = copy.deepcopy(phrase)
    other["next_probability"]["vd-lstm-real"] = 0.001
    assert "in 1 of 2 phrases" in findings.phrase_count([phrase, other])
