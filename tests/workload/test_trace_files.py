"""Every format of the folder: recognised, read as published, written and read again, and honest about what it cannot hold."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.errors import SpecError, UnknownNameError
from effsim.workload import trace_files, trace_rows
from effsim.workload.trace_files import format_named, formats, losses, read_as, read_trace, write_trace
from effsim.workload.traces import HashIds, Trace, open_loop

FORMATS = formats()
OPTIONAL = ("session", "think_s", "prefix_tokens", "priority", "hash_ids")

PUBLISHED = {
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01.017335+00:00,2399,6\n",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,230,1317,API log\n",
    "llmservingsim": '{"input_toks": 3, "output_toks": 133, "arrival_time_ns": 4059740, "input_tok_ids": [1, 2, 3], "output_tok_ids": []}\n'
    '{"input_toks": 4, "output_toks": 5, "arrival_time_ns": 1004059740}\n',
    "mooncake": '{"timestamp": 0, "input_length": 655, "output_length": 52, "hash_ids": [46, 47]}\n'
    '{"timestamp": 3000, "input_length": 1021, "output_length": 26, "hash_ids": [46, 48]}\n',
    "plain": "arrival_s,prompt_tokens,output_tokens\n0,1,2\n0.5,3,4\n",
    "splitwise": "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n0,2,0,0.25,1,374,44\n1,2,0,1.5,1,396,109\n",
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,1,2\n0.75,3,4\n",
}
EXPECTED = {
    "azure": ([0.0, 1.007405], [2162, 2399], [5, 6]),
    "burstgpt": ([0.0, 40.0], [472, 1087], [18, 230]),
    "llmservingsim": ([0.0, 1.0], [3, 4], [133, 5]),
    "mooncake": ([0.0, 3.0], [655, 1021], [52, 26]),
    "plain": ([0.0, 0.5], [1, 3], [2, 4]),
    "splitwise": ([0.0, 1.25], [374, 396], [44, 109]),
    "vidur": ([0.0, 0.25], [1, 3], [2, 4]),
}


@pytest.fixture
def read(tmp_path):
    def write_and_read(text, name="requests.any"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return read_as(path)

    return write_and_read


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_a_published_sample_is_recognised_and_read(form, read):
    trace, found = read(PUBLISHED[form.name])
    assert found.name == form.name
    arrivals, prompts, outputs = EXPECTED[form.name]
    assert trace.arrival_s == pytest.approx(arrivals, abs=1e-9)
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == (prompts, outputs)


@st.composite
def traces(draw):
    """Traces with ties, sessions that wait or are recorded, priorities and hash ids, each there or not."""
    count = draw(st.integers(1, 12))
    ns = sorted(draw(st.lists(st.integers(0, 10**13), min_size=count - 1, max_size=count - 1)))
    arrival_s = np.array([0, *ns]) / 1e9
    prompts = np.array(draw(st.lists(st.integers(1, 3000), min_size=count, max_size=count)))
    outputs = np.array(draw(st.lists(st.integers(1, 10**6), min_size=count, max_size=count)))
    columns = {}
    if draw(st.booleans()):
        columns["session"] = np.array(draw(st.lists(st.integers(-1, 2), min_size=count, max_size=count)))
        if draw(st.booleans()):
            columns["think_s"], arrival_s = _waiting(draw, columns["session"], arrival_s)
        if draw(st.booleans()):
            columns["prefix_tokens"] = prompts // 2
    if draw(st.booleans()):
        columns["priority"] = np.array(draw(st.lists(st.integers(-5, 5), min_size=count, max_size=count)))
    if draw(st.booleans()):
        size = draw(st.sampled_from([16, 512]))
        counts = -(-prompts // size)
        ids = draw(st.lists(st.integers(0, 2**63 - 1), min_size=int(counts.sum()), max_size=int(counts.sum())))
        columns["hash_ids"] = HashIds(np.concatenate(([0], np.cumsum(counts))), np.array(ids), size)
    return Trace("t", "test", arrival_s, prompts, outputs, **columns)


def _waiting(draw, session, arrival_s):
    """Give each later turn a think time and the arrival of its session's first turn, the rows in the order of arrival."""
    think_s, starts, arrival_s = np.full(session.size, np.nan), {}, arrival_s.copy()
    for row, one in enumerate(session.tolist()):
        if one >= 0 and one in starts:
            think_s[row], arrival_s[row] = draw(st.integers(0, 10**12)) / 1e9, starts[one]
        starts.setdefault(one, arrival_s[row])
    order = np.argsort(arrival_s, kind="stable")
    session[:] = session[order]
    return think_s[order], arrival_s[order]


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
@given(trace=traces())
def test_what_is_written_is_read_again_less_what_is_said_to_be_lost(form, trace, tmp_path_factory):
    path = tmp_path_factory.mktemp("trip") / "trace"
    write_trace(trace, path, form)
    again, found = read_as(path)
    kept = trace if trace.think_s is None or "think_s" in form.carries else open_loop(trace)
    assert found.name == form.name
    if form.name == "llmservingsim":
        order = np.lexsort((again.output_tokens, again.prompt_tokens, np.round(again.arrival_s, 6)))
        expected = np.lexsort((kept.output_tokens, kept.prompt_tokens, np.round(kept.arrival_s, 6)))
    else:
        order = expected = np.arange(len(trace))
    assert np.abs(again.arrival_s[order] - kept.arrival_s[expected]).max() <= (6e-8 if form.name == "azure" else 2e-9)
    assert (again.prompt_tokens[order] == kept.prompt_tokens[expected]).all()
    assert (again.output_tokens[order] == kept.output_tokens[expected]).all()
    if form.name != "llmservingsim":
        _compare_optional(form, kept, again)
    elif trace.think_s is not None:
        assert np.nansum(again.think_s if again.think_s is not None else [0.0]) == pytest.approx(np.nansum(trace.think_s), abs=1e-7)


