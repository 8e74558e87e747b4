"""The study of networks tunes all cells alike, counts other seeds only, and can be resumed."""

import itertools
import json
import math
import statistics
from argparse import Namespace
from pathlib import Path

import pytest

from studies import harness, network_tables, networks
from studies.inside import Inside
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
    assert len({job.out for job in search.values()}) == len(search)
    for (cell, point), job in search.items():
        middle = search[cell, 1.0].settings
        assert job.settings.dropout_input == pytest.approx(point * middle.dropout_input)


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_the_models_of_a_network_differ_in_tying_and_gamma_only(cell, options):
    text, network, model = cell
    settings = networks.make_job(cell, 1.0, 1, options).settings
    baseline = networks.make_job((text, network, "VD"), 1.0, 1, options).settings
    gamma = {"5": 0.65, "6": 2.6}.get(model[-1], 0.0)
    assert settings == baseline.replace(tied=model.startswith("RE"), alpha=20 * gamma)
    assert (baseline.tied, baseline.alpha) == (False, 0.0)
    assert baseline.network == network.replace("-", "_")
    assert baseline.lr == networks.RATES.get((text, network), networks.NETWORKS[network].lr)
    assert baseline.lr_min == baseline.lr / 50


def test_a_point_scales_all_dropout(options):
    middle = networks.make_job(("ptb", "awd-lstm", "RE"), 1.0, 1, options).settings
    less = networks.make_job(("ptb", "awd-lstm", "RE"), 0.5, 1, options).settings
    drops = {"dropout_words": 0.025, "dropout_input": 0.15, "dropout_hidden": 0.1}
    drops["options"] = {"dropout_output": 0.15, "dropconnect": 0.1}
    assert less == middle.replace(**drops)


def test_validation_chooses_and_the_test_text_does_not(options):
    search = networks.search_jobs([CELL], options)
    valid = {0.25: 30.0, 0.5: 25.0, 1.0: 40.0}
    found = {key: job for key, job in search.items() if key[1] in valid}
    for (_, point), job in found.items():
        finish(job, valid[point], 100 - valid[point])
    tried = networks.tried_points(search, found, set())
    assert tried == {CELL: valid}
    assert networks.choices(tried) == {CELL: 0.5}


@pytest.mark.parametrize(
    ("tried", "wanted"),
    [
        ({}, [1.0, 0.5]),
        ({0.5: 30.0}, [1.0]),
        ({0.5: 30.0, 1.0: 20.0}, [1.5]),
        ({0.5: 20.0, 1.0: 30.0}, [0.25]),
        ({0.5: 30.0, 1.0: 20.0, 1.5: 10.0}, [2.0]),
        ({0.5: 30.0, 1.0: 20.0, 1.5: 25.0}, []),
        ({0.5: 30.0, 1.0: 20.0, 1.5: math.inf}, []),
        ({0.125: 10.0, 0.25: 20.0, 0.5: 30.0, 1.0: 40.0}, []),  # no point is left below
    ],
)
def test_a_search_goes_on_until_both_neighbours_of_its_best_are_tried(tried, wanted):
    assert networks.next_points(tried) == wanted
    assert bool(networks.choices({CELL: tried})) == (not wanted)


def test_a_run_that_diverged_is_tried_and_never_chosen(options):
    search = networks.search_jobs([CELL], options)
    names = {job.out.name for (_, point), job in search.items() if point >= 0.5}
    tried = networks.tried_points(search, {}, names)
    assert tried == {CELL: dict.fromkeys([0.5, 1.0, 1.5, 2.0], math.inf)}
    everywhere = {CELL: dict.fromkeys(networks.POINTS, math.inf)}
    assert networks.next_points(everywhere[CELL]) == []
    assert networks.choices(everywhere) == {}


def counted_runs(options, cells, tests):
    """Return finished runs of cells whose models have these test perplexities by seed."""
    counted = networks.counted_jobs(dict.fromkeys(cells, 1.5), options)
    for ((_, network, model), seed), job in counted.items():
        finish(job, 60.0, tests[network, model][seed - 2])
    return counted


