import copy
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.catalog import DATA_VARIABLE, data_root
from effsim.documents import dump_yaml
from effsim.errors import SpecError, UnknownNameError
from effsim.specs.scenario import MAX_EXTENDS, find_trace, load_scenario, variants, with_changes

CHAT = {
    "name": "chat-70b-h100",
    "question": "What does chat on two replicas cost?",
    "kind": "serving",
    "model": "llama-3.1-70b",
    "precision": "bf16",
    "fleet": [{"accelerator": "h100_sxm", "node": "dgx_h100", "replicas": 2, "parallelism": {"tensor": 4}, "power_limit": "700 W"}],
    "workload": {"trace": "azure_llm_2023_conv.csv", "rate_scale": 1.0},
    "engine": {"name": "vllm", "max_num_seqs": 256, "max_num_batched_tokens": 8192},
    "slo": {"ttft_p90": "2 s", "tpot_p90": "100 ms"},
    "site": "us_california",
    "seed": 1,
    "what_if": [{"name": "FP8 weights", "set": {"precision": "fp8"}}, {"name": "500 W limit", "set": {"fleet.0.power_limit": "500 W"}}],
}
TRAINING = {
    "name": "train",
    "kind": "training",
    "model": "llama-2-7b",
    "fleet": [{"accelerator": "a100_sxm", "parallelism": {"tensor": 2, "data": 32, "pipeline": 1}}],
    "training": {"global_batch_size": 512, "sequence_length": 4096, "tokens": "100B", "recompute": "selective"},
}
GENERATED = {"arrivals": {"process": "poisson", "rate": "10 req/s"}, "prompt_tokens": 500, "output_tokens": 100, "requests": "2k"}


def changed(path, value, base=CHAT):
    document = copy.deepcopy(base)
    *parents, last = path
    place = document
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


