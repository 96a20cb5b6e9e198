"""The rows of a scenario's table: what each is called, its unit, and its interval from runs at the ends of what is not known."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from effsim.results import Provenance, Quantity, Scope
from effsim.run.machines import Account
from effsim.site.impact import energy_per_day_kwh, usd_per_million
from effsim.specs.scenario import Device
from effsim.units import SECONDS_PER_DAY, SECONDS_PER_HOUR

Values = Mapping[str, float | None]
Ends = Mapping[str, tuple[Values, Values]]
"""Cause of doubt -> the values at the low and at the high end of what it leaves open; causes of one name are one cause."""
OWN: Final = "chance"
"""A cause that two variants do not share."""


class Metric(NamedTuple):
    """A row: its words, its unit (``1`` for shares, ``count`` for counts) and the boundary of a power or energy."""

    label: str
    unit: str
    scope: Scope | None = None


CAUSE_WORDS: Final = {
    "useful": "useful work",
    "recomputed": "work done again",
    "checkpoint": "checkpoints",
    "detection": "failure not yet noticed",
    "restart": "restart and restore",
    "waiting": "waiting for nodes",
    "straggling": "slow nodes",
    "throttled": "slowed by the power budget",
    "paused": "paused",
    "maintenance": "maintenance",
    "repair": "repair",
    "idle": "idle and spare nodes",
}
"""Cause of the training cluster's ledger -> words."""

PART_WORDS: Final[dict[str, tuple[str, Scope | None]]] = {
    "accelerator": ("accelerators", "accelerator"),
    "host": ("hosts, fans and power supplies", "server"),
    "network": ("network between servers", None),
    "storage": ("storage servers", None),
}
"""Part of a training run's energy -> words and boundary."""

MAX_GROUPS: Final = 20
"""Groups of jobs that have rows of their own in the table."""

METRICS: Final[dict[str, Metric]] = {
    "ttft_p50_s": Metric("TTFT p50", "s"),
    "ttft_p90_s": Metric("TTFT p90", "s"),
    "ttft_p99_s": Metric("TTFT p99", "s"),
    "tpot_p50_s": Metric("TPOT p50", "s"),
    "tpot_p90_s": Metric("TPOT p90", "s"),
    "tpot_p99_s": Metric("TPOT p99", "s"),
    "slo_attainment": Metric("requests within the SLO", "1"),
    "completed_requests": Metric("completed requests", "count"),
    "dropped_requests": Metric("dropped requests", "count"),
    "output_tokens_per_s": Metric("output tokens", "tokens/s"),
    "step_time_s": Metric("step time", "s"),
    "mfu": Metric("MFU", "1"),
    "tokens_per_s": Metric("throughput", "tokens/s"),
    "duration_days": Metric("whole run", "days"),
    "goodput": Metric("effective training time", "1"),
    "trained_billion_tokens": Metric("tokens trained", "B tokens"),
    "interruptions": Metric("interruptions by failures", "count"),
    "cluster_utilization": Metric("nodes held by jobs", "1"),
    "finished_jobs": Metric("finished jobs", "count"),
    "preemptions": Metric("preemptions", "count"),
    "queue_wait_h": Metric("wait in the queue, mean of all jobs", "h"),
    **{f"queue_wait_{group}_h": Metric("- job", "h") for group in range(MAX_GROUPS)},
    **{f"time_{cause}_share": Metric(f"- {words}", "1") for cause, words in CAUSE_WORDS.items() if cause not in {"useful", "repair", "idle"}},
    "accelerator_j_per_output_token": Metric("energy, accelerators", "J/output token", "accelerator"),
    "server_j_per_output_token": Metric("energy, servers", "J/output token", "server"),
    "site_j_per_output_token": Metric("energy, site", "J/output token", "site"),
    "accelerator_j_per_token": Metric("energy, accelerators", "J/token", "accelerator"),
    "server_j_per_token": Metric("energy, servers", "J/token", "server"),
    "site_j_per_token": Metric("energy, site", "J/token", "site"),
    "server_kw": Metric("power, servers", "kW", "server"),
    "site_kw": Metric("power, site", "kW", "site"),
    "site_kwh_per_day": Metric("energy, site", "kWh/day", "site"),
    "site_mwh": Metric("energy of the run, site", "MWh", "site"),
    **{f"part_{part}_mwh": Metric(f"- {words}", "MWh", scope) for part, (words, scope) in PART_WORDS.items()},
    **{f"energy_{cause}_mwh": Metric(f"accelerators: {words}", "MWh", "accelerator") for cause, words in CAUSE_WORDS.items()},
    "operational_kg_per_day": Metric("CO2e of operation", "kg/day", "site"),
    "embodied_kg_per_day": Metric("CO2e embodied", "kg/day"),
    "operational_kg": Metric("CO2e of operation", "kg", "site"),
    "embodied_kg": Metric("CO2e embodied", "kg"),
    "water_on_site_l_per_day": Metric("water on site", "L/day", "site"),
    "water_of_grid_l_per_day": Metric("water of the grid", "L/day", "site"),
    "owned_usd_per_million_output_tokens": Metric("cost, owned", "$/M output tokens"),
    "hardware_usd_per_million_output_tokens": Metric("- of which machines", "$/M output tokens"),
    "electricity_usd_per_million_output_tokens": Metric("- of which electricity", "$/M output tokens", "site"),
    "owned_usd_per_million_tokens": Metric("cost, owned", "$/M tokens"),
    "rented_usd_per_million_output_tokens": Metric("cost, rented", "$/M output tokens"),
    "owned_usd": Metric("cost of the run, owned", "$"),
    "hardware_usd": Metric("- of which machines", "$"),
    "electricity_usd": Metric("- of which electricity", "$", "site"),
    "rented_usd": Metric("cost of the run, rented", "$"),
    "battery_life_h": Metric("battery life in use", "h"),
    "output_tokens_per_charge": Metric("output tokens per charge", "count"),
}
"""In the order of the table. Rent covers the servers and their electricity; owned machines pay for both apart."""