def rows_of(table):
    return [[part.strip() for part in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def test_only_the_other_seeds_count_with_pairs_and_pooled_intervals(options):
    cells = [("demo", "gru", model) for model in ("VD", "RE", "REAL-0.65")]
    tests = {("gru", "VD"): (50, 52), ("gru", "RE"): (45, 46), ("gru", "REAL-0.65"): (41, 43)}
    counted = counted_runs(options, cells, tests)
    assert {seed for _, seed in counted} == {2, 3}
    assert all(job.settings.dropout_hidden == pytest.approx(0.45) for job in counted.values())
    rows = rows_of(network_tables.table(counted, dict.fromkeys(cells, 1.5)))
    assert rows[2][:6] == ["gru", "REAL-0.65", "x 1.5", "2", "60.00", "42.00"]
    pairs = {
        (model, base): [
            100 * math.log(a / b)
            for a, b in zip(tests["gru", model], tests["gru", base], strict=True)
        ]
        for model, base in (("RE", "VD"), ("REAL-0.65", "VD"), ("REAL-0.65", "RE"))
    }
    # With two seeds, the effect of the seed is the mean of the models' steps between them.
    steps = [math.log(second / first) for first, second in tests.values()]
    variance = 100**2 * statistics.variance(steps)  # of a step, which has two runs as a change has
    half = 4.3027 * math.sqrt(variance / 2)  # Student's t of two degrees of freedom: three models
    shown = {key: f"{statistics.fmean(pair):+.1f} ± {half:.1f}" for key, pair in pairs.items()}
    assert rows[0][6:] == ["-", "-"]
    assert rows[1][6:] == [shown["RE", "VD"], "-"]
    assert rows[2][6:] == [shown["REAL-0.65", "VD"], shown["REAL-0.65", "RE"]]


def test_changes_of_a_network_share_models_and_are_not_independent():
    tests = {"VD": {2: 50.0, 3: 52.0}, "AL-0.65": {2: 45.0, 3: 46.0}}
    deviation, freedom = network_tables.noise([tests])
    assert (deviation, freedom) == (pytest.approx(statistics.stdev([5.0, 6.0])), 1)
    three = tests | {"RE": {2: 40.0, 3: 43.0}}
    assert network_tables.noise([three, tests])[1] == 3
    one_seed_less = three | {"REAL-0.65": {3: 39.0}}  # it says nothing about the noise
    assert network_tables.noise([one_seed_less]) == pytest.approx(network_tables.noise([three]))


def test_changes_over_networks_count_each_network_once(options):
    cells = [("demo", network, model) for network in ("gru", "rhn") for model in ("VD", "RE")]
    tests = {("gru", "VD"): (50, 50), ("gru", "RE"): (45, 45), ("rhn", "VD"): (40, 40),
             ("rhn", "RE"): (42, 44)}  # fmt: skip
    counted = counted_runs(options, cells, tests)
    (row,) = rows_of(network_tables.over_networks(counted, dict.fromkeys(cells, 1.0)))
    gru, rhn = 100 * math.log(45 / 50), 50 * (math.log(42 / 40) + math.log(44 / 40))
    half = 12.7062 * abs(gru - rhn) / 2
    assert row == ["RE", "VD", "1 of 2", f"{(gru + rhn) / 2:+.1f} ± {half:.1f}"]


def test_one_seed_has_no_interval(options):
    cells = [("demo", "gru", model) for model in ("VD", "RE")]
    counted = counted_runs(options, cells, {("gru", "VD"): (50, 50), ("gru", "RE"): (45, 45)})
    first = {key: job for key, job in counted.items() if key[1] == 2}
    rows = rows_of(network_tables.table(first, dict.fromkeys(cells, 1.0)))
    assert rows[1][-2:] == ["-10.5 (1 seed)", "-"]


def test_the_models_are_measured_from_inside_as_long_as_they_have_weights(options, monkeypatch):
    cell = ("demo", "gru", "AL-0.65")
    counted = networks.counted_jobs({cell: 1.0}, options)
    monkeypatch.setattr(network_tables, "has_weights", lambda job: True)
    monkeypatch.setattr(
        network_tables, "measure", lambda job: Inside(job.settings.seed, 1.0, 0.25, 0.5, 0.016)
    )
    numbers = network_tables.insides(counted, {cell: 1.0}, {})
    assert numbers == {"demo-gru-AL-0.65": [2.5, 1.0, 0.25, 0.5, 0.016, 2]}
    row = network_tables.inside_table(numbers, [cell]).splitlines()[2]
    assert row == "| gru | AL-0.65 | 2.50 | 1.00 | 0.250 | 50.0% | 1.6% | 2 |"
    monkeypatch.setattr(network_tables, "has_weights", lambda job: False)  # from results/
    assert network_tables.insides(counted, {cell: 1.0}, numbers) == numbers


class Trainer:
    """Takes the place of training: a hidden dropout of 0.12 is best."""

    best = 0.12

    def __init__(self, diverges="", at_most=10**6):
        self.names, self.diverges, self.at_most = [], diverges, at_most

    def __call__(self, jobs, at_once, view, seconds):
        for job in jobs:
            if len(self.names) == self.at_most or seconds <= 0:
                raise OutOfTime("time is over")
            if self.diverges and self.diverges in job.out.name:
                raise Diverged("epoch 1: loss nan", job.out)
            self.names.append(job.out.name)
            off = abs(job.settings.dropout_hidden - self.best)
            finish(job, 90 + 100 * off + job.settings.seed, 80.0)


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
    assert len(trainer.names) == 2 * (3 + 2)
    assert all(name.endswith("-seed1") for name in trainer.names[:6])
    assert set(trainer.names[6:]) == {
        f"demo-gru-{model}-dropout0.5-seed{seed}" for model in ("VD", "RE") for seed in (2, 3)
    }
    text = kept_table(options.results)
    assert "| gru | VD | 95.50 | **94.00** | 109.00 |" in text
    assert "| gru | RE | x 0.5 | 2 | 95.50 | 80.00 | +0.0 ± 0.0 | - |" in text

    again = Trainer()
    study("--seeds", "4", trainer=again)  # another seed: the rest is not trained again
    assert again.names == [f"demo-gru-{model}-dropout0.5-seed4" for model in ("VD", "RE")]


def test_a_stopped_study_goes_on(study, options):
    first, second = Trainer(at_most=4), Trainer()
    study(trainer=first)
    counted, _, search, _ = kept_table(options.results).split("\n\n")
    assert "| gru |" not in counted  # no cell of the network is repeated yet
    assert "| gru | RE | 94.00 | 109.00 |" in search
    study(trainer=second)
    assert len(first.names + second.names) == len({*first.names, *second.names}) == 10
    assert "| gru | RE | x 0.5 | 2 |" in kept_table(options.results)


def test_kept_runs_are_not_trained_again_and_show_the_same_tables(study, options, tmp_path):
    study(trainer=Trainer(diverges="RE-dropout0.25"))
    text, idle = kept_table(options.results), Trainer()
    study(trainer=idle, out=tmp_path / "elsewhere")
    assert idle.names == []
    shown = study("--show", trainer=idle, out=tmp_path / "elsewhere")
    assert text in shown
    assert kept_table(options.results) == text
    assert not (tmp_path / "elsewhere").exists()


def test_a_run_that_diverges_is_logged_and_the_others_go_on(study, options):
    trainer = Trainer(diverges="RE-dropout0.5")
    study(trainer=trainer)
    text = kept_table(options.results)
    assert "| gru | RE | - | diverged | **109.00** | 124.00 |" in text
    assert text.endswith("\nDiverged: demo-gru-RE-dropout0.5-seed1\n")
    assert "demo-gru-RE-dropout1-seed3" in trainer.names
    (measured,) = options.results.glob("*/measured.json")
    assert json.loads(measured.read_text())["diverged"] == ["demo-gru-RE-dropout0.5-seed1"]


def test_show_trains_nothing_and_estimates_the_hours_of_the_missing_runs(study, options):
    text = study("--show", trainer=None)
    assert "| gru | 8 |" in text
    assert not options.results.exists()
    assert not options.out.exists()
    # Five of the ten runs are missing, of two hours each on one core.
    study(trainer=Trainer(at_most=5))
    assert "| gru | 5 | 10.0 |" in study("--show", trainer=None)


def test_the_sizes_of_the_estimate_are_those_of_the_text():
    corpus = get_recipe("small").replace(**networks.TEXTS["demo"]).load_corpus(progress=False)
    assert networks.WORDS["demo"] == len(corpus.train)


def test_an_unknown_network_is_one_line_and_exit_status_2(study, capsys):
    with pytest.raises(SystemExit, match="2"):
        study("--networks", "lstn", trainer=None)
    assert "--networks: invalid choice: 'lstn'" in capsys.readouterr().err


def test_no_finished_run_is_a_mistake(study, options):
    with pytest.raises(networks.UserError, match=f"no run .* in {Path(options.out)}$"):
        study("--budget", "0", trainer=Trainer())
