"""Every layout of an n-best list gives the same lists, and mistakes are named."""

import gzip
import json
import math

import pytest

from tiedlm.errors import UserError
from tiedlm.scoring.nbest import Hypothesis, read_nbest, read_table

KALDI = "utt-1-1 the cat\nutt-1-2 a cat\nutt-2-1\n"


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def test_kaldi_text_with_costs(tmp_path):
    write(
        tmp_path,
        words__txt=KALDI.replace("utt-1-2", "\nutt-1-10"),
        ac__txt="utt-1-1 100.5\nutt-1-10 99\nutt-2-1 7\n",
        lm__txt="utt-1-1 10\nutt-1-10\t1e1\nutt-2-1 2\n",
    )
    words, ac, lm = (tmp_path / f"{name}.txt" for name in ("words", "ac", "lm"))
    assert read_nbest(str(words), ac, lm) == {
        "utt-1": [
            Hypothesis("the cat", -100.5, 0.0, -10.0),
            Hypothesis("a cat", -99.0, 0.0, -10.0),
        ],
        "utt-2": [Hypothesis("", -7.0, 0.0, -2.0)],
    }
    packed = tmp_path / "words.gz"
    packed.write_bytes(gzip.compress(words.read_bytes()))
    alone = read_nbest(str(packed), ac)
    assert alone["utt-1"][0] == Hypothesis("the cat", -100.5)


def test_kaldi_hypotheses_are_in_the_order_of_their_numbers(tmp_path):
    keys = ["u-10", "u-2", "u-1"]
    write(
        tmp_path,
        w="".join(f"{key} {key}\n" for key in keys),
        c="".join(f"{key} 1\n" for key in keys),
    )
    found = read_nbest(str(tmp_path / "w"), tmp_path / "c")
    assert [hypothesis.text for hypothesis in found["u"]] == ["u-1", "u-2", "u-10"]


def test_kaldi_folder_tells_the_graph_from_the_language_model(tmp_path):
    write(
        tmp_path,
        words_text="u-1 yes\n", acwt="u-1 50\n", lmwt__nolm="u-1 3\n", lmwt__withlm="u-1 10\n",
    )  # fmt: skip
    assert read_nbest(str(tmp_path)) == {"u": [Hypothesis("yes", -50.0, -3.0, -7.0)]}


@pytest.mark.parametrize("jobs", [[""], ["output.1", "output.2"], ["logdir/output.1"]])
def test_espnet_folder(tmp_path, jobs):
    for number, job in enumerate(jobs):
        key = f"utt{number}"
        write(
            tmp_path / job / "1best_recog",
            text=f"{key} the cat\n",
            score=f"{key} tensor(-1.5, device='cuda:0')\n",
        )
        write(tmp_path / job / "2best_recog", text=f"{key} a cat\n", score=f"{key} tensor(-2.5)\n")
        write(tmp_path / job / "10best_recog", text=f"{key} cat\n", score=f"{key} -1e1\n")
    assert read_nbest(str(tmp_path)) == {
        f"utt{number}": [
            Hypothesis("the cat", -1.5),
            Hypothesis("a cat", -2.5),
            Hypothesis("cat", -10.0),
        ]
        for number in range(len(jobs))
    }


def test_espnet_json(tmp_path):
    outputs = [
        {"name": "target1[1]", "rec_text": "▁the▁cat<eos>", "score": -1.5, "text": "ref"},
        {"name": "target1[2]", "rec_text": "a<space>cat", "score": -2.5, "text": "ref"},
    ]
    path = tmp_path / "data.1.json"
    path.write_text(json.dumps({"utts": {"u": {"output": outputs}}}), encoding="utf-8")
    expected = {"u": [Hypothesis("the cat", -1.5), Hypothesis("a cat", -2.5)]}
    assert read_nbest(str(path)) == expected
    assert read_nbest(str(path.rename(tmp_path / "DATA.JSON"))) == expected


def test_json_lines_in_a_file_named_json(tmp_path):
    line = json.dumps({"id": "u", "hypotheses": [{"text": "a", "score": -1.0}]})
    write(tmp_path, one__json=line + "\n", two__json=f"{line}\n{line.replace('u', 'v', 1)}\n")
    for name in ("one", "two"):
        assert read_nbest(str(tmp_path / f"{name}.json"))["u"] == [Hypothesis("a", -1.0)]


