"""The list of kept runs says of each folder what it holds and what supersedes it."""

import json

import pytest

from studies.pages.results_index import HEADER, index
from tiedlm.errors import UserError
from tiedlm.experiments.recipes import get_recipe


def keep(results, name, settings=None, about=None, metrics=None, command="some command"):
    """Write a results folder of one run, or of a study where there are no settings."""
    folder = results / name
    folder.mkdir(parents=True)
    config = {"settings": settings.to_dict()} if settings else {"runs": []}
    if metrics is None:
        metrics = {"valid_ppl": 90.04, "test_ppl": 85.06}
    contents = {"config": config, "metrics": metrics, "env": {"command": command}}
    for file, content in {**contents, **({"about": about} if about else {})}.items():
        (folder / f"{file}.json").write_text(json.dumps(content))


def rows(results):
    """Return the lines of the tables as dictionaries, by the folder's name with its date."""
    found = {}
    for line in index(results).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].startswith("2026"):
            row = dict(zip(HEADER, cells, strict=True))
            found[row["folder"].rpartition("](")[2].rstrip(")~")] = row
    return found


def test_every_folder_has_one_line(tmp_path):
    names = ("2026-01-02_a", "2026-01-01_b", "2026-01-03_study")
    for name in names[:2]:
        keep(tmp_path, name, get_recipe("ptb-small").replace(seed=len(name)))
    runs = [{"valid_ppl": 90.0, "test_ppl": 84.0}, {"valid_ppl": 80.0, "test_ppl": 86.0}]
    keep(tmp_path, names[2], metrics={"runs": runs})
    found = rows(tmp_path)
    assert found.keys() == set(names)
    assert list(found) == ["2026-01-02_a", "2026-01-01_b", "2026-01-03_study"]
    assert found["2026-01-02_a"]["numbers"] == "90.0 / 85.1"
    assert found["2026-01-03_study"]["numbers"] == "2 runs, 80.0 / 84.0 to 90.0 / 86.0"


def test_a_run_is_described_by_its_settings(tmp_path):
    real = get_recipe("ptb-small-real")
    keep(tmp_path, "2026-01-01_real", real.replace(epochs=9, init_from="x", decoder_bias=False))
    keep(tmp_path, "2026-01-01_al", get_recipe("ptb-medium-al").replace(seed=3))
    found = rows(tmp_path)
    assert found["2026-01-01_real"]["what"] == (
        "VD-LSTM + REAL, b = 0, gamma 0.65, 200 units, ptb, seed 1, second session; epochs 9"
    )
    assert found["2026-01-01_al"]["what"] == "VD-LSTM + AL, gamma 0.65, 650 units, ptb, seed 3"


def test_a_later_run_of_the_same_model_seed_and_session_supersedes(tmp_path):
    small = get_recipe("ptb-small")
    keep(tmp_path, "2026-01-01_first", small)
    keep(tmp_path, "2026-01-02_other-seed", small.replace(seed=2))
    keep(tmp_path, "2026-01-02_other-session", small.replace(init_from="runs/first"))
    keep(tmp_path, "2026-01-02_other-model", small.replace(tied=True))
    assert not any(row["superseded by"] for row in rows(tmp_path).values())
    keep(tmp_path, "2026-01-03_again", small.replace(threads=2, device="cuda"))
    found = rows(tmp_path)
    marked = {name for name, row in found.items() if row["superseded by"]}
    assert marked == {"2026-01-01_first"}
    assert found["2026-01-01_first"]["superseded by"].startswith("`2026-01-03_again`")
    assert found["2026-01-01_first"]["folder"].startswith("~~")


def test_a_folder_says_what_supersedes_it(tmp_path):
    about = {"what": "An old study", "superseded_by": "new", "because": "of a mistake"}
    keep(tmp_path, "2026-01-01_old", metrics=[{"test_ppl": 1.0}], about=about)
    with pytest.raises(UserError, match=r"about\.json: superseded_by is 'new'"):
        index(tmp_path)
    keep(tmp_path, "2026-01-02_new", metrics=[{"test_ppl": 2.0}, {"test_ppl": 3.0}])
    row = rows(tmp_path)["2026-01-01_old"]
    assert row["what"] == "An old study"
    assert row["superseded by"] == "`2026-01-02_new`: of a mistake"


def test_a_study_is_described_by_its_program_or_else_by_its_command(tmp_path):
    keep(tmp_path, "2026-01-01_bf16", metrics=[{"test_ppl": 1.0}])
    keep(tmp_path, "2026-01-01_bf16-ptb", metrics=[{"test_ppl": 1.0}])
    keep(tmp_path, "2026-01-01_unheard-of", metrics={"runs": ["a", "b"]}, command="make it")
    found = rows(tmp_path)
    program = found["2026-01-01_bf16"]["what"]
    assert program.startswith("Does bfloat16")
    assert found["2026-01-01_bf16-ptb"]["what"] == f"{program} (ptb)"
    assert found["2026-01-01_unheard-of"]["what"] == "`make it`"
