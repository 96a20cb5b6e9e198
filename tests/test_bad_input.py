"""Broken files: each gives one sentence that names the file and the field and says what is allowed, and never another exception."""

# ruff: noqa: E501 -- the tables have one line per case

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from effsim.cli import app
from effsim.documents import MAX_DEPTH, MAX_DOCUMENT_BYTES, parse_yaml
from effsim.errors import EffSimError, SpecError
from effsim.specs.loading import accelerator
from effsim.specs.scenario import load_scenario

ROOT = Path(__file__).parent.parent

ACCELERATOR, SCENARIO = ((ROOT / "tests" / "data" / f"sound_{kind}.yaml").read_text(encoding="utf-8") for kind in ("accelerator", "scenario"))

LOADERS = {"accelerator": accelerator, "scenario": load_scenario}
TEXTS = {"accelerator": ACCELERATOR, "scenario": SCENARIO}


@dataclass(frozen=True)
class Broken:
    """A sound file with one thing changed (``old`` to ``new``), and what its message must say."""

    kind: str
    old: str
    new: str
    says: str

    @property
    def text(self) -> str:
        text = TEXTS[self.kind]
        assert text.count(self.old) == 1, self.old
        return text.replace(self.old, self.new)


CHANGED = {
    # accelerators
    "unknown unit": Broken("accelerator", "700 W", "700 Wat", r"line 9: tdp: unknown unit 'Wat'; expected a quantity such as 700 W"),
    "unit of another dimension": Broken("accelerator", "80 GiB", "80 GHz", r"line 5: memory: 'GHz' is a unit of 'Hz'; expected a quantity such as 80 GiB"),
    "typo in a field": Broken("accelerator", "tdp:", "tpd:", r"line 9: tpd: no such field; did you mean 'tdp'\?"),
    "missing field": Broken("accelerator", "memory_bandwidth: {value: 3.35 TB/s, kind: datasheet, source: sheet}\n", "", r": memory_bandwidth: this field is missing"),
    "negative": Broken("accelerator", "700 W", "-700 W", r"tdp: must not be negative, got '-700 W'"),
    "zero": Broken("accelerator", "700 W", "0 W", r"tdp must be positive"),
    "not a number": Broken("accelerator", "value: 700 W", "value: .nan", r"tdp: expected a finite quantity such as 700 W"),
    "infinite": Broken("accelerator", "value: 700 W", "value: .inf", r"tdp: expected a finite quantity"),
    "beyond what a float holds": Broken("accelerator", "700 W", "1e400 W", r"tdp: expected a finite quantity such as 700 W"),
    "integer beyond what a float holds": Broken("accelerator", "value: 700 W", f"value: 1{'0' * 400}", r"tdp: expected a finite quantity"),
    "more digits than Python reads": Broken("accelerator", "value: 700 W", f"value: 1{'0' * 5000}", r"toy.yaml.*(digits|finite)"),
    "a word for a number": Broken("accelerator", "700 W", "seven hundred", r"tdp: expected a quantity such as 700 W, 1.2 kW, got 'seven hundred'"),
    "a truth value for a quantity": Broken("accelerator", "value: 700 W", "value: yes", r"tdp: expected a quantity such as 700 W, 1.2 kW, got True"),
    "a truth value for a count": Broken("accelerator", "compute_units: 132", "compute_units: true", r"line 10: compute_units: expected a number, a text or a mapping, got True"),
    "a list for a count": Broken("accelerator", "compute_units: 132", "compute_units: [132]", r"compute_units: .*valid integer"),
    "a figure without its source": Broken("accelerator", "{value: 700 W, kind: datasheet, source: sheet}", "700 W", r"tdp: expected \{value, kind, source\}, got '700 W'"),
    "an unknown kind of knowledge": Broken("accelerator", "value: 700 W, kind: datasheet", "value: 700 W, kind: guess", r"tdp.kind: .*'datasheet', 'measured', 'fitted' or 'assumed'"),
    "a source that is not listed": Broken("accelerator", "700 W, kind: datasheet, source: sheet", "700 W, kind: datasheet, source: blog", r"tdp cites the source 'blog', which is not among sources: sheet"),
    "an unknown dtype": Broken("accelerator", "bf16:", "bf17:", r"peak.bf17.*'bf16'"),
    "duplicate key": Broken("accelerator", "compute_units: 132", "vendor: Other", r"line 10: the key 'vendor' is given twice"),
    "tab as indentation": Broken("accelerator", "  bf16:", "\tbf16:", r"line 8: "),
    "unclosed bracket": Broken("accelerator", "tdp: {value: 700 W, kind: datasheet, source: sheet}", "tdp: {value: 700 W, kind: datasheet", r"toy.yaml, line \d+: "),
    "a Python object": Broken("accelerator", "vendor: Toy", "vendor: !!python/object/apply:os.system ['false']", r"line 2: tags such as '!!?python/object.* are not accepted|line 2: tags such as 'tag:yaml.org,2002:python"),
    "a merge of a text": Broken("accelerator", "peak:\n", "<<: text\npeak:\n", r"line 7: expected a mapping or list of mappings for merging"),
    "a key that is a list": Broken("accelerator", "compute_units: 132", "[1, 2]: 132", r"line 10: a key must be plain text"),
    "a key that is a number": Broken("accelerator", "compute_units: 132", "7: 132", r"field names are text; found 7"),
    "an impossible date": Broken("accelerator", '"2024-01"', "2024-13-45", r"line 12: sources.sheet.date: .*got '2024-13-45'"),
    "a value that contains itself": Broken("accelerator", "compute_units: 132", "note: &me [*me]", r"line 10: an alias refers to a value that contains it"),
    "an alias to nothing": Broken("accelerator", "compute_units: 132", "note: *nobody", r"line 10: found undefined alias"),
    "a second document": Broken("accelerator", "compute_units: 132", "compute_units: 132\n---\nmore: 1", r"line 11: but found another document"),
    # scenarios
    "scenario: unit of another dimension": Broken("scenario", "2 req/s", "2 W", r"line 7: workload.arrivals.rate: 'W' is a unit of 'W'; expected a quantity such as 10 req/s"),
    "scenario: typo in a block": Broken("scenario", "ttft_p90", "ttft_p9", r"line 11: slo.ttft_p9: no such field; did you mean 'ttft_p"),
    "scenario: typo in a list": Broken("scenario", "replicas: 2", "replica: 2", r"line 5: fleet.0.replica: no such field; did you mean 'replicas'\?"),
    "scenario: unknown kind": Broken("scenario", "kind: serving", "kind: surfing", r"line 2: kind: expected 'serving' or 'training', got 'surfing'"),
    "scenario: two kinds at once": Broken("scenario", "kind: serving", "kind: mixed", r"line 2: kind: mixed is not run as one; write two scenarios"),
    "scenario: a billion replicas": Broken("scenario", "replicas: 2", "replicas: 1000000000", r"line 5: fleet.0.replicas: must be at most 10,000, got 1000000000"),
    "scenario: zero machines": Broken("scenario", "replicas: 2", "replicas: 0", r"line 5: fleet.0.replicas: must be at least 1, got 0"),
    "scenario: half a machine": Broken("scenario", "replicas: 2", "replicas: 2.5", r"fleet.0.replicas: expected a whole number, got 2.5"),
    "scenario: a truth value for a count": Broken("scenario", "replicas: 2", "replicas: on", r"line 5: fleet.0.replicas: expected a number, a text or a mapping, got True"),
    "scenario: a mapping for a list": Broken("scenario", "  - {accelerator", "  {accelerator", r"fleet: .*valid tuple"),
    "scenario: an empty fleet": Broken("scenario", "  - {accelerator: h100_sxm, replicas: 2, parallelism: {tensor: 4}, power_limit: 700 W}\n", "  []\n", r"fleet is empty: expected at least one entry"),
    "scenario: a block left empty": Broken("scenario", "slo: {ttft_p90: 2 s}", "slo:", r"line 11: slo: "),
    "scenario: reversed range": Broken("scenario", "low: 10", "low: 100", r"output_tokens.*high \(20\) must not be below low \(100\)"),
    "scenario: an unknown distribution": Broken("scenario", "kind: uniform", "kind: normal", r"workload.output_tokens: .*'fixed', 'lognormal', 'uniform', 'geometric', 'empirical', 'histogram'"),
    "scenario: trace and arrivals": Broken("scenario", "  requests: 10", "  requests: 10\n  trace: a.csv", r"workload: a trace excludes arrivals, prompt_tokens"),
    "scenario: a path outside": Broken("scenario", "model: llama-3.1-8b", "model: ../../etc/passwd", r"model: path outside: '../../etc/passwd'"),
    "scenario: an absolute path": Broken("scenario", "model: llama-3.1-8b", "site: /etc/passwd", r"path outside: '/etc/passwd'|model: this field is missing"),
    "scenario: a policy as code": Broken("scenario", "name: toy\n", "name: toy\nrouter: __import__('os')\n", r"line 2: router: "),
    "scenario: a what-if that leads nowhere": Broken("scenario", "fleet.0.power_limit", "fleet.0.power_limt", r"what_if.0.set \(500 W limit\): .*power_limt: no such field; did you mean 'power_limit'\?"),
    "scenario: a what-if past the end of a list": Broken("scenario", "fleet.0.power_limit", "fleet.3.power_limit", r"what_if.0.set .*fleet has 1 entry: 0; got '3'"),
    "scenario: extends itself": Broken("scenario", "name: toy\n", "name: toy\nextends: toy.yaml\n", r"line 2: extends: cyclic: toy.yaml -> toy.yaml"),
    "scenario: extends outside": Broken("scenario", "name: toy\n", "name: toy\nextends: ../other.yaml\n", r"line 2: extends: path outside"),
    "scenario: extends what is absent": Broken("scenario", "name: toy\n", "name: toy\nextends: other.yaml\n", r"other.yaml: no such file"),
    "scenario: absurdly many": Broken("scenario", "requests: 10", f"requests: 1{'0' * 400}", r"workload.requests: expected a finite quantity"),
}  # fmt: skip

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True))
RAW = {
    "empty": (b"", r"expected a mapping of field names to values, found an empty file"),
    "only a comment": (b"# nothing\n", r"found an empty file"),
    "a list": (b"- name: toy\n- vendor: Toy\n", r"expected a mapping of field names to values, found list"),
    "a sentence": (b"once upon a time\n", r"expected a mapping of field names to values, found str"),
    "not UTF-8": (b"name: caf\xe9\n", r"not a text file in UTF-8 \(byte 9\)"),
    "binary": (bytes(range(256)) * 8, r"not a text file"),
    "zero bytes": (b"name: a\0b\n", r"not a text file \(it contains zero bytes\)"),
    "a control character": (b"name: a\x07b\n", r"not YAML|not allowed|control"),
    "CSV": (b'arrival_s,prompt_tokens\n0.0,"12\n', r"toy.yaml"),
    "XML": (b"<?xml version='1.0'?><a>&b;</a>\n", r"toy.yaml"),
    "huge": (b"# " + b"x" * MAX_DOCUMENT_BYTES, rf"a file of this kind may have at most {MAX_DOCUMENT_BYTES:,}"),
    "a YAML bomb": (LAUGHS.encode(), r"line \d+: expands to more than 50,000 values"),
    "a YAML bomb of merges": (re.sub(r"\[(\*\w)[^\]]*\]", r"{<<: \1, k: \1}", LAUGHS).encode(), r"toy.yaml"),
    "nested too deep": (b"a: " + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), rf"nested deeper than {MAX_DEPTH} levels"),
    "nested deeper than the stack": (b"a: " + b"[" * 200_000, r"nested deeper|toy.yaml, line 1"),
    "nested deeper than the stack, as blocks": ("".join(f"{' ' * i}a:\n" for i in range(1200)).encode(), r"nested deeper"),
    "a Python object at the top": (b"!!python/object/new:os.system [echo]\n", r"line 1: tags such as 'tag:yaml.org,2002:python/object/new:os.system' are not accepted"),
    "a set at the top": (b"!!set {a, b}\n", r"line 1: tags such as 'tag:yaml.org,2002:set' are not accepted"),
}  # fmt: skip


