"""The shape of the package: which way imports point, how long files and functions are, units in the names of floats."""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "effsim"

LAYERS = (
    {"_version", "errors"},
    {"units"},
    {"documents"},
    {"catalog"},
    {"results", "specs"},
    {"meters"},
    {"bench"},
    {"workload"},
    {"cost"},
    {"sim", "site", "strategies", "calibrate"},
    {"optimize"},
    {"sweep", "run", "validate", "report", "experiments"},
    {"cli", "ui", "app"},
)
"""Bottom first. A module imports from lower layers and from its own package, not from its neighbours in a layer."""

ONLY_THESE = {
    "meters": {"_version", "units", "errors", "specs", "results"},
    "bench": {"_version", "units", "errors", "specs", "results", "meters"},
}
"""They run on bare machines; the kernels that ``bench`` measures have their energy from ``meters``."""

THIRD_PARTY_OF_COST = {"numpy"}
TABLES_OF_COST = {f"effsim.cost.{name}" for name in ("breakdown", "estimate", "serving", "training")}
"""The estimates, whose public ``breakdown`` is a pandas table; the functions under them know arrays only."""

OPTIONAL_PACKAGES = {
    "aiconfigurator_core",
    "pynvml",
    "zeus",
    "streamlit",
    "plotly",
    "distributed",
    "dask",
    "pyarrow",
    "optuna",
    "torch",
    "sklearn",
    "matplotlib",
}
TOP_LAYER = LAYERS[-1]

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 59
MAX_ARGUMENTS = 8
WIDE_BY_CONTRACT = {"estimate_serving", "estimate_training", "optimize_training"}
"""Public functions whose arguments are the user's vocabulary, all but two of them optional; their docstrings do not count as lines."""

UNIT = "s|j|w|bytes?|flop|hz|usd|kg|kg_co2e|g_co2e|m3|degc|tokens?|requests?|steps?|kwh|mac"
WITH_UNIT = re.compile(rf"(^|_)({UNIT})$|(^|_)per_({UNIT})$")
UNITS_IN_NAMES = {"specs", "results", "cost"}
RATIO = re.compile(r"(efficiency|factor|share|ratio|fraction|utilization|softness|imbalance|floor|units|probability|confidence|quantile)$")
DIMENSIONLESS = {
    "value", "low", "high",  # the unit stands beside them, in a field of its own
    "log_sd", "discrepancy",  # of a natural logarithm
    "level",  # of confidence
    "keys",  # read by attention: a mean or a sum of even growth may be a fraction
    "batch", "times", "weights", "expert_weights", "layer_weights", "trained", "parameters",  # counts that may be fractions: sequences, repetitions, weights
    "amax_reads",  # times that a tensor is read, an average
    "nodes", "readers",  # counts that are fractions where a node is shared
    "relative_sd", "rank_time_sd",  # of the mean
    "min_clock", "max_clock", "clock",  # of the full clock
    "offload_activations", "offload_optimizer",  # shares
    *(f"Coefficients.{name}" for name in (
        "idle_power", "static_power", "compute_power", "memory_power", "link_power",
        "busy_power", "grouped_busy_power", "quantized_busy_power", "attention_busy_power", "elementwise_busy_power",
    )),  # of the TDP
    "expert_tile_rows",  # a count
}  # fmt: skip
"""Floats without a unit, by name, or by class and name where the name alone would say too little."""


