"""Every file in the folder of training choices keeps the contract; a new file is tested without an edit here."""

import copy
import inspect
import math

import pytest

from effsim.cost.training import estimate_training
from effsim.errors import SpecError, UnknownNameError
from effsim.specs.model import DenseFfn
from effsim.specs.models import model
from effsim.strategies import registry
from effsim.strategies.effect import StepsEffect
from effsim.strategies.job import ARGUMENTS, TrainingJob, estimate, memory_bytes, parts, replace, resolve, step_cost
from effsim.strategies.training import activation, adapters, batch_size, layer_stacking, optimizer, precision, pruning, sequence_warmup
from effsim.strategies.training_table import settings
from effsim.workload.parameters import parameter_count

JOB = TrainingJob("llama-3.2-1b", "h100_sxm", num_accelerators=8, global_batch_size=64, tokens=2e10)
CASES = [
    pytest.param(name, knobs, id=f"{name}-{'-'.join(str(v) for v in knobs.values())}") for name in registry.names() for knobs in settings(registry.choice(name))
]


def test_a_job_has_the_arguments_and_defaults_of_the_estimate():
    wanted = inspect.signature(estimate_training).parameters
    assert list(ARGUMENTS) == list(wanted)
    own = inspect.signature(TrainingJob).parameters
    assert all(own[name].default == wanted[name].default for name in ARGUMENTS)


@pytest.mark.parametrize("name", registry.names())
def test_the_contract(name):
    module = registry.choice(name)
    assert module.TITLE
    assert module.__doc__
    assert all(len(set(values)) == len(values) > 1 for values in module.KNOBS.values())
    assert set(inspect.signature(module.apply).parameters) == {"job", *module.KNOBS}
    assert set(module.neutral(JOB)) == set(module.KNOBS)


@pytest.mark.parametrize("name", registry.names())
def test_the_neutral_value_is_identity(name):
    module = registry.choice(name)
    same = module.apply(JOB, **module.neutral(JOB))
    assert same is JOB
    assert module.steps(JOB, same).is_exactly_one
    assert module.quality(JOB, same) == ""


@pytest.mark.parametrize(("name", "knobs"), CASES)
def test_every_value_gives_a_job_that_can_be_estimated(name, knobs):
    module = registry.choice(name)
    before = copy.deepcopy(JOB)
    changed = module.apply(JOB, **knobs)
    assert before == JOB
    assert changed == module.apply(JOB, **knobs)
    assert changed.target_tokens == JOB.target_tokens
    if name == "precision" and "fp4" in knobs["format"]:
        with pytest.raises(SpecError, match=r"needs units for fp4, which h100_sxm lacks; it computes bf16"):
            step_cost(changed)
        changed = replace(changed, accelerator="b200_sxm")
    assert step_cost(changed).energy_per_token_j > 0.0
    assert memory_bytes(changed) > 0.0
    assert isinstance(module.quality(JOB, changed), str)


@pytest.mark.parametrize(("name", "knobs"), CASES)
def test_the_effect_on_tokens_is_in_order_and_sourced(name, knobs):
    module = registry.choice(name)
    effect = module.steps(JOB, module.apply(JOB, **knobs))
    given = [value for value in (effect.low, effect.median, effect.high) if value is not None]
    assert given == sorted(given)
    assert all(value > 0.0 for value in given)
    assert effect.source
    assert effect.date
    assert effect.note
    assert not (effect.median is None and effect.high is not None)


@pytest.mark.parametrize("figures", [(1.1, 1.0, 1.2), (1.0, 1.3, 1.2), (0.0, 1.0, 1.0), (-1.0, 1.0, 1.0), (1.0, math.nan, 1.0)])
def test_figures_out_of_order_are_refused(figures):
    with pytest.raises(SpecError, match="0 < low <= median <= high"):
        StepsEffect(*figures, "a", "b", "c")
    with pytest.raises(SpecError, match="source"):
        StepsEffect(1.0, 1.0, 1.0, "", "b", "c")


def test_an_unknown_choice_is_named():
    with pytest.raises(UnknownNameError, match="did you mean 'optimizer'"):
        registry.choice("optimiser")


def test_the_resolved_step_is_that_of_the_estimate():
    direct = estimate(JOB)
    assert memory_bytes(JOB) == direct.memory.total_bytes
    assert resolve(JOB)[0].deployment.parallelism.accelerators == direct.num_accelerators == 8


def test_a_job_without_stages_costs_what_the_estimate_says():
    direct, cost = estimate(JOB), step_cost(JOB)
    assert cost.step_time_s == direct.step_time_s
    assert cost.energy_j == direct.energy_j_per_step
    assert cost.server_energy_j == pytest.approx(direct.server_power_w * direct.step_time_s, rel=1e-12)
    assert cost.steps == pytest.approx(2e10 / (64 * 4096))