def message(kind: str, path: Path) -> str:
    started_s = time.perf_counter()
    with pytest.raises(EffSimError) as caught:
        LOADERS[kind](str(path))
    assert time.perf_counter() - started_s < 5.0
    return str(caught.value)


@pytest.mark.parametrize("kind", TEXTS)
def test_the_sound_file_is_accepted(kind, tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(TEXTS[kind], encoding="utf-8")
    assert LOADERS[kind](str(path)).name == "toy"


@pytest.mark.parametrize("broken", CHANGED.values(), ids=CHANGED)
def test_one_mistake_gives_one_clear_sentence(broken, tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(broken.text, encoding="utf-8")
    said = message(broken.kind, path)
    assert re.search(broken.says, said), said
    assert "toy.yaml" in said or "other.yaml" in said
    assert len(said) < 700
    assert "\n" not in said


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize(("content", "says"), RAW.values(), ids=RAW)
def test_what_is_no_specification_is_refused(kind, content, says, tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_bytes(content)
    said = message(kind, path)
    assert re.search(says, said), said
    assert said.startswith(str(path))
    assert len(said) < 700
    assert "\n" not in said


@pytest.mark.parametrize("kind", TEXTS)
def test_a_path_that_is_no_file_is_refused(kind, tmp_path):
    assert "no such file" in message(kind, tmp_path / "absent.yaml")
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    assert "expected a file, found a folder" in message(kind, folder)
    assert "cannot be read: File name too long" in message(kind, tmp_path / f"{'x' * 5000}.yaml")
    assert "no such file" in message(kind, Path("a\0b.yaml"))
    dangling = tmp_path / "dangling.yaml"
    dangling.symlink_to(tmp_path / "absent.yaml")
    assert "no such file" in message(kind, dangling)
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    assert "expected a file, found a folder or device" in message(kind, pipe)


COMMANDS = {"accelerator": ["specs", "show", "accelerators"], "scenario": ["run"]}


def test_the_command_line_says_it_in_one_line_and_ends_with_2(tmp_path):
    path = tmp_path / "toy.yaml"
    cases = [(broken.kind, broken.text.encode(), broken.says) for broken in CHANGED.values()]
    cases += [(kind, content, says) for kind in TEXTS for content, says in RAW.values()]
    for kind, content, says in cases:
        path.write_bytes(content)
        done = CliRunner().invoke(app, [*COMMANDS[kind], str(path)])
        assert (done.exit_code, done.stdout) == (2, ""), done.output
        assert re.search(says, done.stderr), done.stderr
        assert re.fullmatch(r"effsim: [^\n]+\n", done.stderr), done.stderr
        assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("arguments", [["run", "no-such-scenario"], ["specs", "show", "models", "lama-3.1-8b"], ["run", "absent.yaml"]])
def test_an_unknown_name_ends_the_command_line_with_2(arguments):
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert arguments[-1] in done.stderr


def test_the_program_ends_with_2_and_without_a_traceback(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(SCENARIO.replace("700 W", "700 Wat"), encoding="utf-8")
    program = [sys.executable, "-c", "from effsim.cli import main; main()", "run", str(path)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "line 5: fleet.0.power_limit: unknown unit 'Wat'" in done.stderr


def test_an_unknown_name_comes_with_the_nearest_ones():
    with pytest.raises(EffSimError, match=r"unknown accelerator 'h100_smx'; did you mean 'h100_sxm'"):
        accelerator("h100_smx")
    with pytest.raises(EffSimError, match=r"unknown scenario 'no-such-scenario'"):
        load_scenario("no-such-scenario")


def test_several_mistakes_are_counted():
    with pytest.raises(SpecError, match=r"\(\d more mistakes in this file\)"):
        load_scenario({"name": "toy", "kind": "serving", "flete": [], "slo": {"ttft": 1}})


def test_files_that_extend_each_other_in_a_circle_are_refused(tmp_path):
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {other}.yaml\n", encoding="utf-8")
    assert "cyclic: a.yaml -> b.yaml -> c.yaml -> a.yaml" in message("scenario", tmp_path / "a.yaml")


def test_nothing_is_executed(tmp_path):
    path = tmp_path / "toy.yaml"
    witness = tmp_path / "witness"
    path.write_text(f"!!python/object/apply:os.mkdir ['{witness}']\n", encoding="utf-8")
    message("accelerator", path)
    assert not witness.exists()


def test_what_yaml_1_1_would_turn_into_something_else_stays_text():
    text = "day: 2024-01-05\noctal: 010\nclock: 1:30\nequals: =\n"
    assert parse_yaml(text, "note") == {"day": "2024-01-05", "octal": "010", "clock": "1:30", "equals": "="}
    numbers = {"a": 3.35e12, "b": -7, "c": 0, "d": 1_000, "e": 0.5, "f": 1e-3, "g": True, "h": None}
    assert parse_yaml("a: 3.35e12\nb: -7\nc: 0\nd: 1_000\ne: .5\nf: 1.0e-3\ng: yes\nh: ~\n", "note") == numbers


def test_shared_parts_are_merged_and_repeated():
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n", "note")["b"] == {"x": 1, "y": 3}


def test_aliases_count_with_the_levels_they_stand_for():
    deeper = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, MAX_DEPTH))
    with pytest.raises(SpecError, match="nested deeper than 30 levels"):
        parse_yaml(deeper, "note")
    assert len(parse_yaml(deeper.rsplit("\n", 2)[0], "note")) == MAX_DEPTH - 1