PARENTS: Final = {
    f"{part}_usd{per}": (f"owned_usd{per}", f"cost, {words}")
    for per in ("", "_per_million_output_tokens")
    for part, words in (("hardware", "machines"), ("electricity", "electricity"))
}
"""Row that is part of another -> that other, and its own words where the other is absent."""


class Words(NamedTuple):
    """What a scenario calls its things.

    Args:
        device: A machine is one phone, laptop or board.
        samples: No text is seen.
        jobs: Groups of jobs of a shared cluster, the scenario's own run first.
    """

    device: bool = False
    samples: bool = False
    jobs: tuple[str, ...] = ()

    def label(self, key: str, keys: Any) -> str:
        """Return the words of a row in a table of rows."""
        parent, alone = PARENTS.get(key, (None, ""))
        label = METRICS[key].label if parent is None or parent in keys else alone
        if label == "- job":
            return f"- {self.jobs[int(key.split('_')[2])]}"
        label = label.replace("servers", "device").replace("accelerators", "accelerator") if self.device else label
        return label.replace("tokens", "samples") if self.samples else label

    def unit(self, unit: str) -> str:
        """Return a unit."""
        return unit.replace("token", "sample") if self.samples else unit


def site_values(totals: Account, device: Device | None) -> dict[str, float | None]:
    """Return power, energy, carbon, water and battery life of an account."""
    span_s, energy, effect = totals.duration_s, totals.energy, totals.impact
    per_day = SECONDS_PER_DAY / span_s
    site_kw = None if energy.site_j is None else energy.site_j / span_s / 1e3
    grid_m3 = None if effect is None else effect.water_of_grid_m3
    embodied_kg = totals.machines.embodied_carbon_kg
    return {
        "server_kw": energy.server_j / span_s / 1e3,
        "site_kw": site_kw,
        "site_kwh_per_day": None if site_kw is None else energy_per_day_kwh(site_kw * 1e3),
        "operational_kg_per_day": None if effect is None else effect.operational_carbon_kg * per_day,
        "embodied_kg_per_day": None if embodied_kg is None else embodied_kg * per_day,
        "water_on_site_l_per_day": None if effect is None else effect.water_on_site_m3 * 1e3 * per_day,
        "water_of_grid_l_per_day": None if grid_m3 is None else grid_m3 * 1e3 * per_day,
        "battery_life_h": None if device is None else battery_life_h(device, energy.server_j / span_s),
    }


def battery_life_h(device: Device, power_w: float) -> float:
    """Return how long a charge lasts in use [h]: ``battery / (machine + screen and radio)``."""
    return device.battery / (power_w + device.other_power) / SECONDS_PER_HOUR


def per_output_token(totals: Account, output_tokens: int, all_tokens: int) -> dict[str, float | None]:
    """Return energy and cost per output token; all ``None`` where there is none."""
    energy, bill, machines = totals.energy, totals.impact, totals.machines
    electricity_usd = None if bill is None else bill.electricity_usd
    owned_usd = None if electricity_usd is None or machines.purchase_usd is None else electricity_usd + machines.purchase_usd

    def millionth(cost_usd: float | None, tokens: int = output_tokens) -> float | None:
        return None if cost_usd is None else usd_per_million(cost_usd, tokens)

    def each(energy_j: float | None) -> float | None:
        return energy_j / output_tokens if energy_j is not None and output_tokens else None

    return {
        "accelerator_j_per_output_token": each(energy.accelerator_j),
        "server_j_per_output_token": each(energy.server_j),
        "site_j_per_output_token": each(energy.site_j),
        "owned_usd_per_million_output_tokens": millionth(owned_usd),
        "hardware_usd_per_million_output_tokens": millionth(machines.purchase_usd),
        "electricity_usd_per_million_output_tokens": millionth(electricity_usd),
        "owned_usd_per_million_tokens": millionth(owned_usd, all_tokens),
        "rented_usd_per_million_output_tokens": millionth(machines.rental_usd),
    }


