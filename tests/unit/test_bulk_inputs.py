"""Which files and rows a bulk job reads, how it cuts them, and what it refuses to begin."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from service.bulk import cutting, run
from service.bulk.job import Part
from service.bulk.reading import PartRows, Reader
from service.errors import DatasetInvalid, InvalidDimensions, InvalidField
from tests.unit.bulk_jobs import TEXTS, Job, failed, read_table, vectors, write


def test_parquet_keeps_types_of_other_columns_and_reads_dictionaries(
    tmp_path: Path, job: Job
) -> None:
    given = pa.table(
        {
            "text": pa.array(["the food", "a train"] * 10).dictionary_encode(),
            "nested": pa.array([{"a": [1, 2]}] * 20),
            "when": pa.array(range(20), pa.timestamp("us")),
        }
    )
    parquet.write_table(given, tmp_path / "in.parquet", row_group_size=3)
    job(tmp_path / "in.parquet", part_rows=4)
    assert read_table(tmp_path / "out").drop_columns("embedding").equals(given)


def test_null_in_parquet_is_not_a_text(tmp_path: Path, job: Job) -> None:
    job(write(tmp_path / "in.parquet", ["the food", None, "a train"]), part_rows=2)
    assert failed(tmp_path / "out") == [(2, "not_a_text")]


@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize("row_group_size", [7, 1000])
def test_part_of_parquet_holds_no_more_bytes_in_memory_than_a_part_may(
    tmp_path: Path,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    dictionary: bool,
    row_group_size: int,
) -> None:
    most = 100_000
    monkeypatch.setattr(cutting, "MOST_PART_BYTES", most)
    # In the file each stands once; and one row outweighs all the others.
    pages = [letter * 10_000 for letter in "abc"]
    notes = pa.array([pages[number % 3] for number in range(100)])
    texts = [f"the food {number}" for number in range(99)] + ["x" * 90_000]
    column = notes.dictionary_encode() if dictionary else notes
    given = pa.table({"text": texts, "note": column, "n": range(100)})
    parquet.write_table(given, tmp_path / "in.parquet", row_group_size=row_group_size)
    assert (tmp_path / "in.parquet").stat().st_size < 2 * most
    held: list[int] = []
    read = Reader.read

    def weighed(self: Reader, part: Part) -> PartRows:
        rows = read(self, part)
        dense = pa.table([pa.array(column.to_pylist()) for column in rows.table.columns], "abc")
        held.extend((rows.table.nbytes, dense.nbytes))
        return rows

    monkeypatch.setattr(Reader, "read", weighed)
    assert job(tmp_path / "in.parquet").parts == 12
    # Where each text begins takes a few bytes more.
    assert max(held) < most + 2_000
    table = read_table(tmp_path / "out").drop_columns("embedding")
    assert (table.schema, table.to_pylist()) == (given.schema, given.to_pylist())


def test_views_of_texts_are_read_and_become_texts(tmp_path: Path, job: Job) -> None:
    views = pa.table(
        {
            "text": pa.array(TEXTS, pa.string_view()),
            "raw": pa.array([b"a", None] * 25, pa.binary_view()),
        }
    )
    parquet.write_table(views, tmp_path / "in.parquet", row_group_size=9)
    job(tmp_path / "in.parquet", part_rows=8)
    table = read_table(tmp_path / "out").drop_columns("embedding")
    assert table.to_pydict() == views.to_pydict()
    assert table.schema.types == [pa.string(), pa.binary()]


def test_order_of_categories_outlives_a_job(tmp_path: Path, job: Job) -> None:
    sizes = pa.DictionaryArray.from_arrays(
        pa.array([2, 0, 1] * 5, pa.int8()), pa.array(["small", "medium", "large"]), ordered=True
    )
    given = pa.table({"text": TEXTS[:15], "size": sizes})
    parquet.write_table(given, tmp_path / "in.parquet")
    job(tmp_path / "in.parquet", part_rows=4)
    kept = parquet.read_table(tmp_path / "out" / "part-00001.parquet").column("size").chunk(0)
    assert kept.type == sizes.type
    assert kept.dictionary.to_pylist() == ["small", "medium", "large"]


@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize("part_rows", [2, 100])
def test_parquet_text_that_is_not_utf8_fails_alone(
    tmp_path: Path, job: Job, dictionary: bool, part_rows: int
) -> None:
    written = [b"the food", b"secret\xff", None, b"a train", b"\xc3"]
    column = unproven(written)
    given = pa.table(
        {"text": column.dictionary_encode() if dictionary else column, "number": range(5)}
    )
    parquet.write_table(given, tmp_path / "in.parquet", row_group_size=3)
    summary = job(tmp_path / "in.parquet", part_rows=part_rows)
    assert failed(tmp_path / "out") == [(2, "not_utf8"), (3, "not_a_text"), (5, "not_utf8")]
    assert "secret" not in (tmp_path / "out" / "_failed.jsonl").read_text()
    assert read_table(tmp_path / "out").column("number").to_pylist() == [0, 3]
    assert (summary.rows_in, summary.rows_out) == (5, 2)


def unproven(values: list[bytes | None]) -> Any:
    """Bytes as a column that says of itself that they are UTF-8."""
    validity, offsets, data = pa.array(values, pa.binary()).buffers()
    return pa.StringArray.from_buffers(len(values), offsets, data, validity)


def test_folder_and_pattern_are_read_in_order_of_their_paths(tmp_path: Path, job: Job) -> None:
    folder = tmp_path / "in"
    (folder / "b").mkdir(parents=True)
    write(folder / "a.csv", TEXTS[:10])
    write(folder / "b" / "c.csv", TEXTS[10:20])
    summary = job(folder, part_rows=4)
    assert (summary.files, summary.parts) == (2, 6)
    assert read_table(tmp_path / "out").column("text").to_pylist() == TEXTS[:20]
    assert job(folder / "b" / "*.csv", out=tmp_path / "other").rows_out == 10


def test_hidden_and_underlined_files_and_folders_are_passed_over(tmp_path: Path, job: Job) -> None:
    # What is named may lie in such a folder itself.
    folder = tmp_path / ".cache"
    for name in ("a", ".git", "_temporary", "b/.hidden/c"):
        (folder / name).mkdir(parents=True)
        write(folder / name / "in.csv", TEXTS[:3])
    write(folder / "_failed.csv", TEXTS[:3])
    assert job(folder).files == 1
    assert job(folder / "**" / "*.csv", out=tmp_path / "other").files == 1


def test_file_that_is_found_under_several_names_is_read_once(tmp_path: Path, job: Job) -> None:
    source = write(tmp_path / "in.csv", TEXTS[:3])
    folder = tmp_path / "links"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        (folder / name).symlink_to(source)
    assert job(folder).rows_in == 3


@pytest.mark.parametrize(
    ("given", "out"),
    [
        ("in", "in/out"),
        ("in", "in"),
        ("in/b", "in"),
        ("in/b/in.csv", "in"),
        ("in/b/*.csv", "in/b"),
        ("link", "in/out"),
    ],
)
def test_input_and_output_inside_one_another_are_refused(
    tmp_path: Path, job: Job, given: str, out: str
) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    write(tmp_path / "in" / "b" / "in.csv", TEXTS[:3])
    with pytest.raises(InvalidField, match="inside one another"):
        job(tmp_path / given, out=tmp_path / out)


def test_pattern_that_could_meet_the_output_does_not(tmp_path: Path, job: Job) -> None:
    write(tmp_path / "in.parquet", TEXTS[:10])
    for resumed in (0, 10):
        summary = job(tmp_path / "**" / "*.parquet", part_rows=4)
        assert (summary.files, summary.resumed) == (1, resumed)


def test_input_or_output_that_is_not_there_is_said_in_one_line(tmp_path: Path, job: Job) -> None:
    with pytest.raises(DatasetInvalid, match="has to be a file"):
        job(tmp_path / "none.csv")
    source = write(tmp_path / "in.csv", TEXTS[:2])
    with pytest.raises(InvalidField, match="folder"):
        job(source, out=source)


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("in.csv", "a,b\n1,2\n", InvalidField, "has 'a', 'b'.*--column"),
        ("in.csv", "text\n", DatasetInvalid, "no rows"),
        ("in.csv", "text,text\na,b\n", DatasetInvalid, "twice"),
        ("in.csv", 'text\n"the food\nis good\n', DatasetInvalid, "row that begins at byte 5"),
        ("in.txt", "a", DatasetInvalid, ".parquet"),
        ("in.parquet", "a", DatasetInvalid, "cannot be read"),
    ],
)
def test_file_that_cannot_be_a_job_is_refused_before_anything_is_computed(
    tmp_path: Path,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: str,
    error: type[Exception],
    says: str,
) -> None:
    monkeypatch.setattr(run, "open_encoder", None)
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=says):
        job(tmp_path / name)


def test_parquet_with_a_broken_page_is_refused_before_anything_is_computed(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "open_encoder", None)
    source = write(tmp_path / "in.parquet", TEXTS)
    content = source.read_bytes()
    source.write_bytes(content[:200] + b"\xff" * 100 + content[300:])
    with pytest.raises(DatasetInvalid, match="cannot be read"):
        job(source)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_lines_are_read_once_to_be_cut_and_to_take_their_digest(
    tmp_path: Path, suffix: str
) -> None:
    source = write(tmp_path / f"in{suffix}", ["the food is good " * 100] * 5000)
    before = bytes_read()
    (found,), parts = cutting.cut([source], "text", 1000, lambda mebibytes: None)
    assert bytes_read() - before < 1.5 * found.bytes
    assert found.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (found.rows, len(parts)) == (5000, 5)


def bytes_read() -> int:
    """By this process, from files, in cache or not."""
    told = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(told["rchar"])


def test_terminal_that_is_gone_is_not_said_to_be_a_fault_of_the_file(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", ["the food is good " * 100] * 5000)

    def gone(mebibytes: int) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        cutting.cut([source], "text", 1000, gone)


def test_column_that_holds_no_texts_is_refused(tmp_path: Path, job: Job) -> None:
    source = write(tmp_path / "in.parquet", TEXTS)
    with pytest.raises(InvalidField, match="int64, not texts"):
        job(source, column="number")
    with pytest.raises(InvalidDimensions):
        job(source, dimensions=17)
    assert job(source, dimensions=4).rows_out == 50
    assert vectors(read_table(tmp_path / "out")).shape == (50, 4)


def test_files_of_one_job_have_the_same_columns(tmp_path: Path, job: Job) -> None:
    (tmp_path / "a.csv").write_text("text,n\nthe food,1\n")
    (tmp_path / "b.csv").write_text("text\nthe food\n")
    with pytest.raises(DatasetInvalid, match="other columns"):
        job(tmp_path / "*.csv")
