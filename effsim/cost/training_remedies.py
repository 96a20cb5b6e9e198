"""What would make a training configuration fit: each knob is tried, and named only where the memory then fits."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from effsim.cost.recipe import Batch
from effsim.cost.training_memory import PARTS, TrainingMemory, training_memory
from effsim.cost.training_step import Step, training_step
from effsim.errors import InfeasibleError, SpecError
from effsim.specs.model import Transformer
from effsim.units import BYTES_PER_GIB
from effsim.workload.lowering import check_split, lower
from effsim.workload.operations import Parallelism

Changes = Mapping[str, Any]
"""Arguments of ``estimate_training`` with the values to give them."""


def require_fit(step: Step, batch: Batch, memory: TrainingMemory) -> None:
    """Check that a training configuration fits.

    Args:
        step: The configuration.
        batch: A single batch.
        memory: What :func:`~effsim.cost.training_memory.training_memory` says of it.

    Raises:
        InfeasibleError: It does not; the message has the parts, and the knobs that make it fit with the memory that is then needed.
    """
    if bool(np.all(memory.fits)):
        return
    parts = {label: np.asarray(getattr(memory, f"{label}_bytes")).item() / BYTES_PER_GIB for label in PARTS}
    listed = ", ".join(f"{label} {size:.1f}" for label, size in parts.items())
    needed, there = sum(parts.values()), memory.device_bytes / BYTES_PER_GIB
    name, device = step.deployment.model.name, step.deployment.accelerator.name
    found = remedies(step, batch)
    message = f"training {name} does not fit on {device}: {needed:.1f} GiB needed ({listed} GiB), {there:.1f} GiB there: {needed - there:.1f} GiB short."
    if not found:
        closest = _closest(step, batch)
        message += f" No single knob and no two of them make it fit{closest}; more than two are needed, or an accelerator with more memory."
    raise InfeasibleError(message, "accelerator memory", tuple(f"{shown(changes)} ({size / BYTES_PER_GIB:.1f} GiB)" for changes, size in found))


def shown(changes: Changes) -> str:
    """Return changes as a person would type them.

    >>> shown({"zero_stage": 1, "recompute": "full"})
    'zero_stage=1 and recompute=full'
    """
    return " and ".join(f"{name}={value}" for name, value in changes.items())


def remedies(step: Step, batch: Batch) -> tuple[tuple[Changes, float], ...]:
    """Return the knobs that each make a configuration fit, with the memory that it then needs [bytes]; cheapest in time first.

    Where none does alone, the pair that needs least; nothing where no pair does.
    """
    single = [(changes, size) for changes in knobs(step, batch) if (size := _fitting(step, batch, changes)) is not None]
    if single:
        return tuple(_one_of_each(single))
    pairs = [(changes, size) for changes in _pairs(step, batch) if (size := _fitting(step, batch, changes)) is not None]
    return (min(pairs, key=lambda found: found[1]),) if pairs else ()


def _one_of_each(found: list[tuple[Changes, float]]) -> Iterator[tuple[Changes, float]]:
    """Yield the mildest fitting value of each knob."""
    seen = set()
    for changes, size in found:
        name = next(iter(changes))
        if name not in seen:
            seen.add(name)
            yield changes, size


def knobs(step: Step, batch: Batch) -> Iterator[Changes]:
    """Yield single changes that a configuration leaves open, milder values of a knob before stronger ones."""
    p, recipe = step.deployment.parallelism, step.recipe
    ranks = p.data * p.context
    if p.tensor > 1 and not p.sequence:
        yield {"sequence_parallel": True}
    if ranks > 1:
        yield from ({"zero_stage": stage} for stage in (1, 2, 3) if stage > recipe.zero_stage)
    if float(batch.micro_batch_size[0]) > 1.0:
        yield {"micro_batch_size": 1}
    if p.data % 2 == 0:
        yield {"tensor_parallel": 2, "sequence_parallel": True} if p.tensor == 1 else {"tensor_parallel": 2 * p.tensor}
        yield {"pipeline_parallel": 2 * p.pipeline}
        yield {"context_parallel": 2 * p.context}
    if recipe.recompute != "full":
        yield {"recompute": "full"}
    if step.gradient_bytes > 2.0:  # noqa: PLR2004 -- bytes of bf16
        yield {"gradient_bytes": 2}
    if step.deployment.accelerator.host_link is not None:
        yield from ({name: 1.0} for name in ("offload_activations", "offload_optimizer") if getattr(recipe, name) < 1.0)
    yield from ({"num_accelerators": times * p.accelerators} for times in (2, 4, 8))


def _pairs(step: Step, batch: Batch) -> Iterator[Changes]:
    for one, other in itertools.combinations(list(knobs(step, batch)), 2):
        if not one.keys() & other.keys():
            yield {**one, **other}


def _closest(step: Step, batch: Batch) -> str:
    sizes = [(size, changes) for changes in _pairs(step, batch) if (size := _needed(step, batch, changes)) is not None]
    if not sizes:
        return ""
    size, changes = min(sizes, key=lambda found: found[0])
    return f" (closest: {shown(changes)}, {size / BYTES_PER_GIB:.1f} GiB)"


def _fitting(step: Step, batch: Batch, changes: Changes) -> float | None:
    size = _needed(step, batch, changes)
    return size if size is not None and size <= step.deployment.accelerator.memory.value else None


def _needed(step: Step, batch: Batch, changes: Changes) -> float | None:
    """Return the memory with changes made [bytes]; None where they cannot be made."""
    try:
        changed, load = _changed(step, batch, changes)
        return float(training_memory(changed, load).total_bytes[0])
    except SpecError:
        return None


def _changed(step: Step, batch: Batch, changes: Changes) -> tuple[Step, Batch]:
    """Return a configuration with changes made.

    Raises:
        SpecError: The sizes do not divide.
    """
    deployment, model = step.deployment, step.deployment.model
    fields = {name: value for name, value in changes.items() if name in _OF_RECIPE}
    recipe = dataclasses.replace(step.recipe, **fields)
    p = _split(deployment.parallelism, changes)
    batch = batch._replace(micro_batch_size=np.full(1, float(changes.get("micro_batch_size", batch.micro_batch_size[0]))))
    if float(batch.global_batch_size[0]) % (float(batch.micro_batch_size[0]) * p.data):
        raise SpecError("global_batch_size: no multiple of the micro-batches of all replicas")
    if isinstance(model, Transformer) and p.context > 1 and float(batch.sequence_length[0]) % p.context:
        raise SpecError("context_parallel: does not divide the sequence")
    if p != deployment.parallelism:
        check_split(model, p)
        lowered = dataclasses.replace(p, pipeline=1, data=1 if p.expert == 1 else p.data)
        deployment = dataclasses.replace(deployment, parallelism=p, table=lower(model, lowered, deployment.numerics, "train"))
    return training_step(deployment, recipe), batch


_OF_RECIPE = frozenset({"zero_stage", "recompute", "gradient_bytes", "offload_activations", "offload_optimizer"})


def _split(p: Parallelism, changes: Changes) -> Parallelism:
    """Return ranks with changes made; what tensor, pipeline and context take, the data-parallel ranks give.

    Raises:
        SpecError: They do not divide.
    """
    accelerators = changes.get("num_accelerators", p.accelerators)
    tensor, pipeline = changes.get("tensor_parallel", p.tensor), changes.get("pipeline_parallel", p.pipeline)
    context = changes.get("context_parallel", p.context)
    if accelerators % (tensor * pipeline * context):
        raise SpecError("num_accelerators: no multiple of the ranks of a replica")
    sequence = bool(changes.get("sequence_parallel", p.sequence)) and tensor > 1
    return Parallelism(tensor, pipeline, p.expert, accelerators // (tensor * pipeline * context), context, sequence)