def quantities(median: Values, ends: Ends, provenance: Provenance, words: Words) -> dict[str, Quantity]:
    """Return the rows of a column, in the order of :data:`METRICS`; rows absent everywhere stay out.

    Args:
        median: At the medians of what is not known.
        ends: For each independent cause of doubt, the values at both ends of its 90 % interval.
        provenance: Of the whole.
        words: What the scenario calls its things.
    """
    found = {}
    for key, metric in METRICS.items():
        value = median.get(key)
        if value is None:
            continue
        low, high = combine(value, [[at.get(key) for at in cause] for cause in ends.values()]) if ends else (None, None)
        if high is not None and metric.unit == "1":
            high = max(value, min(high, 1.0))
        found[key] = Quantity(value, words.unit(metric.unit), low, high, provenance, metric.scope)
    return found


def differences(median: Values, ends: Ends, base: Values, base_ends: Ends) -> dict[str, tuple[float, float]]:
    """Return the 90 % interval of each row's difference to the base: relative, of shares absolute.

    What is not known of both is not known in the same way: both stand at the same end of a cause that they share. A cause that
    only one of them has, and chance, moves that one alone.
    """
    found = {}
    for key, metric in METRICS.items():
        value, before = median.get(key), base.get(key)
        if value is None or before is None or (metric.unit != "1" and before <= 0.0):
            continue
        pairs = _paired(key, (value, ends), (before, base_ends))
        if metric.unit == "1":
            found[key] = _spread(value - before, [[None if a is None or b is None else a - b for a, b in cause] for cause in pairs])
        else:
            low, high = combine(value / before, [[None if a is None or not b else a / b for a, b in cause] for cause in pairs])
            found[key] = (low - 1.0, high - 1.0)
    return found


Pair = tuple[float | None, float | None]


def _paired(key: str, variant: tuple[float, Ends], base: tuple[float, Ends]) -> list[list[Pair]]:
    """Return for each cause (variant, base) at both of its ends."""
    (value, ends), (before, base_ends) = variant, base
    pairs: list[list[Pair]] = []
    for cause in dict.fromkeys((*ends, *base_ends)):
        ours = [at.get(key) for at in ends[cause]] if cause in ends else [value, value]
        theirs = [at.get(key) for at in base_ends[cause]] if cause in base_ends else [before, before]
        if cause == OWN:
            pairs += [[(end, before) for end in ours], [(value, end) for end in theirs]]
        else:
            pairs.append(list(zip(ours, theirs, strict=True)))
    return pairs


def _spread(value: float, ends: Sequence[Sequence[float | None]]) -> tuple[float, float]:
    """Return the interval of a sum from independent causes: their distances add as squares."""
    down = up = 0.0
    for cause in ends:
        distances = [end - value for end in cause if end is not None]
        down += min([0.0, *distances]) ** 2
        up += max([0.0, *distances]) ** 2
    return value - math.sqrt(down), value + math.sqrt(up)


def combine(value: float, ends: Sequence[Sequence[float | None]]) -> tuple[float, float]:
    """Return the interval from independent causes: their distances on the logarithm add as squares.

    An end of zero has no logarithm: there the interval begins. Of a value of zero the outermost ends stand.

    >>> low, high = combine(100.0, [[50.0, 200.0], [100.0, 100.0]])
    >>> round(low, 9), round(high, 9)
    (50.0, 200.0)
    """
    present = [end for cause in ends for end in cause if end is not None]
    if value <= 0.0:
        return min([value, *present]), max([value, *present])
    down = up = 0.0
    for cause in ends:
        distances = [math.log(end / value) for end in cause if end is not None and end > 0.0]
        down += min([0.0, *distances]) ** 2
        up += max([0.0, *distances]) ** 2
    least = min(present, default=value)
    return value * math.exp(-math.sqrt(down)) if least > 0.0 else least, value * math.exp(math.sqrt(up))


def labels(keys: Any, words: Words) -> dict[str, str]:
    """Return the words of metrics."""
    return {key: words.label(key, keys) for key in METRICS if key in keys}