def _compare_optional(form, kept, again):
    for name in (one for one in OPTIONAL if one in form.carries):
        before, after = getattr(kept, name), getattr(again, name)
        if name == "hash_ids" and before is not None and before.ids.size:
            assert (after.ids == before.ids).all()
            assert (after.offsets == before.offsets).all()
        elif name == "session":
            assert (again.former_turns() == kept.former_turns()).all()
        elif name == "think_s" and before is not None and not np.isnan(before).all():
            assert after == pytest.approx(before, abs=2e-9, nan_ok=True)
        elif name in {"priority", "prefix_tokens"} and before is not None:
            assert (after == before).all()


@given(trace=traces())
def test_losses_name_all_that_a_format_cannot_hold(trace):
    for form in FORMATS:
        absent = [name for name in OPTIONAL if getattr(trace, name) is not None and name not in form.carries]
        size = trace.hash_ids is not None and form.name == "mooncake" and trace.hash_ids.block_tokens != 512
        assert len(losses(trace, form)) == len(absent) + size


def test_mooncake_turns_wait_or_come_at_their_times(read):
    rows = [
        {"session_id": "a", "timestamp": 1000, "input_length": 10, "output_length": 5},
        {"session_id": "b", "created_time": 1500, "input_tokens": 20, "output_tokens": 5},
        {"session_id": "a", "delay": 2500, "input_length": 30, "output_length": 5},
        {"session_id": "b", "timestamp": 9000, "input_length": 40, "output_length": 5},
        {"timestamp": 9500.5, "input_length": 50, "output_length": 5},
        {"session_id": "b", "delay_ms": 100, "input_length": 60, "output_length": 5},
    ]
    trace, _ = read("\n".join(json.dumps(row) for row in rows))
    assert trace.arrival_s.tolist() == [0.0, 0.0, 0.5, 8.0, 8.0, 8.5005]
    assert trace.prompt_tokens.tolist() == [10, 30, 20, 40, 60, 50]
    assert trace.think_s == pytest.approx([np.nan, 2.5, np.nan, np.nan, 0.1, np.nan], nan_ok=True)
    assert trace.former_turns().tolist() == [-1, 0, -1, 2, 3, -1]


