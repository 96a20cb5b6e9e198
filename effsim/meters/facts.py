"""What documentation and studies say of meters: update periods, averaging, accuracy, bounds.

They stand here rather than among the YAML files because a bare machine has no reader for those.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure and where it is from.

    Args:
        value: In ``unit``.
        unit: ``s``, ``W``, or ``1`` for a share of the reading.
        kind: ``datasheet``: of the maker; ``measured``: by a published study; ``assumed``: a bound chosen here.
        source: Document and date.
        low: Lower end of the range it may lie in, where it is assumed.
        high: Upper end.
    """

    value: float
    unit: Literal["s", "W", "1"]
    kind: Literal["datasheet", "measured", "assumed"]
    source: str
    low: float | None = None
    high: float | None = None


NVML_COUNTER_PERIOD = Fact(0.1, "s", "measured", "ML.ENERGY blog, Thermally Stable Profiling: energy counters move about every 100 ms; seen 2026-11")
NVML_POWER_PERIOD = Fact(0.1, "s", "assumed", "that of the counter; on A100 and H100 the sensor sees 25 % of the time (arXiv:2312.02741, abstract)", 0.02, 0.17)
NVML_AVERAGING = Fact(1.0, "s", "datasheet", "NVML API, nvmlDeviceGetPowerUsage: mean of 1 s on Ampere (except GA100) and newer; seen 2026-11")
NVML_ACCURACY = Fact(0.05, "1", "assumed", "no figure is documented for GPUs after Kepler, for which NVML states 5 %", 0.01, 0.1)
RAPL_PERIOD = Fact(0.001, "s", "datasheet", "Intel SDM vol. 3B, 14.9.3 (updated about every 1 ms); Linux hwmon/amd_energy: every 1 ms; seen 2026-11")
RAPL_MAX_POWER = Fact(2000.0, "W", "assumed", "bound of one domain: several times the TDP of any processor sold by 2026", 500.0, 2000.0)
WALL_ACCURACY = Fact(0.01, "1", "assumed", "what SPEC asks of analysers that PTDaemon accepts, as remembered; better the meter's data sheet", 0.001, 0.02)
SOC_PERIOD = Fact(0.1, "s", "assumed", "Zeus reads a Jetson's power about every 100 ms; of Apple's counters nothing is documented", 0.001, 0.1)
COUNTER_PERIOD = Fact(0.1, "s", "assumed", "update period of a counter that documents none", 0.001, 1.0)