def test_json_lines(tmp_path):
    path = tmp_path / "n.jsonl"
    entry = {"id": 7, "hypotheses": [{"text": "a b", "score": -1, "lm_score": -3}]}
    path.write_text(json.dumps(entry) + "\n\n")
    assert read_nbest(str(path)) == {"7": [Hypothesis("a b", -1.0, 0.0, -3.0)]}
    entry["hypotheses"][0]["graph_score"] = -2
    path.write_text(json.dumps(entry))
    assert read_nbest(str(path)) == {"7": [Hypothesis("a b", -1.0, -2.0, -3.0)]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("u-1 the cat\n", "--acoustic-cost"),
        ("{not json}\n", "line 1 is not valid JSON"),
        ('{"id": "u"}\n', "no 'hypotheses'"),
        ('{"id": "u", "hypotheses": []}\n', "no hypotheses"),
        ('{"id": "u", "hypotheses": [{"text": "a"}]}\n', "no 'score'"),
        ('{"id": "u", "hypotheses": [{"text": 3, "score": 1}]}\n', "string as 'text'"),
        (
            '{"id": "u", "hypotheses": [{"text": "a", "score": "1"}]}\n',
            "a number as 'score', got '1'",
        ),
        ('{"id": "u", "hypotheses": [{"text": "a", "score": 1, "lm_score": true}]}\n', "lm_score"),
        (
            '{"id": "u", "hypotheses": [{"text": "a", "score": NaN}]}\n',
            "expected a number as the score",
        ),
        ('{"id": "u", "hypotheses": [{"text": "a", "score": Infinity}]}\n', "score, got Infinity"),
        (
            '{"id": "u", "hypotheses": [{"text": "a", "score": NaN}]}\n',
            "a number as the score, got NaN",
        ),
        (
            '{"id": "u", "hypotheses": [{"text": "a", "score": 1e999}]}\n',
            "a finite number as the score, got 1e999",
        ),
        ('{"id": "u", "hypotheses": [{"text": "a", "score": 1' + "0" * 400 + "}]}\n", "got 1000"),
        ('{"id": "u", "hypotheses": ' + "[" * 99_999 + "]" * 99_999 + "}\n", "nested too deeply"),
        (
            '{"id": "u", "hypotheses": [{"text": ' + "[" * 800 + "]" * 800 + ', "score": 1}]}\n',
            r"string as 'text', got \[+\.\.\.\]+$",
        ),
        (
            '{"id": "u", "hypotheses": [{"text": "the \\ud83d cat", "score": 1}]}\n',
            r"line 1: a text has '\\ud83d', which is half a character",
        ),
        ('{"id": "u", "id": "v", "hypotheses": []}\n', "key 'id' twice"),
        ('{"id": null, "hypotheses": [{"text": "a", "score": 1}]}\n', "as 'id', got None"),
        ('{"id": ["u"], "hypotheses": [{"text": "a", "score": 1}]}\n', r"as 'id', got \['u'\]"),
        (
            '{"id": "u", "hypotheses": [{"text": "a", "score": 1, "graph_score": "x"}]}\n',
            "graph_sc",
        ),
        ('{"id": "u", "hypotheses": [{"text": "a", "score": 1}]}\n' * 2, "line 2.*twice"),
        ("\n\n", "blank lines"),
        ("", "is empty"),
    ],
)
def test_mistakes_in_json_lines_are_named(tmp_path, text, says):
    path = tmp_path / "n.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        read_nbest(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "costs", "says"),
    [
        ("u1 a\n", "u1 1\n", "expected a key such as utterance-1"),
        ("u-1 a\n", "u-2 1\n", "'u-1' has no acoustic cost"),
        ("u-1 a\nu-1 b\n", "u-1 1\n", "line 2: 'u-1' occurs twice"),
        ("u-1 a\n", "u-1 one\n", "u-1: expected a number as the cost, got 'one'"),
        ("u-1 a\n", "u-1 -inf\n", "a finite number as the cost, got '-inf'"),
        ("u-1 a\n", "\n", "blank lines"),
    ],
)
def test_mistakes_in_kaldi_text_are_named(tmp_path, words, costs, says):
    write(tmp_path, words=words, costs=costs)
    with pytest.raises(UserError, match=says):
        read_nbest(str(tmp_path / "words"), tmp_path / "costs")