def test_mooncake_blocks_are_of_the_size_that_explains_their_number(read):
    row = '{{"timestamp": 0, "input_length": {}, "output_length": 1, "hash_ids": {}}}\n'
    assert read(row.format(100, [1]))[0].hash_ids.block_tokens == 512
    trace, _ = read(row.format(100, [1, 2, 3, 4]) + row.format(64, [1, 2]))
    assert (trace.hash_ids.block_tokens, trace.notes) == (32, ("hash ids of blocks of 32 tokens, by their number",))
    trace, _ = read(row.format(100, [1]) + row.format(100, [1, 2]))
    assert (trace.hash_ids.block_tokens, trace.notes) == (512, ("the number of hash ids fits no size of blocks; 512 tokens are assumed",))


def test_llmservingsim_sessions_and_token_ids(read):
    same = list(range(40))
    rows = [
        {"session_id": "s", "arrival_time_ns": 2_000_000_000, "sub_requests": [
            {"input_toks": 40, "output_toks": 3, "tool_duration_ns": 127_000_000, "input_tok_ids": same},
            {"input_toks": 50, "output_toks": 4, "tool_duration_ns": 0, "input_tok_ids": [*same, *range(100, 110)]},
        ]},
        {"input_toks": 33, "output_toks": 1, "arrival_time_ns": 1_000_000_000, "input_tok_ids": [7, *same[:32]]},
    ]  # fmt: skip
    trace, _ = read("\n".join(json.dumps(row) for row in rows))
    assert trace.arrival_s.tolist() == [0.0, 1.0, 1.0]
    assert trace.think_s == pytest.approx([np.nan, np.nan, 0.127], nan_ok=True)
    single, first, second = (trace.hash_ids.of(row).tolist() for row in range(3))
    assert (len(single), len(first), len(second), trace.hash_ids.block_tokens) == (3, 3, 4, 16)
    assert first[:2] == second[:2]
    assert not {*single} & {*first, *second}  # the first token differs, so all blocks after it do


def test_the_benchmark_log_of_llmservingsim_is_read(reference_file):
    trace, found = read_as(reference_file("vllm_runs/rtx-pro-6000_llama-3.1-8b/requests.jsonl"))
    assert (found.name, len(trace)) == ("llmservingsim", 300)
    assert trace.duration_s == pytest.approx(29.12, abs=0.01)


