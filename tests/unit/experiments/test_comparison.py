"""Runs are grouped and compared with spread and intervals, including unfinished ones."""

import json
import math

import pytest
import scipy.stats

from tiedlm.errors import UserError
from tiedlm.experiments.comparison import (
    changed_settings,
    compare_runs,
    interval95,
    same_text,
)
from tiedlm.training.settings import Settings


def run_folder(path, settings, test_ppl=None, valid_ppl=(100.0,), words=10, text="0"):
    path.mkdir(parents=True)
    config = {
        "settings": settings.to_dict(),
        "model": {"vocab_size": words},
        "corpus": {"sha256": {"a.txt": text}},
    }
    (path / "config.json").write_text(json.dumps(config))
    lines = [{"epoch": i + 1, "valid_ppl": ppl} for i, ppl in enumerate(valid_ppl)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if test_ppl is not None:
        result = {"valid_ppl": min(valid_ppl), "test_ppl": test_ppl, "parameters": 10, "epochs": 1}
        (path / "result.json").write_text(json.dumps(result))
    return path


def test_runs_that_differ_in_their_seed_are_one_row(tmp_path):
    base = Settings(recipe="base")
    real = Settings(recipe="real", tied=True, decoder_bias=True)
    folders = [
        run_folder(tmp_path / f"{s.recipe}{seed}", s.replace(seed=seed), test_ppl=ppl)
        for s, seed, ppl in [(base, 1, 90.0), (real, 1, 80.0), (base, 2, 92.0), (real, 2, 86.0)]
    ]
    first, second = compare_runs(folders)
    assert [run.seed for run in first.runs] == [1, 2]
    assert first.test.mean == 91
    assert first.test.spread == pytest.approx(math.sqrt(2))
    assert first.difference is None
    assert second.difference == pytest.approx(-8)  # paired: (80 - 90 + 86 - 92) / 2
    expected = scipy.stats.t.ppf(0.975, 1) * scipy.stats.sem([-10, -6])
    assert second.interval == pytest.approx(expected, rel=1e-4)
    assert changed_settings([first, second]) == {"tied": [False, True]}


def test_rows_of_one_recipe_and_several_seeds_are_named_by_what_differs(tmp_path):
    folders = [
        run_folder(
            tmp_path / f"{alpha}-{seed}", Settings(recipe="gru", alpha=alpha, seed=seed), test_ppl=9
        )
        for alpha in (0.0, 13.0)
        for seed in (1, 2)
    ]
    assert [row.name for row in compare_runs(folders)] == ["gru, alpha 0.0", "gru, alpha 13.0"]


def test_second_sessions_are_one_row_if_their_first_sessions_are(tmp_path):
    base, other = Settings(recipe="base"), Settings(recipe="base", lr=0.5)

    def second(name, seed, first, **changes):
        settings = base.replace(seed=seed, init_from=str(first), threads=seed, **changes)
        return run_folder(tmp_path / name, settings, test_ppl=80.0 + seed)

    firsts = [
        run_folder(tmp_path / f"first{seed}", base.replace(seed=seed), test_ppl=90.0)
        for seed in (1, 2, 4)
    ]
    elsewhere = run_folder(tmp_path / "other", other.replace(seed=3), test_ppl=90.0)
    folders = [
        *firsts, second("second1", 1, firsts[0]), second("third2", 2, tmp_path / "second2"),
        second("second2", 2, firsts[1]), second("second3", 3, elsewhere),
        second("of-first1", 4, firsts[0]),  # another seed's first session
        second("moved4", 4, "/gone/first4"),  # found beside it
        second("lost5", 5, "/gone/first5"), second("lost6", 6, "/gone/first6"),
    ]  # fmt: skip
    rows = compare_runs(folders)
    assert [[run.folder.name for run in row.runs] for row in rows] == [
        ["first1", "first2", "first4"], ["second1", "second2", "moved4"], ["third2"], ["second3"],
        ["of-first1"], ["lost5"], ["lost6"],
    ]  # fmt: skip


def test_frozen_runs_are_one_row_if_their_vectors_are_of_one_run(tmp_path):
    source = run_folder(tmp_path / "source", Settings(recipe="re"), test_ppl=90.0)
    other = run_folder(tmp_path / "other", Settings(recipe="re", lr=0.5), test_ppl=90.0)
    frozen = [
        run_folder(
            tmp_path / f"frozen{seed}",
            Settings(
                recipe="x", alpha=1.0, soft_target="frozen", soft_target_from=str(place), seed=seed
            ),
            test_ppl=80.0,
        )
        for seed, place in ((2, source), (3, source), (4, other))
    ]
    assert [len(row.runs) for row in compare_runs(frozen)] == [2, 1]


def test_runs_that_refer_to_each_other_are_still_compared(tmp_path):
    settings = [Settings(seed=seed, init_from=str(tmp_path / "a")) for seed in (1, 2)]
    folders = [
        run_folder(tmp_path / n, s, test_ppl=9.0) for n, s in zip("ab", settings, strict=True)
    ]
    assert len(compare_runs(folders)) == 2


def test_a_run_from_before_a_setting_counts_with_its_default(tmp_path):
    tied = Settings(recipe="re", tied=True)
    folders = [
        run_folder(tmp_path / "old", tied, test_ppl=90.0),
        run_folder(tmp_path / "same", tied.replace(seed=2, decoder_bias=False), test_ppl=91.0),
        run_folder(tmp_path / "new", tied.replace(decoder_bias=True), test_ppl=88.0),
    ]
    config = json.loads((folders[0] / "config.json").read_text())
    del config["settings"]["decoder_bias"]
    (folders[0] / "config.json").write_text(json.dumps(config))
    rows = compare_runs(folders)
    assert [len(row.runs) for row in rows] == [2, 1]
    assert changed_settings(rows) == {"decoder_bias": [False, True]}


def test_runs_are_one_row_by_what_their_text_holds_not_where_it_lies(tmp_path):
    settings = Settings(recipe="base", data="/here/my.txt")
    folders = [
        run_folder(tmp_path / "a", settings, test_ppl=90.0),
        run_folder(tmp_path / "b", settings.replace(seed=2), test_ppl=50.0, text="edited"),
        run_folder(tmp_path / "c", settings.replace(seed=3, data="/there.txt"), test_ppl=92.0),
    ]
    first, second = compare_runs(folders)
    assert [run.seed for run in first.runs] == [1, 3]
    assert [run.seed for run in second.runs] == [2]


def test_place_and_hardware_do_not_split_a_row(tmp_path):
    base = Settings(recipe="base")
    others = {"device": "cpu", "threads": 3, "accumulate": 2, "precision": "fp32"}
    folders = [run_folder(tmp_path / "first", base, test_ppl=90.0)]
    for seed, (name, value) in enumerate(others.items(), start=2):
        settings = base.replace(seed=seed, **{name: value})
        folders.append(run_folder(tmp_path / name, settings, test_ppl=90.0))
    bf16 = run_folder(tmp_path / "bf16", base.replace(seed=9, precision="bf16"), test_ppl=90.0)
    assert [len(row.runs) for row in compare_runs([*folders, bf16])] == [5, 1]


@pytest.mark.parametrize("count", [2, 3, 10, 31, 200])
def test_interval_is_students(count):
    values = [math.sin(i) for i in range(count)]
    expected = scipy.stats.t.interval(
        0.95, count - 1, loc=sum(values) / count, scale=scipy.stats.sem(values)
    )
    half_width = (expected[1] - expected[0]) / 2
    assert interval95(values) == pytest.approx(half_width, rel=1e-4)


def test_one_seed_has_no_interval_and_says_so(tmp_path):
    folders = [
        run_folder(tmp_path / "a", Settings(recipe="a"), 90.0),
        run_folder(tmp_path / "b", Settings(recipe="b", lr=2.0), 80.0),
    ]
    rows = compare_runs(folders)
    assert rows[1].difference == -10
    assert rows[1].interval is None
    assert "1 seed" in str(rows[1].test)


def test_a_run_under_way_shows_its_best_validation_so_far(tmp_path):
    finished = run_folder(tmp_path / "a", Settings(recipe="a"), 90.0, valid_ppl=(95.0,))
    going = run_folder(tmp_path / "b", Settings(recipe="b"), None, valid_ppl=(120.0, 93.0, 94.0))
    rows = compare_runs([finished, going])
    assert rows[1].test is None
    assert rows[1].valid.mean == 93
    assert not rows[1].runs[0].finished
    assert rows[1].difference == pytest.approx(
        -2
    )  # validation only, since the test split is not read yet


def test_the_same_seed_is_not_counted_twice_nor_the_same_folder(tmp_path):
    settings = Settings(recipe="a")
    one, two = (run_folder(tmp_path / name, settings, 90.0) for name in ("one", "two"))
    rows = compare_runs([one, two, tmp_path / "two" / ".." / "one"])
    assert [(row.name, len(row.runs)) for row in rows] == [("a (one)", 1), ("a (two)", 1)]


def test_an_unfinished_seed_is_not_averaged_with_finished_ones(tmp_path):
    settings = Settings(recipe="a")
    done = run_folder(tmp_path / "one", settings, 90.0, valid_ppl=(95.0,))
    going = run_folder(tmp_path / "two", settings.replace(seed=2), None, valid_ppl=(120.0,))
    first, second = compare_runs([done, going])
    assert (first.valid.mean, second.valid.mean) == (95, 120)
    assert second.difference is None  # no seed in common


@pytest.mark.parametrize("text", ['{"epoch": 1, "va', "null\n", "{}\n", '{"valid_ppl": "x"}\n'])
def test_damaged_metrics_are_one_line(tmp_path, text):
    folder = run_folder(tmp_path / "a", Settings())
    (folder / "metrics.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged"):
        compare_runs([folder])


def test_a_folder_that_is_not_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        compare_runs([tmp_path])


def test_a_run_without_an_epoch_is_named(tmp_path):
    folder = run_folder(tmp_path / "a", Settings(), valid_ppl=())
    with pytest.raises(UserError, match="no epoch has ended"):
        compare_runs([folder])


def test_perplexities_of_different_vocabularies_are_not_subtracted(tmp_path):
    folders = [
        run_folder(tmp_path / "a", Settings(recipe="a"), 90.0),
        run_folder(tmp_path / "b", Settings(recipe="b", min_count=2), 20.0, words=9),
    ]
    rows = compare_runs(folders)
    assert rows[1].difference is None
    assert not same_text(rows[1].runs[0], rows[0].runs[0])


def test_perplexities_of_other_tokens_of_the_same_files_are_not_subtracted(tmp_path):
    folders = []
    for name, (tokens, unknown) in {"a": (90, 7), "b": (99, 7), "c": (90, 8), "d": (90, 7)}.items():
        folder = run_folder(tmp_path / name, Settings(recipe=name, lr=ord(name)), 90.0)
        config = json.loads((folder / "config.json").read_text())
        parts = {part: {"tokens": tokens, "unk": unknown} for part in ("train", "valid", "test")}
        config["corpus"]["parts"] = parts
        (folder / "config.json").write_text(json.dumps(config))
        folders.append(folder)
    assert [row.difference for row in compare_runs(folders)] == [None, None, None, 0.0]
