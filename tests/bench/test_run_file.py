"""What a run file promises: what was written is read, and nothing else is."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.bench.run_file import MAX_BYTES, Row, Run, checksum, parse_run, read_run, to_document, write_run
from effsim.errors import SpecError

ROW = Row(
    "gemm", "bf16", {"m": 8, "n": 4096, "k": 4096}, 2.0 * 8 * 4096 * 4096, 3.4e7,
    implementation="torch.matmul", time_s=1.1e-5, time_low_s=1.0e-5, time_high_s=1.2e-5, confidence=0.95, samples=20, calls_per_sample=12,
)  # fmt: skip
RUN = Run("0.1.0", "2026-11-23T10:00:00+00:00", "2026-11-23T10:01:00+00:00", "complete", {"name": "quick"}, {}, {"model": "x"}, {}, (), (ROW,))


def text(run=RUN, **changes):
    return json.dumps({**to_document(run), **changes})


def signed(document):
    return json.dumps({**document, "checksum": checksum(document)})


def changed_row(**changes):
    document = to_document(RUN)
    document["rows"][0] |= changes
    return signed(document)


def test_what_is_written_is_read(tmp_path):
    write_run(tmp_path / "new" / "run.json", RUN)
    assert read_run(tmp_path / "new" / "run.json") == RUN
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["run.json"]


positive = st.floats(1e-12, 1e12)


@given(st.lists(st.tuples(positive, positive, st.dictionaries(st.text(max_size=5), st.integers(0, 2**40) | st.text(max_size=5), max_size=4)), max_size=5))
def test_any_numbers_and_words_survive(rows):
    run = dataclasses.replace(RUN, rows=tuple(dataclasses.replace(ROW, time_s=time_s, energy_j=joules, shape=shape) for time_s, joules, shape in rows))
    assert parse_run(text(run), "run") == run


@given(st.integers(0, 10_000))
def test_a_file_cut_anywhere_is_refused(length):
    whole = text()
    with pytest.raises(SpecError, match=r"cut short|not a run file"):
        parse_run(whole[: length % (len(whole) - 1)], "run")


def test_a_changed_number_is_refused():
    altered = text().replace("1.1e-05", "1.0e-05")
    assert altered != text()
    with pytest.raises(SpecError, match="checksum does not fit"):
        parse_run(altered, "run")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{}", "expected the field format to be 'effsim-bench'"),
        ("[]", "not a run file"),
        (text(schema_version=2), "schema_version 2; this EffSim reads 1"),
        (text().replace("1.1e-05", "NaN"), "NaN is not accepted"),
        (text().replace("1.1e-05", "1e999"), "not finite"),
        ('{"format": "effsim-bench", "format": "effsim-bench"}', "given twice"),
        ("[" * 100_000, "nested too deeply|recursion"),
        (signed({**to_document(RUN), "rows": {}}), "rows: expected list"),
        (signed({**to_document(RUN), "status": "fine"}), "status: expected one of running"),
        (changed_row(time_s=-1.0), r"rows\[0\]: time_s: -1.0"),
        (changed_row(time_s="1"), r"rows\[0\]: time_s: '1'"),
        (changed_row(flop=None), r"rows\[0\]: flop: None"),
        (changed_row(samples=True), r"rows\[0\]: samples"),
        (changed_row(shape={"m": 1.5}), r"rows\[0\]: shape"),
        (changed_row(kind=3), r"rows\[0\]: kind"),
        (changed_row(surprise=1), r"rows\[0\]: missing or unknown: surprise"),
    ],
)
def test_what_does_not_belong_is_refused_with_the_reason(written, message):
    with pytest.raises(SpecError, match=message):
        parse_run(written, "run")


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(SpecError, match="no such file"):
        read_run(tmp_path / "none.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="not text in UTF-8"):
        read_run(tmp_path / "binary")
    with (tmp_path / "huge").open("wb") as stream:
        os.truncate(stream.fileno(), MAX_BYTES + 1)
    with pytest.raises(SpecError, match="may have at most"):
        read_run(tmp_path / "huge")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="cannot be written"):
        write_run(tmp_path / "file" / "run.json", RUN)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_run(path, RUN)
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(SpecError, match="cannot be written: No space left"):
        write_run(path, dataclasses.replace(RUN, status="interrupted"))
    assert read_run(path) == RUN
    assert list(tmp_path.iterdir()) == [path]


def test_rates_follow_from_time():
    assert ROW.flop_per_s == pytest.approx(ROW.flop / 1.1e-5)
    assert dataclasses.replace(ROW, time_s=None).flop_per_s is None
    assert dataclasses.replace(ROW, bytes=0.0).bytes_per_s is None
