import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.errors import SpecError
from effsim.workload import trace_rows
from effsim.workload.trace_files import read_trace
from effsim.workload.traces import Trace, select

PLAIN = "arrival_s,prompt_tokens,output_tokens\n"


@pytest.fixture
def read(tmp_path):
    def write_and_read(text, name="requests.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_trace(path)

    return write_and_read


def test_plain_columns_in_any_order_with_others_beside(read):
    trace = read("user, output_tokens ,prompt_tokens,arrival_s\na,5,7,1.5\n\nb,6,8,2.25\n")
    assert trace.arrival_s.tolist() == [0.0, 0.75]
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([7, 8], [5, 6])
    assert trace.notes == ()


def test_azure_times_keep_seven_digits(read):
    trace = read("TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 23:59:59.6805900,374,44\r\n2023-11-17 00:00:00.0000001,396,109")
    assert trace.arrival_s[1] == pytest.approx(0.3194101, abs=1e-12)
    zoned = read("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.5+00:00,1,1\n2024-05-10T01:00:01.75+01:00,1,1\n")
    assert zoned.arrival_s.tolist() == [0.0, 1.25]


def test_unsorted_rows_are_sorted_with_a_note(read):
    trace = read(PLAIN + "5,1,10\n3,2,20\n4,3,30\n3,4,40\n")
    assert trace.arrival_s.tolist() == [0.0, 0.0, 1.0, 2.0]
    assert trace.output_tokens.tolist() == [20, 40, 30, 10]  # equal times keep the order of the file
    assert trace.notes == ("2 rows were earlier than the row before; sorted by arrival",)


def test_zero_tokens_count_as_one_with_a_note(read):
    trace = read(PLAIN + "0,0,0\n1,5,0\n")
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([1, 5], [1, 1])
    assert trace.notes == ("1 requests with 0 prompt tokens count as 1", "2 requests with 0 output tokens count as 1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLAIN + "0,1,1\nnan,1,1\n", "requests.csv, line 3: arrival: expected seconds, finite and not negative, got 'nan'"),
        (PLAIN + "inf,1,1\n", "line 2: arrival: expected seconds, finite"),
        (PLAIN + "-1,1,1\n", "line 2: arrival: expected seconds, finite and not negative, got '-1'"),
        (PLAIN + "soon,1,1\n", "line 2: arrival: expected seconds, got 'soon'"),
        (PLAIN + "0,-5,1\n", "line 2: prompt tokens: expected a whole number from 0 to 100,000,000, got '-5'"),
        (PLAIN + "0,1,2.5\n", "line 2: output tokens: expected a whole number"),
        (PLAIN + "0,1,nan\n", "line 2: output tokens: expected a whole number"),
        (PLAIN + "0,1e12,1\n", "line 2: prompt tokens: expected a whole number"),
        (PLAIN + "0,1\n", "line 2: expected at least 3 values, found 2"),
        (PLAIN, "no requests below the header"),
        ("", "unknown trace format; .*found nothing"),
        ("arrival,prompt,output\n0,1,1\n", "line 1: unknown trace format; expected the columns plain: arrival_s, .* found arrival, prompt, output"),
        ("arrival_s,prompt_tokens,output_tokens,arrival_s\n0,1,1,0\n", "the column 'arrival_s' is given twice"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n", "line 2: arrival: expected a time such as 2023-11-16"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-45 00:00:00,1,1\n", "line 2: arrival: "),
        (b"\x00\x01\x02", "not a text file"),
        (b"\xff\xfe\xff", "not a text file in UTF-8"),
        (PLAIN + '0,1,"' + "1" * 200_000 + '"\n', "not a CSV file: field larger"),
    ],
)
def test_broken_traces_are_refused_with_line_and_reason(read, text, message):
    with pytest.raises(SpecError, match=message):
        read(text)


def test_large_and_missing_files_are_refused(read, tmp_path, monkeypatch):
    monkeypatch.setattr(trace_rows, "MAX_TRACE_BYTES", 50)
    with pytest.raises(SpecError, match="may have at most 50"):
        read(PLAIN + "0,1,1\n" * 10)
    with pytest.raises(SpecError, match="no such file"):
        read_trace(tmp_path / "absent.csv")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("fuzz") / "any.csv"
    path.write_bytes((PLAIN + text).encode("utf-8", "surrogatepass"))
    try:
        trace = read_trace(path)
    except SpecError:
        return
    assert len(trace) > 0


def test_select_cuts_then_limits_then_scales():
    trace = Trace("t", "test", np.arange(10.0), np.arange(1, 11), np.arange(1, 11))
    part = select(trace, rate_scale=2.0, limit=3, window_s=(2.5, 8.0))
    assert part.arrival_s.tolist() == [0.25, 0.75, 1.25]
    assert part.prompt_tokens.tolist() == [4, 5, 6]
    assert len(select(trace, window_s=(2.0, 5.0))) == 3  # the end is not included
    with pytest.raises(SpecError, match="no requests from 20 to 30 s; the trace lasts 9 s"):
        select(trace, window_s=(20.0, 30.0))
    with pytest.raises(SpecError, match="rate_scale"):
        select(trace, rate_scale=0.0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([0.0], [1, 2], [1]), "one length"),
        (([], [], []), "no requests"),
        (([1.0, 0.5], [1, 1], [1, 1]), "not decreasing"),
        (([np.nan], [1], [1]), "finite"),
        (([0.0], [1], [0]), "at least 1"),
    ],
)
def test_a_trace_refuses_what_cannot_be(columns, message):
    with pytest.raises(SpecError, match=message):
        Trace("t", "test", *columns)


def test_a_trace_cannot_be_changed():
    trace = Trace("t", "test", np.zeros(2), np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match="read-only"):
        trace.arrival_s[0] = 1.0


def test_the_azure_conversation_trace(reference_file):
    trace = read_trace(reference_file("azure_llm_2023_conv.csv"))
    assert (len(trace), trace.duration_s, trace.notes) == (19_366, pytest.approx(3501.721937, abs=1e-7), ())
    assert (trace.prompt_tokens.sum(), trace.output_tokens.sum()) == (22_361_870, 4_088_665)
