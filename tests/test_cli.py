"""The command line: fast help, JSON that parses, one line and exit code 2 for bad input, 130 when interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import effsim
from effsim.cli import app

ROOT = Path(__file__).parent.parent
RUN = CliRunner()
COMMANDS = [[], ["estimate"], ["estimate", "serving"], ["estimate", "training"], ["run"], ["specs"], ["specs", "list"], ["specs", "show"]]
COMMANDS += [["validate", "training"], ["validate", "power"], ["validate", "training-fit"]]
COMMANDS += [["specs", "check"], ["specs", "import-hf"], ["validate"], ["validate", "mlenergy"], ["optimize"], ["optimize", "parallelism"]]
COMMANDS += [["optimize", "choices"]]
COMMANDS += [["calibrate"], *(["calibrate", name] for name in ("run", "logs", "kernels", "serving", "show"))]
COMMANDS += [["meters"], ["meters", "record"], ["meters", "energy"], ["convert"], ["capacity"]]
SERVING = ["estimate", "serving", "--model", "llama-3.1-8b", "--accelerator", "h100_sxm"]
TRAINING = ["estimate", "training", "--model", "llama-3.1-8b", "--system", "h100_sxm", "--num-accelerators", "8", "--global-batch-size", "64"]
TRAINING += ["--zero-stage", "3", "--recompute", "full"]


def strict(text):
    return json.loads(text, parse_constant=pytest.fail)


def effsim_process(*arguments, **settings):
    command = [sys.executable, "-c", "from effsim.cli import main\nif __name__ == '__main__': main()", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **settings)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(command):
    result = RUN.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_help_loads_nothing_heavy():
    code = "import sys\nfrom effsim.cli import app\nprint(sorted({'numpy', 'pandas', 'pydantic', 'simpy', 'scipy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_version():
    assert RUN.invoke(app, ["--version"]).output == f"effsim {effsim.__version__}\n"


@pytest.mark.parametrize("command", [SERVING, TRAINING], ids=["serving", "training"])
def test_estimates(command):
    table = RUN.invoke(app, [*command, "--breakdown"])
    assert table.exit_code == 0, table.output
    assert "90 % interval" in table.output
    document = strict(RUN.invoke(app, [*command, "--json"]).output)
    assert document["provenance"] in table.output
    for name, (low, high) in document["intervals_90"].items():
        assert low <= document[name] <= high


def test_an_estimate_says_what_it_rests_on():
    table = RUN.invoke(app, SERVING).output
    for words in ("power, servers", "J/request", "largest batch that fits", "accelerators", " ms", "vllm, imitating", "calibration:", "% assumed"):
        assert words in table, words
    basis = strict(RUN.invoke(app, [*SERVING, "--json"]).output)["basis"]
    assert sum(basis["inputs_by_kind"].values()) == basis["inputs"]
    assert basis["inputs_by_kind"]["assumed"] > 0


@pytest.mark.parametrize(
    ("command", "options", "field"),
    [
        (SERVING, ["--gpu-memory-utilization", "0.5"], "max_batch"),
        (SERVING, ["--node", "hgx_h100"], "server_power_w"),
        (SERVING, ["--attention", "naive"], "ttft_s"),
        (SERVING, ["--sparsity", "2:4"], "tpot_s"),
        (SERVING, ["--max-num-batched-tokens", "256"], "ttft_s"),
        (TRAINING, ["--trainable", "lora", "--lora-rank", "8"], "step_time_s"),
        (TRAINING, ["--rank-time-sd", "0.05"], "step_time_s"),
        (TRAINING, ["--attention", "naive"], "step_time_s"),
        (TRAINING, ["--shard-group", "4"], "step_time_s"),
        ([*TRAINING, "--pp", "2"], ["--pipeline-schedule", "zero_bubble"], "step_time_s"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_an_option_reaches_the_estimate(command, options, field):
    plain, changed = (strict(RUN.invoke(app, [*command, "--json", *more]).output) for more in ([], options))
    assert plain[field] != changed[field]


def test_rows_of_one_kind_have_one_unit():
    energies = [line for line in RUN.invoke(app, SERVING).output.splitlines() if "/output token" in line]
    assert len(energies) == 2
    assert len({line.split()[-2] for line in energies}) == 1


def test_estimate_takes_a_power_limit_with_its_unit():
    free, capped = (strict(RUN.invoke(app, [*SERVING, "--batch", "256", "--json", *limit]).output) for limit in ([], ["--power-limit", "300 W"]))
    assert capped["power_w"] <= 300.0 * (1 + 1e-9)
    assert capped["tpot_s"] >= free["tpot_s"]


def test_run_prints_a_table_json_folder_and_picture(tmp_path):
    folder, picture = tmp_path / "run", tmp_path / "table.svg"
    arguments = ["run", "mobile-battery-life", "--limit", "2", "--no-intervals"]
    result = RUN.invoke(app, [*arguments, "--json", "--output", str(folder), "--svg", str(picture)])
    assert result.exit_code == 0, result.output
    document = strict(result.stdout)
    assert document["summary"]["requests"]["arrived"] == 2
    assert strict((folder / "summary.json").read_text()) == document
    assert picture.read_text().startswith("<svg")


def test_run_of_a_path_and_of_a_name_are_the_same():
    arguments = ["--limit", "2", "--no-intervals", "--json"]
    by_name, by_path = (RUN.invoke(app, ["run", name, *arguments]).stdout for name in ("phone-assistant", str(ROOT / "scenarios" / "phone-assistant.yaml")))
    assert strict(by_name) == strict(by_path)


@pytest.mark.parametrize("kind", ["accelerators", "nodes", "networks", "models", "engines", "sites", "calibrations"])
def test_specs_list_and_show(kind):
    rows = strict(RUN.invoke(app, ["specs", "list", kind, "--json"]).output)
    name = rows[0]["name"]
    assert name in RUN.invoke(app, ["specs", "list", kind]).output
    shown = RUN.invoke(app, ["specs", "show", kind, name])
    assert shown.exit_code == 0
    assert strict(RUN.invoke(app, ["specs", "show", kind, name, "--json"]).output)["name"] == name


def test_specs_counts_and_check():
    counts = strict(RUN.invoke(app, ["specs", "list", "--json"]).output)
    assert counts["accelerators"] >= 60
    checked = RUN.invoke(app, ["specs", "check", "--json"])
    assert checked.exit_code == 0
    assert strict(checked.output)["mistakes"] == []


def test_specs_check_of_a_bad_file(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: bad\npue: 1.2\n")
    result = RUN.invoke(app, ["specs", "check", str(bad)])
    assert result.exit_code == 2
    assert "bad.yaml" in result.stderr


def test_a_folder_of_ones_own_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFSIM_SPECS", "")  # undone after the test, with what the command puts there
    (tmp_path / "sites").mkdir()
    shipped = (ROOT / "hardware_specs" / "sites" / "sweden.yaml").read_text(encoding="utf-8")
    (tmp_path / "sites" / "my_hall.yaml").write_text(re.sub(r"^name: .*$", "name: my_hall", re.sub(r"^aliases:.*\n", "", shipped, flags=re.M), flags=re.M))
    result = RUN.invoke(app, ["--specs", str(tmp_path), "specs", "show", "sites", "my_hall"])
    assert result.exit_code == 0, result.output


def test_import_hf(tmp_path, reference_file):
    configs = reference_file("hf_configs")
    rows = strict(RUN.invoke(app, ["specs", "import-hf", str(configs), "--json"]).output)
    assert {row["status"] for row in rows} <= {"imported", "refused"}
    assert all(row["message"] for row in rows if row["status"] == "refused")
    target = tmp_path / "mine.yaml"
    result = RUN.invoke(app, ["specs", "import-hf", str(configs / "Qwen--Qwen3-8B_config.json"), "--output", str(target)])
    assert result.exit_code == 0, result.output
    assert effsim.model(str(target)).num_layers == 36


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "no-such-scenario"], "unknown scenario"),
        (["run", "absent.yaml"], "no such file"),
        (["run", "chat-70b-h10"], "did you mean 'chat-70b-h100'"),
        (["specs", "show", "accelerators", "h100_smx"], "did you mean 'h100_sxm'"),
        (["specs", "show", "gpus", "h100_sxm"], "gpus"),
        (["specs", "check", "absent"], "no such file"),
        (["specs", "import-hf", "absent"], "absent"),
        ([*SERVING, "--power-limit", "5 kg"], "--power-limit: expected a power such as 300 W, got '5 kg', which is a mass"),
        ([*SERVING, "--power-limit", "500 J"], "--power-limit: expected a power such as 300 W, got '500 J', which is an energy"),
        ([*SERVING, "--power-limit", "much"], "--power-limit: expected a power such as 300 W, got 'much'"),
        ([*SERVING, "--power-limit", "0 W"], "--power-limit: must be above 0 W"),
        ([*SERVING, "--power-limit", "5 kW"], "h100_sxm takes 200 to 700 W"),
        ([*SERVING, "--engine", "megatron"], "engines for serving"),
        ([*TRAINING, "--engine", "vllm"], "engines for training"),
        ([*SERVING, "--batch", "abc"], "'--batch': expected a valid integer"),
        ([*SERVING, "--modle", "x"], "--model"),
        (SERVING[:4], "Missing option '--accelerator'"),
        (["estimat"], "Did you mean 'estimate'?"),
        (["estimate", "servin"], "Did you mean 'serving'?"),
        (["run", "phone-assistant", "--limit", "0"], "--limit"),
        (["run", "phone-assistant", "--svg", "/proc/a.svg"], "--svg: /proc/a.svg cannot be written"),
        (["run", "phone-assistant", "--svg", "/"], "--svg: / is a folder"),
        (["run", "phone-assistant", "--output", "/proc/a/b"], "--output: /proc/a/b cannot be written"),
        ([*SERVING, "--precision", "fp7"], "fp7"),
        ([*SERVING, "--batch", "0"], "--batch"),
        ([*SERVING, "--engine", "vlm"], "did you mean 'vllm'"),
        (["estimate", "serving", "--model", "llama-3.1-70b", "--accelerator", "t4"], "t4"),
        ([*TRAINING, "--recompute", "some"], "some"),
        (["validate", "mlenergy", "absent.csv"], "absent.csv"),
        (["--specs", "absent", "specs", "list"], "absent"),
        (["unheard-of"], "unheard-of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_message_and_exit_code_2(arguments, says):
    result = RUN.invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert says in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert re.fullmatch(r"effsim: [^\n]+\n", result.stderr)
    assert result.stdout == ""


def test_an_interrupt_ends_all_processes_with_130():
    process = effsim_process("run", "chat-70b-h100", start_new_session=True)
    time.sleep(4.0)  # the processes are up and at work
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted" in errors


def test_public_names():
    assert {*effsim.__all__} <= {*dir(effsim)}
    for name in effsim.__all__:
        assert getattr(effsim, name) is not None
    assert effsim.accelerator("NVIDIA H100 80GB HBM3").name == "h100_sxm"
    with pytest.raises(AttributeError, match="no attribute 'acelerator'"):
        _ = effsim.acelerator


def test_importing_effsim_loads_nothing_heavy():
    code = "import sys, effsim\nprint(sorted({'numpy', 'pandas', 'pydantic', 'yaml'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_optimize_parallelism():
    job = ["optimize", "parallelism", "--accelerator", "a100", "--num-accelerators", "8", "--global-batch-size", "64"]
    done = RUN.invoke(app, [*job, "--model", "llama-2-7b", "--json"])
    best = strict(done.stdout)["best"]
    assert best[0]["step_time_s"] == min(row["step_time_s"] for row in best)
    assert RUN.invoke(app, [*job, "--model", "gpt-3-175b"]).exit_code == 2