def test_burstgpt_failures_are_left_out_and_sessions_kept(read):
    text = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    text += "1,x,2.5,GPT-4,10,5,15,Conversation log\n2,,1,GPT-4,11,0,11,API log\n3,,1,GPT-4,12,6,18,API log\n9,x,1,GPT-4,30,7,37,Conversation log\n"
    trace, _ = read(text)
    assert trace.notes == ("1 rows with 0 response tokens are failures and left out",)
    assert (trace.prompt_tokens.tolist(), trace.former_turns().tolist(), trace.think_s) == ([10, 12, 30], [-1, -1, 0], None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"timestamp": 0, "input_length": 5, "output_length": 1}\n{"timestamp": 0, "input_length": -5, "output_length": 1}', "line 2: input_length: expected"),
        ('{"timestamp": 0, "input_length": 5, "output_length": 1}\n\n[1]\n', "line 3: expected a JSON object, found"),
        ('{"timestamp": 0, "input_length": 5, "output_length": 1}\n{"timest', "line 2: not JSON"),
        ('{"timestamp": 0, "input_length": 5}', "line 1: output_length is missing; found timestamp, input_length"),
        ('{"timestamp": NaN, "input_length": 5, "output_length": 1}', "line 1: timestamp: expected a number from 0"),
        ('{"timestamp": true, "input_length": 5, "output_length": 1}', "line 1: timestamp: expected a number"),
        ('{"timestamp": 0, "input_length": 5.5, "output_length": 1}', "line 1: input_length: expected a whole number"),
        ('{"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": [1.5]}', "line 1: hash_ids: expected a list of whole numbers"),
        ('{"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": [99999999999999999999]}', "hash_ids: expected a list"),
        ('{"arrival_time_ns": 0, "sub_requests": []}', "line 1: sub_requests: expected a list of at least one object"),
        ('{"arrival_time_ns": 0, "input_toks": 2, "output_toks": 1, "input_tok_ids": [1]}', "input_tok_ids: expected 2 as input_toks says, found 1"),
        ('{"foo": 0}', "unknown trace format; expected the keys .*mooncake: timestamp, input_length.*found foo"),
        ("arrival_timestamp,batch_size,prompt_size,token_size\n0,2,1,1\n", "line 2: batch_size: a row is one request: expected 1, got '2'"),
        ("arrival_s,prompt_tokens,output_tokens,priority\n0,1,1,high\n", "line 2: priority: expected a whole number"),
        ("arrival_s,prompt_tokens,output_tokens,hash_ids_16\n0,1,1,1 x\n", "line 2: hash ids: expected whole numbers separated by spaces, got '1 x'"),
        ("arrival_s,prompt_tokens,output_tokens,hash_ids_16,hash_ids_32\n0,1,1,1,1\n", "block hashes of one size"),
        ("arrival_s,prompt_tokens,output_tokens,think_s\n0,1,1,2\n", "has think_s, but no earlier turn in its session"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n0001-01-01 00:00:00,1,1\n", "line 2: arrival: expected a year from 1700 to 2199"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(read, text, message):
    with pytest.raises(SpecError, match=message):
        read(text)


@given(st.text(max_size=200))
def test_any_jsonl_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("fuzz") / "any.jsonl"
    path.write_bytes(('{"timestamp": 0, "input_length": 5, "output_length": 1}\n' + text).encode("utf-8", "surrogatepass"))
    try:
        trace = read_trace(path)
    except SpecError:
        return
    assert len(trace) > 0


def test_bad_rows_behind_the_first_block_are_named_by_their_line(read, monkeypatch):
    monkeypatch.setattr(trace_rows, "ROWS_AT_ONCE", 4)
    with pytest.raises(SpecError, match=r"requests\.any, line 12: output tokens: expected a whole number"):
        read("arrival_s,prompt_tokens,output_tokens\n" + "0,1,1\n" * 10 + "0,1,x\n")


def test_too_many_requests_and_endless_lines_are_refused(read, monkeypatch):
    monkeypatch.setattr(trace_files, "MAX_REQUESTS", 5)
    with pytest.raises(SpecError, match="more than 5 requests"):
        read("arrival_s,prompt_tokens,output_tokens\n" + "0,1,1\n" * 6)
    monkeypatch.setattr(trace_rows, "MAX_LINE_CHARACTERS", 100)
    with pytest.raises(SpecError, match="line 1: longer than 100 characters"):
        read("x" * 101)


def test_a_large_file_is_read_in_blocks(tmp_path):
    """Of 200,000 rows (4 MB of text) no more is in memory than the three columns, their parts before they are joined, and one block of rows."""
    path = tmp_path / "large.csv"
    count = 200_000
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{row}.5,100,20\n" for row in range(count)), encoding="utf-8")
    tracemalloc.start()
    trace = read_trace(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(trace) == count
    assert peak < 2 * 24 * count + 800 * trace_rows.ROWS_AT_ONCE


def test_nothing_half_written_stays(tmp_path):
    trace = Trace("t", "test", np.zeros(2), np.ones(2), np.ones(2))
    broken = format_named("plain")

    def stop(_):
        yield "arrival_s"
        raise KeyboardInterrupt

    target = tmp_path / "out.csv"
    target.write_text("before", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        write_trace(trace, target, type(broken)("broken", "csv", (), (), (), None, broken.read, stop))
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("out.csv", "before")]


def test_an_unknown_format_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown trace format 'mooncke'; did you mean 'mooncake'"):
        format_named("mooncke")
