"""Start-up time: ``import effsim`` and ``effsim --help``, best of n, beside an interpreter that does nothing.

Run with ``python benchmarks/startup.py [n]``. Wall times depend on the machine; their ratio to ``python -c pass`` less so.
"""

import subprocess
import sys
import time

RUNS = 10
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import effsim": ["-c", "import effsim"],
    "effsim --help": ["-c", "import sys; sys.argv = ['effsim', '--help']; from effsim.cli import main; main()"],
    "effsim specs list": ["-c", "import sys; sys.argv = ['effsim', 'specs', 'list']; from effsim.cli import main; main()"],
}
"""Name -> arguments of the interpreter; the lines that import effsim.cli do what the installed script does."""


def best_s(arguments: list[str], runs: int) -> float:
    """Return the shortest wall time of a process [s]: what the machine does otherwise can only add to it."""
    times_s = []
    for _ in range(runs):
        started_s = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times_s.append(time.perf_counter() - started_s)
    return min(times_s)


def main() -> None:
    """Print the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    best = {name: best_s(arguments, runs) for name, arguments in COMMANDS.items()}
    bare_s = best["python -c pass"]
    print(f"best of {runs}, Python {sys.version.split()[0]}")
    print(f"{'':20}{'time':>10}{'ratio':>8}")
    for name, time_s in best.items():
        print(f"{name:20}{time_s * 1e3:>7.0f} ms{time_s / bare_s:>8.1f}")


if __name__ == "__main__":
    main()
