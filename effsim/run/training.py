"""A training scenario: the step that the cost model estimates, and the whole run at the site."""

import math
from typing import Any

from effsim._version import __version__
from effsim.cost.storage import DEFAULT_STORAGE
from effsim.cost.training import estimate_training
from effsim.errors import SpecError
from effsim.results import Provenance, plain
from effsim.run.doubt import Shift
from effsim.run.machines import Account, account, resolve_node
from effsim.run.metrics import site_values
from effsim.run.names import engine_of
from effsim.run.serving import money_and_matter
from effsim.site.account import EnergyParts, Use
from effsim.site.impact import usd_per_million
from effsim.specs import loading
from effsim.specs.job import Training
from effsim.specs.models import model
from effsim.specs.scenario import Machines, Scenario
from effsim.units import JOULES_PER_KWH, SECONDS_PER_DAY


def parts_of(scenario: Scenario) -> tuple[Machines, Training]:
    """Return the machines and the training block of a training scenario.

    Raises:
        SpecError: Several entries in the fleet, or no training block.
    """
    if scenario.training is None or len(scenario.fleet) != 1:
        raise SpecError(f"{scenario.name}: a training scenario has a training block and one entry in its fleet, found {len(scenario.fleet)}")
    return scenario.fleet[0], scenario.training


def steps_of(training: Training) -> int:
    """Return the steps of the run: as stated, or as many as see the tokens."""
    if training.steps is not None:
        return training.steps
    return math.ceil((training.tokens or 0) / (training.global_batch_size * training.sequence_length))


def step_estimate(scenario: Scenario) -> Any:
    """Return the estimate of a step.

    Raises:
        InfeasibleError: It does not fit.
        SpecError: A name or number is wrong.
    """
    machines, training = parts_of(scenario)
    ranks = machines.parallelism
    return estimate_training(
        scenario.model,
        machines.accelerator,
        num_accelerators=machines.num_accelerators,
        global_batch_size=training.global_batch_size,
        micro_batch_size=training.micro_batch_size,
        sequence_length=training.sequence_length,
        tensor_parallel=ranks.tensor,
        pipeline_parallel=ranks.pipeline,
        virtual_pipeline_stages=training.virtual_pipeline_stages,
        context_parallel=ranks.context,
        expert_parallel=ranks.expert,
        sequence_parallel=training.sequence_parallel,
        zero_stage=training.zero_stage,
        recompute=training.recompute,
        optimizer=training.optimizer,
        node=machines.node,
        engine=engine_of(scenario),
        calibration=scenario.calibration,
        precision=scenario.precision or model(scenario.model).native_precision,
        power_limit_w=machines.power_limit,
        pipeline_schedule=training.pipeline_schedule,
        rank_time_sd=training.rank_time_sd,
        storage=scenario.storage or DEFAULT_STORAGE,
        data_bytes_per_token=training.data_bytes_per_token,
        prefetch_ratio=training.prefetch_ratio,
    )


def estimate(scenario: Scenario) -> tuple[Any, Provenance, dict[str, Any]]:
    """Return the estimate of a step, its provenance and the summary of the run.

    Raises:
        InfeasibleError: It does not fit.
        SpecError: A name or number is wrong.
    """
    machines, training = parts_of(scenario)
    result = step_estimate(scenario)
    totals = run_account(scenario, result, float(result.step_time_s), float(result.power_w))
    tokens = steps_of(training) * training.global_batch_size * training.sequence_length
    estimated = {key: value for key, value in plain(result).items() if key not in {"breakdown", "memory"}}
    summary = {
        "name": scenario.name,
        "kind": scenario.kind,
        "model": scenario.model,
        "site": scenario.site,
        "num_accelerators": machines.num_accelerators,
        "steps": steps_of(training),
        "tokens": tokens,
        "duration_s": totals.duration_s,
        "step": estimated,
        "energy": totals.energy.to_dict(),
        **money_and_matter(totals, tokens, 0),
        "assumptions": {"provenance": result.provenance, "lifetime_s": scenario.cost.lifetime, "effsim": __version__},
    }
    return result, result.provenance, summary


def run_account(scenario: Scenario, result: Any, step_s: float, power_w: float, shift: Shift | None = None) -> Account:
    """Return the account of the whole run at a step time and a power of all accelerators."""
    return account(scenario, (run_use(scenario, result, step_s, power_w),), shift=shift)


def run_use(scenario: Scenario, result: Any, step_s: float, power_w: float) -> Use:
    """Return how the machines are used in the whole run; network and storage take per step what the estimate says."""
    machines, training = parts_of(scenario)
    accelerator = loading.accelerator(machines.accelerator)
    steps = steps_of(training)
    duration_s = steps * step_s
    beside = (steps * float(result.network_energy_j_per_step), steps * float(result.storage_energy_j_per_step))
    return Use(accelerator, resolve_node(machines, accelerator), machines.num_accelerators, duration_s, duration_s, power_w * duration_s, *beside)


def training_values(scenario: Scenario, result: Any, step_s: float, power_w: float, shift: Shift | None = None) -> dict[str, float | None]:
    """Return the rows of the table at a step time and a power; MFU goes with the inverse of time."""
    _, training = parts_of(scenario)
    per_step = training.global_batch_size * training.sequence_length
    totals = run_account(scenario, result, step_s, power_w, shift)
    mfu = float(result.mfu) * float(result.step_time_s) / step_s
    return {"step_time_s": step_s, "mfu": mfu, "tokens_per_s": per_step / step_s, **account_values(scenario, totals, steps_of(training) * per_step)}


def account_values(scenario: Scenario, totals: Account, tokens: float) -> dict[str, float | None]:
    """Return the rows of the table that follow from the account of a run that trained so many tokens."""
    energy, machines = totals.energy, totals.machines
    bill = None if totals.impact is None else totals.impact.electricity_usd
    owned_usd = None if bill is None or machines.purchase_usd is None else bill + machines.purchase_usd
    site_j = energy.site_j
    return {
        "duration_days": totals.duration_s / SECONDS_PER_DAY,
        "accelerator_j_per_token": energy.accelerator_j / tokens,
        "server_j_per_token": energy.server_j / tokens,
        "site_j_per_token": None if site_j is None else site_j / tokens,
        "site_mwh": None if site_j is None else site_j / JOULES_PER_KWH / 1e3,
        **{f"part_{part}_mwh": joules / JOULES_PER_KWH / 1e3 for part, joules in energy_by_part(energy).items()},
        **{key: value for key, value in site_values(totals, scenario.device).items() if key in {"server_kw", "site_kw", "site_kwh_per_day", "battery_life_h"}},
        "operational_kg": None if totals.impact is None else totals.impact.operational_carbon_kg,
        "embodied_kg": machines.embodied_carbon_kg,
        "owned_usd": owned_usd,
        "hardware_usd": machines.purchase_usd,
        "electricity_usd": bill,
        "rented_usd": machines.rental_usd,
        "owned_usd_per_million_tokens": None if owned_usd is None else usd_per_million(owned_usd, tokens),
    }


def energy_by_part(energy: EnergyParts) -> dict[str, float]:
    """Return the joules of accelerators, hosts (with fans and power supplies), network and storage."""
    return {"accelerator": energy.accelerator_j, "host": energy.server_j - energy.accelerator_j, "network": energy.network_j, "storage": energy.storage_j}