@dataclass(frozen=True)
class Module:
    """A source file, its dotted name and its syntax tree."""

    path: Path
    root: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), str(self.path))

    @property
    def name(self) -> str:
        parts = self.path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def unit(self) -> str:
        """The part that the layers speak of: the package or module right below effsim."""
        return self.name.split(".")[1] if "." in self.name else ""

    def place(self, node: ast.AST) -> str:
        return f"{self.path.relative_to(self.root).as_posix()}:{getattr(node, 'lineno', 1)}"

    def imports(self) -> Iterator[tuple[ast.stmt, str]]:
        """Yield each import statement and the full name that it asks for."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        yield from (node for node in ast.walk(self.tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def modules(root: Path) -> list[Module]:
    return [Module(path, root) for path in sorted((root / PACKAGE).rglob("*.py"))]


def level(unit: str) -> int | None:
    return next((index for index, layer in enumerate(LAYERS) if unit in layer), None)


def layer_name(unit: str) -> str:
    index = level(unit)
    return f"{unit} (no layer)" if index is None else f"{unit} (layer {index + 1} of {len(LAYERS)})"


def wrong_direction(module: Module) -> Iterator[str]:
    if not module.unit:  # effsim/__init__.py imports everything, lazily
        return
    own = level(module.unit)
    if own is None:
        yield f"{module.place(module.tree)}: {module.unit} stands in no layer; add it to LAYERS"
        return
    for node, target in module.imports():
        package, _, rest = target.partition(".")
        unit = rest.split(".")[0]
        if package != PACKAGE or unit in {"", module.unit, "__version__"}:
            continue
        other = level(unit)
        allowed = unit in ONLY_THESE[module.unit] if module.unit in ONLY_THESE else other is not None and other < own
        if not allowed:
            yield f"{module.place(node)}: {layer_name(module.unit)} imports {layer_name(unit)}"


def relative_imports(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"{module.place(node)}: relative import"


def late_imports(module: Module) -> Iterator[str]:
    if not module.unit or module.unit in TOP_LAYER:
        return
    for function in module.functions():
        for node in ast.walk(function):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            yield from (f"{module.place(node)}: {name} is imported inside {function.name}" for name in names if name.split(".")[0] not in OPTIONAL_PACKAGES)


def foreign_packages(module: Module) -> Iterator[str]:
    if module.unit != "cost":
        return
    for node, target in module.imports():
        package = target.split(".")[0]
        allowed = {PACKAGE, *THIRD_PARTY_OF_COST, *sys.stdlib_module_names} | ({"pandas"} if module.name in TABLES_OF_COST else set())
        if package not in allowed:
            yield f"{module.place(node)}: cost imports {package}; it takes only {', '.join(THIRD_PARTY_OF_COST)} and the standard library"


def too_long(module: Module) -> Iterator[str]:
    lines = len(module.path.read_text(encoding="utf-8").splitlines())
    if lines > MAX_FILE_LINES:
        yield f"{module.place(module.tree)}: {lines} lines in the file, at most {MAX_FILE_LINES}"
    for function in module.functions():
        lines = length(function) - (length(function.body[0]) if function.name in WIDE_BY_CONTRACT else 0)
        if lines > MAX_FUNCTION_LINES:
            yield f"{module.place(function)}: {lines} lines in {function.name}, at most {MAX_FUNCTION_LINES}"


def length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def too_wide(module: Module) -> Iterator[str]:
    if module.unit == "cli":  # Typer makes an option of each argument
        return
    for function in module.functions():
        count = len([a for a in every_argument(function) if a.arg not in {"self", "cls"}])
        if count > MAX_ARGUMENTS and function.name not in WIDE_BY_CONTRACT:
            yield f"{module.place(function)}: {count} arguments of {function.name}, at most {MAX_ARGUMENTS}"


def every_argument(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def unitless_floats(module: Module) -> Iterator[str]:
    if module.unit not in UNITS_IN_NAMES:
        return
    for node, owner, name, annotation in annotated(module.tree):
        known = WITH_UNIT.search(name) or RATIO.search(name) or {name, f"{owner}.{name}"} & DIMENSIONLESS
        if is_float(annotation) and not known:
            yield f"{module.place(node)}: the float {owner}.{name} carries no unit; add its suffix, or list it in DIMENSIONLESS"


def annotated(tree: ast.Module) -> Iterator[tuple[ast.AST, str, str, ast.expr]]:
    """Yield the annotated fields of classes and parameters of functions, after the name of the class or function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from ((a, node.name, a.target.id, a.annotation) for a in node.body if isinstance(a, ast.AnnAssign) and isinstance(a.target, ast.Name))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from ((a, node.name, a.arg, a.annotation) for a in every_argument(node) if a.annotation is not None)


def is_float(annotation: ast.expr) -> bool:
    """Whether an annotation is ``float``, alone or in a union; containers of floats are named for what they hold."""
    if isinstance(annotation, ast.BinOp):
        return is_float(annotation.left) or is_float(annotation.right)
    return isinstance(annotation, ast.Name) and annotation.id == "float"


def cycles(root: Path) -> list[str]:
    known = {module.name: module for module in modules(root) if module.unit}
    graph = {name: {other for _, target in module.imports() if (other := nearest(target, known)) not in {None, name}} for name, module in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"these modules import each other: {' -> '.join(reversed(error.args[1]))}"]
    return []


