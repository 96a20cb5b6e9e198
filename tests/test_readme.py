"""What the README and the docs show is executed: every Python block, and every shell line that begins with ``effsim``.

A block is left out by the line ``<!-- not executed: why -->`` just before it. The Python blocks of one file share their names, in order.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import effsim
from effsim.bench.run_file import write_run
from tests.calibrate.run_files import measured, prior_of

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<skip><!-- not executed: \S.*-->\n\s*)?(?P<indent>[ ]*)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page, with the line on which its text begins."""

    language: str
    text: str
    line: int


def blocks(page_text: str, language: str) -> list[Block]:
    found = (m for m in FENCE.finditer(page_text) if m["language"] == language and not m["skip"])
    return [Block(language, textwrap.dedent(m["text"]), page_text.count("\n", 0, m.start("text")) + 1) for m in found]


def effsim_commands(page_text: str) -> list[str]:
    lines = [line for block in blocks(page_text, "bash") for line in block.text.replace("\\\n", " ").splitlines()]
    return [line.strip() for line in lines if line.startswith("effsim ")]


def run_python(page_text: str, where: str) -> dict[str, object]:
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page_text, "python"):
        # Empty lines before the text make a traceback name the page's own line.
        exec(compile("\n" * (block.line - 1) + block.text, where, "exec"), names)  # noqa: S102 -- the pages are ours
    return names


@pytest.fixture(scope="session")
def measured_files(tmp_path_factory):
    """What the pages measure elsewhere: a run file, a calibration of it, and logs of a server, all of an H100 that is as the model says."""
    folder = tmp_path_factory.mktemp("measured")
    prior = prior_of()
    write_run(folder / "run.json", measured(prior.median, np.random.default_rng(1)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-c", "from effsim.cli import main; main()", "calibrate", "run", "run.json", "-o", "my_h100.yaml"]
    subprocess.run(program, cwd=folder, env=environment, capture_output=True, check=True, timeout=TIMEOUT_S)
    for batch in (8, 32, 128):
        estimate = effsim.estimate_serving("llama-3.1-8b", "h100_sxm", batch=batch, prompt_tokens=512, output_tokens=256)
        log = {
            "date": "20261101-120000", "backend": "vllm", "model_id": "llama-3.1-8b", "num_prompts": 100, "completed": 100, "max_concurrency": batch,
            "total_input_tokens": 51_200, "total_output_tokens": 25_600, "output_throughput": estimate.output_tokens_per_s,
            "mean_ttft_ms": 90.0,
            "mean_tpot_ms": 1e3 * estimate.tpot_s, "mean_itl_ms": 1e3 * estimate.tpot_s, "median_itl_ms": 1e3 * estimate.itl_s,
        }  # fmt: skip
        (folder / f"run-{batch}.json").write_text(json.dumps(log), encoding="utf-8")
    return folder


@pytest.fixture
def beside_the_data(tmp_path, monkeypatch, measured_files):
    """A working folder like the checkout's, in which the pages may write."""
    for path in measured_files.iterdir():
        shutil.copy(path, tmp_path)
    for name in ("scenarios", "hardware_specs"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page.read_text(encoding="utf-8"), "python")], ids=relative)
@pytest.mark.usefixtures("beside_the_data")
def test_python_blocks_run(page):
    run_python(page.read_text(encoding="utf-8"), relative(page))


@pytest.mark.parametrize(
    "command",
    [pytest.param(command, id=f"{relative(page)}: {command}") for page in PAGES for command in effsim_commands(page.read_text(encoding="utf-8"))],
)
def test_effsim_commands_run(command, beside_the_data):
    program = [sys.executable, "-c", "from effsim.cli import main; main()"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    words = shlex.split(command, comments=True)[1:]
    if words[0] == "bench":
        (beside_the_data / "run.json").unlink()
    arguments = [name for word in words for name in (sorted(path.name for path in beside_the_data.glob(word)) if "*" in word else [word])]
    done = subprocess.run(
        [*program, *arguments],
        cwd=beside_the_data,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_the_readme_sets_up_in_two_commands():
    first, second = (block.text.strip() for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"), "bash")[:2])
    assert first.startswith("python3 -m venv .venv && ")
    assert first.endswith("effsim run scenarios/chat-70b-h100.yaml")
    assert second.startswith("python3 -m venv .venv && ")
    assert ".venv/bin/pytest" in second
    assert "\n" not in first + second


def test_blocks_are_found_with_their_lines():
    python = "a\n```python\nx = 1\n```\n<!-- not executed: needs a GPU -->\n```python\nx = 2\n```\n"
    page = python + "1. item\n   ```bash\n   effsim run a \\\n     --json\n   ls\n   ```\n"
    assert blocks(page, "python") == [Block("python", "x = 1\n", 3)]
    assert effsim_commands(page) == ["effsim run a    --json"]


def test_a_broken_block_is_reported_with_the_line_of_its_page():
    page = "text\n\n```python\nx = 1\nassert x == 2\n```\n"
    with pytest.raises(AssertionError) as caught:
        run_python(page, "page.md")
    last = caught.traceback[-1]
    assert (str(last.path), last.lineno + 1) == ("page.md", 5)
