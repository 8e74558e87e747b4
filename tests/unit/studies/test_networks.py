"""The study of networks tunes all cells alike, counts other seeds only, and can be resumed."""

import itertools
import json
import math
import statistics
from argparse import Namespace
from pathlib import Path

import pytest

from studies import harness, networks
from tiedlm.experiments.recipes import get_recipe
from tiedlm.files import write_json
from tiedlm.training.outcomes import Diverged, OutOfTime

CELL = ("demo", "gru", "REAL-2.6")
CELLS = list(itertools.product(networks.TEXTS, networks.NETWORKS, networks.MODELS))


@pytest.fixture
def options(tmp_path):
    return Namespace(
        out=tmp_path / "out", results=tmp_path / "results", seeds=3, precision="fp32", jobs=2
    )


def finish(job, valid_ppl, test_ppl, seconds=7200.0):
    write_json(job.out / "config.json", {"settings": job.settings.to_dict()})
    write_json(job.out / "env.json", {})
    result = {"valid_ppl": valid_ppl, "test_ppl": test_ppl, "seconds": seconds}
    write_json(job.out / "result.json", {"seed": job.settings.seed, **result})
    (job.out / "metrics.jsonl").write_text('{"epoch": 1, "valid_ppl": 9.0}\n')


def test_all_cells_have_the_same_search_on_seed_1(options):
    search = networks.search_jobs(CELLS, options)
    assert set(search) == set(itertools.product(CELLS, networks.POINTS))
    assert {job.settings.seed for job in search.values()} == {1}
    assert len({job.out for job in search.values()}) == len(search) == 300
    for (cell, point), job in search.items():
        recipe = search[cell, (1, 1)].settings
        assert job.settings.lr == point[0] * recipe.lr
        assert job.settings.dropout_input == pytest.approx(point[1] * recipe.dropout_input)


@pytest.mark.parametrize("cell", CELLS[:30], ids="-".join)
def test_a_cell_is_a_recipe_for_a_text_of_your_own(cell, options):
    _, network, model = cell
    suffix, gamma = networks.MODELS[model]
    recipe = get_recipe({"lstm": "small"}.get(network, network) + suffix)
    demo = get_recipe("demo")
    expected = recipe.replace(
        data="sotu-short", fraction=demo.fraction, min_count=demo.min_count, alpha=20 * gamma,
        seed=1, threads=1, precision="fp32",
    )  # fmt: skip
    assert networks.make_job(cell, (1, 1), 1, options).settings == expected
    assert expected.tied == model.startswith("RE")
    assert expected.alpha == {"5": 13.0, "6": 52.0}.get(model[-1], 0.0)


def test_a_point_scales_all_dropout_or_the_whole_schedule_of_the_rate(options):
    recipe = networks.make_job(("ptb", "awd-lstm", "RE"), (1, 1), 1, options).settings
    less = networks.make_job(("ptb", "awd-lstm", "RE"), (1, 0.7), 1, options).settings
    drops = {"dropout_words": 0.07, "dropout_input": 0.21, "dropout_hidden": 0.14}
    drops["options"] = {"dropout_output": 0.21, "dropconnect": 0.21}
    assert less == recipe.replace(**drops)
    recipe = networks.make_job(("ptb", "transformer", "RE"), (1, 1), 1, options).settings
    twice = networks.make_job(("ptb", "transformer", "RE"), (2, 1), 1, options).settings
    assert twice == recipe.replace(lr=2e-3, lr_min=2e-4)


def test_validation_chooses_and_the_test_text_does_not(options):
    search = networks.search_jobs([CELL], options)
    valid = dict(zip(networks.POINTS, (30.0, 25.0, 40.0, 20.0, 50.0), strict=True))
    for (_, point), job in search.items():
        finish(job, valid[point], 100 - valid[point])
    assert networks.choices(search, search, set()) == {CELL: (1, 0.7)}


def test_a_cell_is_chosen_once_its_search_is_over(options):
    search = networks.search_jobs([CELL], options)
    lost = search[CELL, (2, 1)]
    found = {key: job for key, job in search.items() if job != lost}
    for job in found.values():
        finish(job, 10.0, 10.0)
    assert networks.choices(search, found, set()) == {}
    # A run that diverged is over, and never chosen. Of equals the recipe is chosen.
    assert networks.choices(search, found, {lost.out.name}) == {CELL: (1, 1)}
    assert networks.choices(search, {}, {job.out.name for job in search.values()}) == {}


def test_only_the_other_seeds_count_with_intervals_and_pairs(options):
    cells = [("demo", "gru", model) for model in ("VD", "RE", "REAL-0.65")]
    tests = {"VD": (50.0, 52.0), "RE": (45.0, 46.0), "REAL-0.65": (41.0, 43.0)}
    counted = networks.counted_jobs(dict.fromkeys(cells, (2, 1)), options)
    assert {seed for _, seed in counted} == {2, 3}
    for (cell, seed), job in counted.items():
        assert job.settings.lr == 2 * get_recipe("gru").lr
        finish(job, 60.0, tests[cell[-1]][seed - 2])
    text = networks.table(counted, dict.fromkeys(cells, (2, 1)))
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    half = 12.7062 * statistics.stdev((41, 43)) / math.sqrt(2)
    assert rows[2][:5] == ["demo", "gru", "REAL-0.65", "rate x 2", "2"]
    assert rows[2][5:7] == ["60.00 ± 0.00", f"42.00 ± {half:.2f}"]
    assert rows[2][7:] == ["-9.00 ± 0.00", f"-3.50 ± {12.7062 * 0.5:.2f}"]
    assert rows[0][7:] == ["-", "-"]
    assert rows[1][7:] == [f"-5.50 ± {12.7062 * 0.5:.2f}", "-"]