def nearest(target: str, known: dict[str, Module]) -> str | None:
    """Return the module that an imported name lies in, if it is one of ours: the name itself or what holds it."""
    return next((name for name in (target, target.rpartition(".")[0]) if name in known), None)


RULES: tuple[Callable[[Module], Iterator[str]], ...] = (
    wrong_direction,
    relative_imports,
    late_imports,
    foreign_packages,
    too_long,
    too_wide,
    unitless_floats,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps(rule):
    broken = [violation for module in modules(ROOT) for violation in rule(module)]
    assert not broken, "\n" + "\n".join(broken)


def test_no_modules_import_each_other():
    assert not cycles(ROOT), cycles(ROOT)


def found(root: Path, files: dict[str, str], rule: Callable[[Module], Iterator[str]]) -> list[str]:
    for name, text in files.items():
        path = root / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return [violation for module in modules(root) for violation in rule(module)]


WIDE = f"def f({', '.join(f'a{i}' for i in range(9))}): pass\n"
LONG = "def f():\n" + "    x = 1\n" * 59

CAUGHT = [
    (
        wrong_direction,
        {"cost/a.py": "import numpy\nfrom effsim.sim import engine\n"},
        ["effsim/cost/a.py:2: cost (layer 9 of 13) imports sim (layer 10 of 13)"],
    ),
    (wrong_direction, {"sim/a.py": "import effsim.site.grid\n"}, ["effsim/sim/a.py:1: sim (layer 10 of 13) imports site (layer 10 of 13)"]),
    (wrong_direction, {"units.py": "def f():\n    from effsim import catalog\n"}, ["effsim/units.py:2: units (layer 2 of 13) imports catalog (layer 4 of 13)"]),
    (wrong_direction, {"meters/nvml.py": "from effsim.cost import device\n"}, ["effsim/meters/nvml.py:1: meters (layer 6 of 13) imports cost (layer 9 of 13)"]),
    (wrong_direction, {"novel.py": ""}, ["effsim/novel.py:1: novel stands in no layer; add it to LAYERS"]),
    (wrong_direction, {"__init__.py": "from effsim.cli import main\n", "cost/a.py": "import math\nfrom effsim.workload import b\n"}, []),
    (wrong_direction, {"cost/a.py": "from effsim.cost import b\nimport effsim.errors\n"}, []),
    (relative_imports, {"cost/a.py": "from . import b\n"}, ["effsim/cost/a.py:1: relative import"]),
    (late_imports, {"site/a.py": "def f():\n    import json\n"}, ["effsim/site/a.py:2: json is imported inside f"]),
    (late_imports, {"meters/a.py": "def f():\n    import pynvml\n", "cli.py": "def f():\n    import json\n"}, []),
    (
        foreign_packages,
        {"cost/a.py": "import numpy as np, math\nfrom pandas import x\n", "cost/serving.py": "import pandas\n"},
        ["effsim/cost/a.py:2: cost imports pandas; it takes only numpy and the standard library"],
    ),
    (too_long, {"site/a.py": "x = 1\n" * 401}, ["effsim/site/a.py:1: 401 lines in the file, at most 400"]),
    (too_long, {"site/a.py": LONG}, ["effsim/site/a.py:1: 60 lines in f, at most 59"]),
    (too_wide, {"site/a.py": WIDE, "cli.py": WIDE}, ["effsim/site/a.py:1: 9 arguments of f, at most 8"]),
    (
        unitless_floats,
        {"cost/a.py": "class A:\n    power: float\n    time_s: float | None\ndef f(x: int, *, energy: float | None, low: float, overlap_ratio: float): pass\n"},
        [
            "effsim/cost/a.py:2: the float A.power carries no unit; add its suffix, or list it in DIMENSIONLESS",
            "effsim/cost/a.py:4: the float f.energy carries no unit; add its suffix, or list it in DIMENSIONLESS",
        ],
    ),
]


@pytest.mark.parametrize(("rule", "files", "expected"), CAUGHT)
def test_violations_are_caught(rule, files, expected, tmp_path):
    assert sorted(found(tmp_path, files, rule)) == sorted(expected)


def test_cycles_are_caught(tmp_path):
    found(tmp_path, {"sim/a.py": "from effsim.sim.b import x\n", "sim/b.py": "from effsim.sim import c\n", "sim/c.py": "import effsim.sim.a\n"}, too_long)
    (message,) = cycles(tmp_path)
    assert all(f"effsim.sim.{name}" in message for name in "abc")