def test_stages_add_up():
    changed = sequence_warmup.apply(JOB, share=0.3)
    divided = parts(changed)
    assert [part.sequence_length for _, part in divided] == [512, 1024, 2048, 4096]
    assert sum(share for share, _ in divided) == pytest.approx(1.0)
    counts = [share * 2e10 / (64 * part.sequence_length) for share, part in divided]
    energies = [estimate(part).energy_j_per_step for _, part in divided]
    cost = step_cost(changed)
    assert cost.steps == pytest.approx(sum(counts))
    assert cost.energy_j * cost.steps == pytest.approx(sum(n * e for n, e in zip(counts, energies, strict=True)))
    assert cost.energy_per_token_j * 2e10 == pytest.approx(cost.energy_j * cost.steps)


def test_one_division_of_the_training_at_a_time():
    with pytest.raises(SpecError, match="stages already"):
        layer_stacking.apply(sequence_warmup.apply(JOB, share=0.1), growth=2)


def test_choices_compose_over_stages():
    both = activation.apply(layer_stacking.apply(JOB, growth=2), function="relu")
    assert [model(part.model).blocks[0].ffn.activation for _, part in parts(both)] == ["relu", "relu"]
    assert [model(part.model).num_layers for _, part in parts(both)] == [8, 16]


def test_pruning_is_dense_at_first():
    dense, narrow = (part.model.blocks[0].ffn.intermediate_size for _, part in parts(pruning.apply(JOB, fraction=0.5)))
    assert (dense, narrow) == (8192, 4096)


@pytest.mark.parametrize("function", ["relu", "gelu", "squared_relu", "geglu", "silu"])
def test_an_activation_keeps_the_parameters(function):
    before = parameter_count(model(JOB.model)).total
    changed = activation.apply(JOB, function=function)
    assert parameter_count(changed.model).total == pytest.approx(before, rel=2e-3)
    back = activation.apply(changed, function="swiglu")
    assert back.model.blocks[0].ffn == DenseFfn(intermediate_size=8192, activation="swiglu")


def test_muon_has_the_published_ends():
    effect = optimizer.steps(JOB, optimizer.apply(JOB, name="muon"))
    assert (effect.low, effect.high) == (0.52, 1.0)
    back = optimizer.steps(optimizer.apply(JOB, name="muon"), JOB)
    assert back.median == pytest.approx(1.0 / effect.median)
    assert (back.low, back.high) == pytest.approx((1.0, 1.0 / 0.52))


def test_no_figure_is_made_up_where_none_is_published():
    effect = optimizer.steps(JOB, optimizer.apply(JOB, name="sgd"))
    assert (effect.low, effect.median, effect.high) == (1.0, None, None)


def test_aliases_are_the_same_optimizer():
    aliased = TrainingJob("llama-3.2-1b", "h100_sxm", optimizer="AdamW")
    assert optimizer.apply(aliased, name="adam") is aliased


def test_lower_precision_needs_more_tokens():
    medians = [precision.steps(JOB, precision.apply(JOB, format=name)).median for name in ("bf16", "fp8", "mxfp8", "nvfp4", "mxfp4")]
    assert medians == sorted(medians)
    assert medians[4] == pytest.approx(1.36 * medians[3])
    assert "MMLU-Pro" in precision.quality(JOB, precision.apply(JOB, format="nvfp4"))
    with pytest.raises(SpecError, match="16-bit training only"):
        precision.steps(precision.apply(JOB, format="fp8"), JOB)


def test_adapters_do_not_hold_a_pretraining_corpus():
    changed = adapters.apply(JOB, rank=16)
    assert adapters.steps(JOB, changed).median == math.inf
    small = TrainingJob("llama-3.2-1b", "h100_sxm", num_accelerators=8, global_batch_size=64, tokens=1e6)
    assert adapters.steps(small, adapters.apply(small, rank=16)).median == 1.0


def test_the_parameters_of_adapters_are_counted():
    # 16 layers: qkv (2048 -> 2048 + 2 * 512) and output (2048 -> 2048), rank * (in + out) each
    assert adapters.adapter_parameters(adapters.apply(JOB, rank=16)) == pytest.approx(16 * 16 * ((2048 + 3072) + (2048 + 2048)))


def test_a_batch_must_be_whole():
    odd = TrainingJob("llama-3.2-1b", "h100_sxm", global_batch_size=6)
    with pytest.raises(SpecError, match="no whole number of sequences"):
        batch_size.apply(odd, scale=0.25)


@pytest.mark.parametrize("changes", [{"tokens": 0.0}, {"tokens": -1.0}, {"global_batch_size": [1, 2]}])
def test_malformed_jobs(changes):
    with pytest.raises(SpecError, match="must be a number above 0"):
        TrainingJob(**{"model": "llama-3.2-1b", "accelerator": "h100_sxm", **changes})
