"""What the machine is: processor, caches, memory, operating system, libraries and drivers, as the system reports them."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

from effsim.errors import MissingExtraError

_EXTRAS: Final = {"torch": ("bench", "measuring accelerators"), "pynvml": ("nvidia", "reading NVIDIA's driver")}
_LIBRARIES: Final = ("numpy", "torch", "triton", "nvidia-ml-py")
THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_SIZES: Final = {"K": 2**10, "M": 2**20, "G": 2**30, "": 1}
SYSTEM: Final = Path("/sys/devices/system/cpu")


def module(name: str) -> Any:
    """Return an optional module.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError:
        package = name.partition(".")[0]
        raise MissingExtraError(package, *_EXTRAS[package]) from None


def installed(name: str) -> bool:
    """Return whether an optional module can be imported."""
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def cpu_facts() -> tuple[int, int, int, str]:
    """Return memory [bytes], last-level cache [bytes, 0 where unknown], threads of products, and the processor's name."""
    return _memory_bytes(), cache_bytes(), blas_threads(os.environ), cpu_model()


def usable_cores() -> int:
    """Return the cores that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def blas_threads(environment: Mapping[str, str]) -> int:
    """Return the threads that NumPy's products may use: the cores, unless a variable of the environment says fewer.

    >>> blas_threads({"OPENBLAS_NUM_THREADS": "1"})
    1
    """
    given = [int(environment[name]) for name in THREADS if environment.get(name, "").isdigit()]
    return min((usable_cores(), *(count for count in given if count > 0)))


def cpu_model() -> str:
    """Return the processor's name as the system reports it."""
    text = read(Path("/proc/cpuinfo"))
    for pattern in (r"^model name\s*:\s*(.+)$", r"^Model\s*:\s*(.+)$", r"^Hardware\s*:\s*(.+)$"):
        found = re.search(pattern, text, re.MULTILINE)
        if found:
            return found[1].strip()
    return _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine()


def cache_bytes(folder: Path = SYSTEM) -> int:
    """Return the size of the last-level cache that the first core sees [bytes]; 0 where unknown."""
    sizes = []
    for index in sorted((folder / "cpu0" / "cache").glob("index*")):
        found = re.fullmatch(r"(\d+)([KMG]?)", read(index / "size").strip())
        if found and read(index / "type").strip() != "Instruction":
            sizes.append(int(found[1]) * _SIZES[found[2]])
    return max(sizes, default=int(_sysctl("hw.l3cachesize") or _sysctl("hw.perflevel0.l2cachesize") or 0))


def _memory_bytes() -> int:
    names = getattr(os, "sysconf_names", {})  # not on Windows
    if "SC_PHYS_PAGES" not in names:
        return 8 * 2**30  # no more than what every machine has that runs language models
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def mac_gpu_facts() -> tuple[int, int, str]:
    """Return memory [bytes], GPU cores (0 where unknown) and name of an Apple chip."""
    return _memory_bytes(), 0, cpu_model()


def read(path: Path) -> str:
    """Return a small system file; blank where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sysctl(name: str) -> str:
    if platform.system() != "Darwin":
        return ""
    done = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False, timeout=10)  # noqa: S603 -- fixed program and names
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """Return the processor, memory and system of this machine; nothing that names its owner."""
    memory_bytes, last_level_bytes, _, model = cpu_facts()
    return {
        "processor": model,
        "cores": usable_cores(),
        "memory_bytes": memory_bytes,
        "cache_bytes": last_level_bytes,
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "virtual": " hypervisor" in read(Path("/proc/cpuinfo")),
        "threads": {name: os.environ[name] for name in THREADS if name in os.environ},
    }


def libraries(device_library: str) -> dict[str, str]:
    """Return versions of Python, of the libraries, of what they were built with, and of the driver."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    blas = _blas()
    if blas:
        found["blas"] = blas
    if device_library == "torch":
        torch = module("torch")
        found |= {"torch": torch.__version__, "cuda": torch.version.cuda or "", "hip": torch.version.hip or "", "threads": str(torch.get_num_threads())}
        if torch.cuda.is_available():
            found |= {"cudnn": str(torch.backends.cudnn.version() or ""), "driver": _driver()}
    return {name: value for name, value in found.items() if value}


def _blas() -> str:
    built = import_module("numpy").show_config(mode="dicts") or {}
    blas = built.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', '')} {blas.get('version', '')}".strip()


def _driver() -> str:
    try:
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        return str(nvml.nvmlSystemGetDriverVersion())
    except Exception:  # the version is a remark, and NVML's errors have no common built-in base
        return read(Path("/sys/module/amdgpu/version")).strip()