@pytest.fixture
def write(tmp_path):
    def write_file(content, name="s.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else (content if isinstance(content, str) else dump_yaml(content)).encode())
        return path

    return write_file


def test_a_scenario_reads_in_si_units(write):
    scenario = load_scenario(write(CHAT))
    assert scenario.fleet[0].power_limit == 700.0
    assert scenario.fleet[0].num_accelerators == 8
    assert (scenario.slo.tpot_p90, scenario.slo.ttft_p50) == (0.1, None)
    assert scenario.cost.lifetime == pytest.approx(4 * 365.25 * 86400)
    assert (scenario.engine.scheduler, scenario.router, scenario.calibration) == ("fcfs", "round_robin", "auto")
    assert load_scenario(scenario) is scenario
    assert load_scenario(CHAT) == load_scenario(copy.deepcopy(CHAT))


def test_training_and_generated_workloads_parse():
    training = load_scenario(TRAINING)
    assert training.training.tokens == 10**11
    assert training.fleet[0].num_accelerators == 64
    phone = load_scenario({**CHAT, "workload": GENERATED, "what_if": [], "device": {"battery": "15 Wh"}})
    assert phone.device.battery == 54_000.0
    assert phone.workload.prompt_tokens.tokens == 500
    assert phone.workload.requests == 2000


def test_variants_are_base_first_and_stand_alone():
    named = variants(load_scenario(CHAT))
    assert [name for name, _ in named] == ["base", "FP8 weights", "500 W limit"]
    assert [scenario.precision for _, scenario in named] == ["bf16", "fp8", "bf16"]
    assert [scenario.fleet[0].power_limit for _, scenario in named] == [700.0, 700.0, 500.0]
    assert all(scenario.what_if == () for _, scenario in named)


def test_changes_leave_the_original_and_reach_everywhere():
    base = load_scenario({**CHAT, "workload": GENERATED, "what_if": []})
    after = with_changes(
        base,
        {
            "fleet.0.parallelism.tensor": 8,
            "workload.output_tokens": {"kind": "lognormal", "median": 100, "p90": 300},
            "workload.output_tokens.p90": 400,
            "device.battery": "10 Wh",
            "fleet.0.node": None,
        },
    )
    assert (after.fleet[0].parallelism.tensor, after.fleet[0].node, after.device.battery) == (8, None, 36_000.0)
    assert after.workload.output_tokens.p90 == 400.0
    assert (base.fleet[0].parallelism.tensor, base.fleet[0].node, base.device) == (4, "dgx_h100", None)
    assert with_changes(base, {}) == base
    lengths = {"kind": "lognormal", "median": 100, "p90": 300}
    with_changes(base, {"workload.output_tokens": lengths, "workload.output_tokens.p90": 400})
    assert lengths["p90"] == 300


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("fleet", 0, "power_limit"), "700 GB", "fleet.0.power_limit: 'GB' is a unit of 'byte'; expected a quantity such as 700 W"),
        (("fleet", 0, "power_limit"), "700 watts", "unknown unit 'watts'"),
        (("fleet", 0, "power_limit"), -5, "must not be negative"),
        (("fleet", 0, "power_limit"), 0, "fleet.0.power_limit: must be above 0, got 0$"),
        (("fleet", 0, "replicas"), 1.5, "fleet.0.replicas: expected a whole number, got 1.5$"),
        (("fleet", 0, "replicas"), 0, "must be at least 1, got 0$"),
        (("fleet", 0, "replicas"), 10**9, "fleet.0.replicas: must be at most 10,000, got 1000000000$"),
        (("fleet", 0, "parallelism", "data"), 65_537, "fleet.0.parallelism.data: must be at most 65,536, got 65537$"),
        (("fleet",), [{"accelerator": "l40s", "replicas": 6000}] * 2, "fleet has 12,000 replicas; at most 10,000"),
        (("workload",), {**GENERATED, "requests": 2 * 10**7 + 1}, "workload.requests: must be at most 20,000,000, got 20000001$"),
        (("workload",), {**GENERATED, "arrivals": {"process": "closed_loop", "concurrency": 2e6}}, "concurrency: must be at most 1,000,000"),
        (("workload",), {**GENERATED, "prompt_tokens": 10**9}, "must be at most 100,000,000"),
        (("training",), TRAINING["training"], "training belongs to a training scenario; this one is of kind serving"),
        (("kind",), "mixed", "kind: mixed is not run as one; write two scenarios"),
        (("fleet", 0, "replicas"), True, "fleet.0.replicas: expected a number, .* got True"),
        (("fleet", 0, "acelerator"), "x", "fleet.0.acelerator: no such field; did you mean 'accelerator'"),
        (("fleet", 0, "parallelism", "tensor_parallel"), 4, "fleet.0.parallelism.tensor_parallel: no such field; did you mean 'tensor'"),
        (("fleet", 0, "parallelism", "expert"), 3, r"expert \(3\) must divide .* \(4\)"),
        (("fleet",), [], "fleet is empty"),
        (("model",), ..., "model: this field is missing"),
        (("workload",), ..., "workload is missing: a serving scenario needs it"),
        (("kind",), "training", "training is missing"),
        (("kind",), "servin", "kind: expected 'serving' or 'training', got 'servin'"),
        (("precision",), "fp7", "precision: expected .*'nvfp4'.*, got 'fp7'"),
        (("worklod",), {}, "worklod: no such field; did you mean 'workload'"),
        (("slo", "ttft_p91"), "2 s", "slo.ttft_p91: no such field; did you mean 'ttft_p"),
        (("slo", "ttft_p90"), float("nan"), "expected a finite quantity"),
        (("slo", "ttft_p90"), "soon", "expected a quantity such as 2 s"),
        (("engine", "gpu_memory_utilization"), 1.5, "must be at most 1, got 1.5"),
        (("engine", "scheduler"), "../../etc/x", "engine.scheduler: string must match"),
        (("workload", "trace"), "/etc/passwd", "workload.trace: path outside"),
        (("workload", "trace"), "../t.csv", "workload.trace: path outside"),
        (("workload", "trace"), "a/../../t.csv", "workload.trace: path outside"),
        (("workload", "trace"), "C:\\t.csv", "workload.trace: path outside"),
        (("workload", "rate_scale"), 0, "must be above 0, got 0"),
        (("workload", "duration"), "1 h", "a trace excludes duration"),
        (("workload", "window"), {"start": "5 s", "end": "5 s"}, r"end \(5 s\) must be after start"),
        (("model",), "../../secret.yaml", "model: path outside"),
        (("seed",), -1, "must not be negative"),
        (("extends",), "x.yaml", "only a scenario file can extend"),
        (("what_if", 0, "name"), "base", "the name 'base' is taken"),
        (("what_if", 0, "name"), "500 W limit", "the name '500 W limit' is taken"),
        (("what_if", 0, "set"), {"fleet.0.powr_limit": 1}, "what_if.0.set .FP8 weights.: .*fleet.0.powr_limit: no such field; did you mean 'power_limit'"),
        (("what_if", 0, "set"), {"flet.0.power_limit": 1}, "flet: no such field; did you mean 'fleet'"),
        (("what_if", 0, "set"), {"fleet.7.power_limit": 1}, "fleet.7.power_limit: fleet has 1 entry: 0; got '7'"),
        (("what_if", 0, "set"), {"fleet.first.node": 1}, "fleet has 1 entry: 0; got 'first'"),
        (("what_if", 0, "set"), {"model.size": 1}, "model is a single value and has no field 'size'"),
        (("what_if", 0, "set"), {"kind": "training"}, "cannot be changed by a what-if"),
        (("what_if", 0, "set"), {"precision": "fp9"}, "precision: expected"),
        (("what_if", 0, "set"), {}, "at least 1 item"),
    ],
)
def test_a_mistake_is_named(path, value, message):
    with pytest.raises(SpecError, match=message):
        load_scenario(changed(path, value))


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        ({}, "missing: arrivals, prompt_tokens, output_tokens"),
        ({**GENERATED, "requests": None}, "need duration, requests or both"),
        ({**GENERATED, "rate_scale": 2}, "rate_scale apply to a trace only"),
        ({**GENERATED, "arrivals": {"process": "poisson"}}, "workload.arrivals: poisson arrivals take exactly rate; given: nothing"),
        ({**GENERATED, "arrivals": {"process": "gamma", "rate": 1}}, "gamma arrivals take exactly burstiness and rate"),
        ({**GENERATED, "arrivals": {"process": "poisson", "rate": "5 s"}}, "'s' is a unit of 's'; expected a quantity such as 10 req/s"),
        ({**GENERATED, "arrivals": {"process": "closed_loop", "concurrency": 2}, "requests": None, "duration": "1 h"}, "closed_loop arrivals end by requests"),
        ({**GENERATED, "prompt_tokens": 0}, "must be at least 1"),
        ({**GENERATED, "prompt_tokens": {"median": 5}}, "workload.prompt_tokens: expected a number of tokens, or {kind:"),
        ({**GENERATED, "prompt_tokens": {"kind": "lognormal", "medin": 5}}, "workload.prompt_tokens.medin: no such field; did you mean 'median'"),
        ({**GENERATED, "prompt_tokens": {"kind": "lognormal", "median": 5}}, "expected median and p90, or mean and sigma; given: median"),
        ({**GENERATED, "prompt_tokens": {"kind": "lognormal", "median": 5, "p90": 2}}, r"p90 \(2\) must not be below median"),
        ({**GENERATED, "prompt_tokens": {"kind": "uniform", "low": 5, "high": 2}}, r"high \(2\) must not be below low"),
        ({**GENERATED, "prompt_tokens": {"kind": "empirical", "values": []}}, "values is empty"),
        ({**GENERATED, "prompt_tokens": {"kind": "empirical", "values": [1, 2], "weights": [1]}}, "weights must be 2 numbers"),
        ({**GENERATED, "prompt_tokens": {"kind": "zipf"}}, "workload.prompt_tokens: expected 'kind': one of 'fixed', .* got 'zipf'"),
    ],
)
def test_a_workload_that_is_not_determined_is_refused(workload, message):
    with pytest.raises(SpecError, match=message):
        load_scenario({**CHAT, "workload": workload})


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"tokens": None}, "expected tokens or steps, exactly one"),
        ({"steps": 5}, "expected tokens or steps, exactly one"),
        ({"micro_batch_size": 3}, "must divide global_batch_size"),
        ({"zero_stage": 4}, "must be at most 3, got 4"),
        ({"recompute": "some"}, "'none', 'selective', .* or 'full'"),
    ],
)
def test_a_training_block_that_cannot_be_is_refused(training, message):
    with pytest.raises(SpecError, match=message):
        load_scenario({**TRAINING, "training": {**TRAINING["training"], **training}})


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"slo": {"ttft_p90": "1 s"}}, "slo belongs to a serving scenario; this one is of kind training"),
        ({"kv_precision": "fp8"}, "kv_precision belongs to a serving scenario"),
        ({"workload": GENERATED}, "workload belongs to a serving scenario"),
        ({"router": "least_outstanding"}, "router belongs to a serving scenario"),
        ({"engine": {"max_num_seqs": 8}}, "engine: only its name applies to training"),
    ],
)
def test_what_means_nothing_to_training_is_refused_with_its_line(write, extra, message):
    text = dump_yaml({**TRAINING, **extra})
    line = next(number for number, content in enumerate(text.splitlines(), 1) if content.startswith(next(iter(extra))))
    with pytest.raises(SpecError, match=rf"line {line}: .*{message}"):
        load_scenario(write(text))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: a\nkind: serving\nname: b\n", "s.yaml, line 3: the key 'name' is given twice"),
        ("- 1\n- 2\n", "expected a mapping of field names"),
        ("", "found an empty file"),
        ("name: [a", "s.yaml, line"),
        (b"\x89PNG\x00\x01", "not a text file"),
        ("a: &a [1, 2]\n" + "".join(f"{c}: &{c} [{', '.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)), "expands to more than"),
        ("name: !!python/object/apply:os.system [echo]\n", "line 1: tags such as .* are not accepted"),
        ("x: " + "y" * 1_000_001, "may have at most 1,000,000"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused(write, content, message):
    with pytest.raises(SpecError, match=message):
        load_scenario(write(content))


def test_messages_carry_file_and_line(write):
    text = dump_yaml(changed(("fleet", 0, "power_limit"), "700 GB"))
    line = next(number for number, content in enumerate(text.splitlines(), 1) if "power_limit" in content)
    with pytest.raises(SpecError, match=rf"s\.yaml, line {line}: fleet\.0\.power_limit"):
        load_scenario(write(text))
    text = dump_yaml(changed(("what_if", 1, "set"), {"precison": "fp8"}))
    line = [number for number, content in enumerate(text.splitlines(), 1) if "set:" in content][1]
    with pytest.raises(SpecError, match=rf"s\.yaml, line {line}: what_if\.1\.set \(500 W limit\): .*did you mean 'precision'"):
        load_scenario(write(text))


def test_extends_lays_a_file_over_another_of_its_folder(write):
    write(CHAT, "base.yaml")
    write({"extends": "../base.yaml", "name": "outside"}, "sub/up.yaml")
    path = write({"extends": "base.yaml", "name": "small", "fleet": [{"accelerator": "l40s"}], "engine": {"max_num_seqs": 8}})
    scenario = load_scenario(path)
    assert (scenario.name, scenario.model, scenario.fleet[0].accelerator) == ("small", "llama-3.1-70b", "l40s")
    assert (scenario.engine.max_num_seqs, scenario.engine.max_num_batched_tokens) == (8, 8192)
    assert len(variants(scenario)) == 3
    with pytest.raises(SpecError, match="line 1: extends: path outside"):
        load_scenario(path.parent / "sub" / "up.yaml")


def test_extends_neither_runs_in_circles_nor_for_ever_nor_away(write, tmp_path):
    write({"extends": "b.yaml"}, "a.yaml")
    write({"extends": "a.yaml"}, "b.yaml")
    with pytest.raises(SpecError, match=r"cyclic: a\.yaml -> b\.yaml -> a\.yaml"):
        load_scenario(tmp_path / "a.yaml")
    with pytest.raises(SpecError, match=r"cyclic: self\.yaml -> self\.yaml"):
        load_scenario(write({"extends": "self.yaml"}, "self.yaml"))
    for number in range(MAX_EXTENDS + 1):
        write({"extends": f"n{number + 1}.yaml"}, f"n{number}.yaml")
    with pytest.raises(SpecError, match="files extend each other"):
        load_scenario(tmp_path / "n0.yaml")
    for away in ("/etc/hostname", "../x.yaml"):
        with pytest.raises(SpecError, match="path outside"):
            load_scenario(write({"extends": away}))
    with pytest.raises(SpecError, match="expected the name of another scenario file, got 3"):
        load_scenario(write({"extends": 3}))
    with pytest.raises(SpecError, match=r"absent\.yaml: no such file"):
        load_scenario(write({"extends": "absent.yaml"}))


def test_a_link_out_of_the_folder_is_refused(write, tmp_path):
    outside = tmp_path.parent / f"{tmp_path.name}-outside.yaml"
    outside.write_text("name: x\n")
    (tmp_path / "link.yaml").symlink_to(outside)
    with pytest.raises(SpecError, match="path outside"):
        load_scenario(write({"extends": "link.yaml"}))


def test_traces_are_looked_up_beside_then_here_then_in_the_data_folders(write, tmp_path, monkeypatch):
    here, data = tmp_path / "here", tmp_path / "data"
    here.mkdir()
    data.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv(DATA_VARIABLE, os.pathsep.join([str(tmp_path / "absent"), str(data)]))
    scenario = load_scenario(write({**CHAT, "workload": {"trace": "t.csv"}}, "own/s.yaml"))
    assert find_trace(scenario) is None
    for folder in (data, here, tmp_path / "own"):
        (folder / "t.csv").write_text("")
        assert find_trace(scenario) == folder / "t.csv"
    assert find_trace(variants(scenario)[1][1]) == tmp_path / "own" / "t.csv"  # variants stand where the file stands
    assert find_trace(load_scenario(TRAINING)) is None


def test_unknown_and_missing_names(tmp_path, monkeypatch):
    monkeypatch.setattr("effsim.catalog.data_root", lambda _: tmp_path)
    (tmp_path / "chat.yaml").write_text(dump_yaml({**CHAT, "what_if": []}))
    assert load_scenario("chat").name == load_scenario("scenarios/chat.yaml").name == "chat-70b-h100"
    with pytest.raises(UnknownNameError, match="unknown scenario 'chta'; did you mean 'chat'"):
        load_scenario("chta")
    with pytest.raises(SpecError, match=r"absent\.yaml: no such file"):
        load_scenario(tmp_path / "absent.yaml")


@pytest.mark.parametrize("path", sorted(data_root("scenarios").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_scenarios_load_and_say_what_they_answer(path):
    scenario = load_scenario(path)
    assert scenario.question
    assert len(variants(scenario)) == len(scenario.what_if) + 1


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["700 W", "fp8", "../x", "1 h", "fixed"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.sampled_from(["kind", "tensor", "set", "name"]), inner, max_size=3),
    max_leaves=8,
)


@given(field=st.sampled_from([*CHAT, "training", "device", "router", "cost", "x"]), value=values)
def test_any_value_is_read_or_refused_as_a_mistake(field, value):
    try:
        load_scenario({**CHAT, field: value})
    except SpecError as error:
        assert "\n" not in str(error)  # noqa: PT017 -- any other exception fails the test


@given(path=st.text(alphabet="abc.0fleet", max_size=20) | st.sampled_from(["fleet.0", "workload", "slo", "engine.name", "fleet.0.parallelism"]), value=values)
def test_any_change_is_made_or_refused_as_a_mistake(path, value):
    try:
        with_changes(load_scenario(CHAT), {path: value})
    except SpecError as error:
        assert "\n" not in str(error)  # noqa: PT017 -- any other exception fails the test
