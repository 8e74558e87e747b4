from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tiedlm.data.source import from_folder, from_one_file, text_files
from tiedlm.errors import UserError


def lines_of(source):
    """Return (part, line) for each line."""
    return [(part, line) for part, lines, _ in source.batches() for line in lines]


@pytest.mark.parametrize(
    ("lines", "block"), [(10, 1), (199, 1), (250, 2), (1000, 10), (200_000, 1000)]
)
def test_one_file_is_split_in_blocks_of_lines(tmp_path: Path, lines: int, block: int):
    path = tmp_path / "book.txt"
    path.write_text("".join(f"{number}\n" for number in range(lines)))
    source = from_one_file(path)
    dealt = lines_of(source)
    assert [int(line) for _, line in dealt] == list(range(lines))
    expected = [{8: "valid", 9: "test"}.get(n // block % 10, "train") for n in range(lines)]
    assert [part for part, _ in dealt] == expected
    assert f"blocks of {block} consecutive lines" in source.split
    if lines % (10 * block) == 0:
        assert Counter(part for part, _ in dealt) == {
            "train": 0.8 * lines,
            "valid": 0.1 * lines,
            "test": 0.1 * lines,
        }


@pytest.mark.parametrize("lines", [30, 250])
def test_blank_lines_stay_with_the_line_before_and_do_not_change_the_split(
    tmp_path: Path, lines: int
):
    words = [f"word{number}" for number in range(lines)]
    plain, spaced = tmp_path / "plain.txt", tmp_path / "spaced.txt"
    plain.write_text("".join(f"{word}\n" for word in words))
    spaced.write_text("\n" + "".join(f"{word}\n \n" for word in words))
    dealt = lines_of(from_one_file(spaced))
    assert [pair for pair in dealt if pair[1].strip()] == lines_of(from_one_file(plain))
    assert dealt[0] == ("train", "")
    assert all(dealt[at][0] == dealt[at - 1][0] for at in range(2, len(dealt), 2))
    assert "blank ones not counted" in from_one_file(spaced).split
    assert "blank" not in from_one_file(plain).split


def test_a_file_with_too_few_lines_to_split_is_an_error(tmp_path: Path):
    (tmp_path / "t.txt").write_text("a\n\n" * 9)
    with pytest.raises(UserError, match="has 9 lines that are not blank, too few to split"):
        from_one_file(tmp_path / "t.txt")


def test_the_order_of_texts_is_the_same_on_every_system(tmp_path: Path):
    class AsOnWindows(type(Path())):
        def __lt__(self, other):
            return str(self).lower() < str(other).lower()

    for name in ("a.txt", "B.txt", "c/d.txt", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for folder in (tmp_path, AsOnWindows(tmp_path)):
        names = [path.relative_to(folder).as_posix() for path in text_files(folder)]
        assert names == ["B.txt", "a.txt", "c/d.txt", "c.txt"]


def test_the_files_of_runs_in_a_folder_are_no_texts(tmp_path: Path):
    """`--data . --out runs/mine` would otherwise read the vocabularies of earlier runs."""
    for name in ("book.txt", "runs/a/config.json", "runs/a/vocabulary.txt", "runs/a/out/all.txt",
                 "runs/notes.txt", "b/vocabulary.txt"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in text_files(tmp_path)]
    assert names == ["b/vocabulary.txt", "book.txt", "runs/notes.txt"]


@pytest.mark.parametrize("names", ["ptb.{}.txt", "wiki.{}.tokens", "my.own.{}.jsonl"])
def test_files_of_parts_may_have_a_name_in_front(tmp_path: Path, names: str):
    for part in ("train", "valid", "test"):
        line = f'{{"text": "{part}"}}\n' if "jsonl" in names else f"{part}\n"
        (tmp_path / names.format(part)).write_text(line * 12)
        # macOS writes such a file beside each, on disks of other systems and into archives.
        (tmp_path / f"._{names.format(part)}").write_bytes(b"\0\5\x16\7")
    (tmp_path / "notes.txt").write_text("not a part\n")
    source = from_folder(tmp_path)
    assert source.split.startswith("as given: one file a part")
    assert {(part, line) for part, line in lines_of(source)} == {
        (part, part) for part in ("train", "valid", "test")
    }


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00002.txt", "train-00001-of-00002.txt", "test-00000-of-00001.txt"),
        ("train/0.txt", "train/1.txt", "dev/0.txt"),
        ("wiki.train.txt", "wiki.test.txt"),
        ("train1.txt", "train2.txt", "test1.txt"),
        ("train/0.txt", "eval/0.txt"),
    ],
)
def test_a_new_split_mixes_no_part_with_another(tmp_path: Path, names: tuple[str, ...]):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a line\n" * 12)
    with pytest.raises(UserError, match=f"such as {names[0]} and {names[-1]}, which a new split"):
        from_folder(tmp_path)
    (tmp_path / names[-1]).unlink()
    assert from_folder(tmp_path).split.startswith("blocks of")
    (tmp_path / "test-and-train.txt").write_text("a line\n" * 12)
    assert from_folder(tmp_path).split.startswith("blocks of")


def test_every_missing_part_is_named(folder: Path):
    (folder / "valid.txt").unlink()
    (folder / "test.txt").unlink()
    with pytest.raises(UserError, match=r"has no valid\.txt and no test\.txt"):
        from_folder(folder)


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_an_empty_part_is_named(folder: Path, part: str):
    (folder / f"{part}.txt").write_bytes(b"")
    with pytest.raises(UserError, match=rf"{part}\.txt is empty"):
        from_folder(folder)


def test_an_empty_file_is_named(tmp_path: Path):
    (tmp_path / "t.txt").write_bytes(b"")
    with pytest.raises(UserError, match=r"t\.txt is empty"):
        from_one_file(tmp_path / "t.txt")