def test_a_folder_without_a_list_and_other_json_are_refused(tmp_path):
    with pytest.raises(UserError, match="neither words_text"):
        read_nbest(str(tmp_path))
    write(tmp_path, a__json='{"utts": {"u": 3}}', b__json="[]", c__json="{")
    write(tmp_path, d__json='{"utts": {"u": {"output": []}, "u": {"output": []}}}')
    write(tmp_path, e__json='{"utts": {"v": {"output": [{"rec_text": "", "score": "x"}]}}}')
    for name, says in (
        ("a", "'utts'"),
        ("b", "'utts'"),
        ("c", "not valid JSON"),
        ("d", "key 'u' twice"),
        ("e", "e.json, v: expected a number"),
    ):
        with pytest.raises(UserError, match=says):
            read_nbest(str(tmp_path / f"{name}.json"))
    with pytest.raises(UserError, match="needs --acoustic-cost"):
        read_nbest("-", lm_cost=tmp_path / "costs")


def test_espnet_texts_without_a_score_are_named(tmp_path):
    write(tmp_path / "1best_recog", text="u a\nv b\n", score="u 1\n")
    with pytest.raises(UserError, match="'v' has no score"):
        read_nbest(str(tmp_path))


def test_a_table_keeps_empty_texts(tmp_path):
    write(tmp_path, t="a  b c \nb\n\n")
    assert read_table(tmp_path / "t") == {"a": "b c", "b": ""}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"utts": {}}', "'utts' is empty"),
        ('{"utts": {"a": {"output": []}}}', "'a' has no hypotheses"),
    ],
)
def test_espnet_json_without_hypotheses_is_refused(tmp_path, text, says):
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(UserError, match=says):
        read_nbest(str(tmp_path / "data.json"))


def test_a_language_models_scores_are_for_all_hypotheses_or_none(tmp_path):
    hypotheses = [{"text": "a", "score": -1}, {"text": "b", "score": -2, "lm_score": -3}]
    (tmp_path / "list.jsonl").write_text(json.dumps({"id": "x", "hypotheses": hypotheses}) + "\n")
    with pytest.raises(UserError, match="for all or for none"):
        read_nbest(str(tmp_path / "list.jsonl"))


def test_an_utterance_in_the_outputs_of_two_espnet_jobs_is_refused_by_name(tmp_path):
    for job, key in (("output.1", "u1"), ("output.2", "u2"), ("output.3", "u1")):
        write(tmp_path / "logdir" / job / "1best_recog", text=f"{key} a\n", score=f"{key} -1\n")
    with pytest.raises(UserError, match=r"'u1' occurs twice, in output\.1 and output\.3; if one"):
        read_nbest(str(tmp_path))


def test_minus_infinity_is_a_score_in_every_layout(tmp_path):
    line = '{"id": "u", "hypotheses": [{"text": "a", "score": -Infinity, "lm_score": -1e999}]}'
    write(tmp_path, n__jsonl=line)
    impossible = Hypothesis("a", -math.inf, 0.0, -math.inf)
    assert read_nbest(str(tmp_path / "n.jsonl")) == {"u": [impossible]}
    write(tmp_path / "espnet" / "1best_recog", text="u a\n", score="u tensor(-inf)\n")
    assert read_nbest(str(tmp_path / "espnet")) == {"u": [Hypothesis("a", -math.inf)]}
    write(tmp_path, words="u-1 a\n", costs="u-1 inf\n")
    found = read_nbest(str(tmp_path / "words"), tmp_path / "costs")
    assert found == {"u": [Hypothesis("a", -math.inf)]}
    write(
        tmp_path / "kaldi",
        words_text="u-1 a\nu-2 b\n", acwt="u-1 1\nu-2 1\n",
        lmwt__nolm="u-1 2\nu-2 inf\n", lmwt__withlm="u-1 inf\nu-2 inf\n",
    )  # fmt: skip
    assert read_nbest(str(tmp_path / "kaldi")) == {
        "u": [
            Hypothesis("a", -1.0, -2.0, -math.inf),
            Hypothesis("b", -1.0, -math.inf, -math.inf),
        ]
    }