class Trainer:
    """Takes the place of training: writes the results that a formula gives."""

    def __init__(self, diverges="", at_most=10**6):
        self.names, self.diverges, self.at_most = [], diverges, at_most

    def __call__(self, jobs, at_once, view, seconds):
        for job in jobs:
            if len(self.names) == self.at_most or seconds <= 0:
                raise OutOfTime("time is over")
            if self.diverges and self.diverges in job.out.name:
                raise Diverged("epoch 1: loss nan", job.out)
            self.names.append(job.out.name)
            finish(job, 90 + 10 * abs(job.settings.lr - 2) + job.settings.seed, 80.0)


@pytest.fixture
def study(options, monkeypatch, capsys):
    def run(*flags, trainer, out=options.out):
        monkeypatch.setattr(harness, "train_all", trainer)
        part = ["--texts", "demo", "--networks", "gru", "--cells", "VD", "RE"]
        folders = ["--out", str(out), "--results", str(options.results)]
        monkeypatch.setattr("sys.argv", ["/x/networks.py", *part, *folders, *flags])
        networks.main()
        return capsys.readouterr().out

    return run


def kept_table(results):
    (folder,) = results.iterdir()
    return (folder / "table.md").read_text()


def test_the_search_comes_first_and_its_best_setting_is_repeated(study, options):
    trainer = Trainer()
    study(trainer=trainer)
    assert len(trainer.names) == 2 * (len(networks.POINTS) + 2)
    assert all(name.endswith("-seed1") for name in trainer.names[:10])
    assert set(trainer.names[10:]) == {
        f"demo-gru-{model}-rate2-dropout1-seed{seed}" for model in ("VD", "RE") for seed in (2, 3)
    }
    text = kept_table(options.results)
    assert "| demo | gru | VD | 101.00 | 106.00 | **91.00** | 101.00 | 101.00 |" in text
    assert "| demo | gru | RE | rate x 2 | 2 | 92.50 ± 6.35 | 80.00 ± 0.00 | +0.00" in text

    again = Trainer()
    study("--seeds", "4", trainer=again)  # another seed: the rest is not trained again
    assert again.names == [f"demo-gru-{model}-rate2-dropout1-seed4" for model in ("VD", "RE")]


def test_a_stopped_study_goes_on(study, options):
    first, second = Trainer(at_most=7), Trainer()
    study(trainer=first)
    counted, search = kept_table(options.results).split("\n\n")
    assert "| demo |" not in counted  # no cell of the network is repeated yet
    assert "| demo | gru | RE | 101.00 | 106.00 | - | - | - |" in search
    study(trainer=second)
    assert len(first.names + second.names) == len({*first.names, *second.names}) == 14
    assert "| demo | gru | RE | rate x 2 | 2 |" in kept_table(options.results)


def test_kept_runs_are_not_trained_again_and_show_the_same_tables(study, options, tmp_path):
    study(trainer=Trainer(diverges="RE-rate0.5"))
    text, idle = kept_table(options.results), Trainer()
    study(trainer=idle, out=tmp_path / "elsewhere")
    assert idle.names == []
    shown = study("--show", trainer=idle, out=tmp_path / "elsewhere")
    assert text in shown
    assert kept_table(options.results) == text
    assert not (tmp_path / "elsewhere").exists()


def test_a_run_that_diverges_is_logged_and_the_others_go_on(study, options):
    trainer = Trainer(diverges="RE-rate2")
    study(trainer=trainer)
    text = kept_table(options.results)
    assert "| demo | gru | RE | **101.00** | 106.00 | diverged | 101.00 | 101.00 |" in text
    assert text.endswith("\nDiverged: demo-gru-RE-rate2-dropout1-seed1\n")
    assert "demo-gru-RE-rate1-dropout1-seed3" in trainer.names
    (measured,) = options.results.glob("*/measured.json")
    assert json.loads(measured.read_text()) == {"diverged": ["demo-gru-RE-rate2-dropout1-seed1"]}


def test_show_trains_nothing_and_estimates_the_hours_of_the_missing_runs(study, options):
    text = study("--show", trainer=None)
    assert "| demo | gru | 14 |" in text
    assert not options.results.exists()
    assert not options.out.exists()
    # Nine of the fourteen runs are missing, of two hours each on one core.
    study(trainer=Trainer(at_most=5))
    assert "| demo | gru | 9 | 9.0 |" in study("--show", trainer=None)


def test_the_sizes_of_the_estimate_are_those_of_the_text():
    corpus = get_recipe("small").replace(**networks.TEXTS["demo"]).load_corpus(progress=False)
    assert networks.SIZES["demo"] == (len(corpus.train), len(corpus.vocabulary))


def test_an_unknown_network_is_one_line_and_exit_status_2(study, capsys):
    with pytest.raises(SystemExit, match="2"):
        study("--networks", "lstn", trainer=None)
    assert "--networks: invalid choice: 'lstn'" in capsys.readouterr().err


def test_no_finished_run_is_a_mistake(study, options):
    with pytest.raises(networks.UserError, match=f"no run .* in {Path(options.out)}$"):
        study("--budget", "0", trainer=Trainer())
