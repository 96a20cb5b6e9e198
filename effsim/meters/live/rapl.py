"""Processors through Linux powercap: the RAPL counters of packages, their DRAM and the platform; of AMD too.

Every domain is counted once: packages, the DRAM beside them (not in the package's figure on servers), and ``psys``, which
contains them and so is reported apart. The planes ``core`` and ``uncore`` are parts of a package, and ``intel-rapl-mmio`` shows
a package a second time: neither is read.
"""

import os
import time
from pathlib import Path
from typing import Final

from effsim.meters import facts
from effsim.meters.base import Channel, Meter, Obstacle, Reading, Scope

POWERCAP: Final = Path("/sys/class/powercap")
CPUINFO: Final = Path("/proc/cpuinfo")
MICRO: Final = 1e-6
SAME_AGAIN: Final = "-mmio"
SCOPES: Final[dict[str, Scope]] = {"package": "processor", "dram": "memory", "psys": "platform"}


class Live(Meter):
    """Reads the domains of a powercap tree.

    Args:
        root: Where the tree is; none: that of this machine.
    """

    title = "RAPL"

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or POWERCAP
        self._files: dict[str, Path] = {}
        self._channels: list[Channel] = []
        self._obstacles: list[Obstacle] = []
        domains = _domains(self._root)
        for folder in domains:
            self._add(folder, domains)
        if not domains:
            remedy = "on bare metal, as root: modprobe intel_rapl_msr; virtual machines and most containers hide it"
            self._obstacles.append(Obstacle("", f"no RAPL domain under {self._root}", remedy))

    @property
    def channels(self) -> tuple[Channel, ...]:
        """One counter per domain."""
        return tuple(self._channels)

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """Domains that this user may not read."""
        return tuple(self._obstacles)

    def read(self, names: frozenset[str] | None = None) -> tuple[Reading, ...]:
        """Return one reading of each counter; where the file cannot be read now, the reason."""
        readings = []
        for name, path in self._files.items():
            if names is not None and name not in names:
                continue
            start_s, count, reason = time.monotonic(), None, ""
            try:
                count = int(path.read_text(encoding="ascii"))
            except (OSError, ValueError) as error:
                reason = f"{path}: {error.strerror if isinstance(error, OSError) else 'no number in it'}"
            readings.append(Reading(name, 0.5 * (start_s + time.monotonic()), count, reason))
        return tuple(readings)

    def _add(self, folder: Path, domains: list[Path]) -> None:
        kind, device = _named(folder, domains)
        path = folder / "energy_uj"
        try:
            int(path.read_text(encoding="ascii"))
            wraps_at = int((folder / "max_energy_range_uj").read_text(encoding="ascii"))
        except PermissionError:
            self._obstacles.append(Obstacle(device, f"{path} is readable by root only", _remedy(self._root), "denied"))
            return
        except (OSError, ValueError) as error:
            self._obstacles.append(Obstacle(device, f"{path}: {error}", state="failed"))
            return
        channel = Channel(
            name=f"rapl/{device}/energy",
            device=device,
            scope=SCOPES[kind],
            quantity="energy",
            unit_size=MICRO,
            model=_processor() if kind == "package" else "",
            wraps_at=wraps_at,
            period_s=facts.RAPL_PERIOD.value,
            max_power_w=facts.RAPL_MAX_POWER.value,
        )
        self._files[channel.name] = path
        self._channels.append(channel)


def _domains(root: Path) -> list[Path]:
    """Return the folders of the domains that count once, in the order of their numbers."""
    found = []
    for folder in root.glob("*:*"):
        control, *numbers = folder.name.split(":")
        if SAME_AGAIN in control or not all(number.isdecimal() for number in numbers) or _kind(folder) not in SCOPES:
            continue
        found.append(([int(number) for number in numbers], folder))
    return [folder for _, folder in sorted(found)]


def _kind(folder: Path) -> str:
    """Return ``package``, ``dram`` ... from the name that the kernel gives, such as ``package-0-die-1``."""
    try:
        return (folder / "name").read_text(encoding="ascii").strip().partition("-")[0]
    except (OSError, UnicodeDecodeError):
        return ""


def _named(folder: Path, domains: list[Path]) -> tuple[str, str]:
    """Return the kind of a domain and a name unique on the machine: that of the kernel, for DRAM after its package."""
    kind, name = _kind(folder), (folder / "name").read_text(encoding="ascii").strip()
    parent = folder.with_name(folder.name.rpartition(":")[0])
    if parent in domains:
        return kind, f"{(parent / 'name').read_text(encoding='ascii').strip()}-{name}"
    twins = [other for other in domains if other.name.count(":") == 1 and (other / "name").read_text(encoding="ascii").strip() == name]
    return kind, name if len(twins) == 1 else f"{name}-{folder.name.rpartition(':')[2]}"


def _remedy(root: Path) -> str:
    """Return what the administrator can do; since Linux 5.10 the counters are root's, because they leak what others compute (CVE-2020-8694)."""
    user = os.environ.get("USER") or "you"
    once = f"chmod a+r {root}/*/energy_uj"
    rule = """SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/sh -c 'chmod a+r /sys%p/energy_uj'\""""
    return f"as root, until the next start: {once}; for good: put the line {rule} into /etc/udev/rules.d/70-powercap.rules; {user} cannot do it alone"


def _processor() -> str:
    try:
        with CPUINFO.open(encoding="utf-8", errors="replace") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return ""
