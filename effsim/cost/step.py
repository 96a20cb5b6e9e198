"""The cost of one iteration as plain floats, for event loops: tables built once, a few multiplications after that.

Operations add up, and each depends on few features. Those that depend on one count (tokens, sampled rows, decoding sequences,
prefill tokens) become lists indexed by it, from one array pass; attention stays a closed form of its sums. The result equals
:func:`effsim.cost.evaluate.evaluate` on the same iteration.
"""

import math
from collections.abc import Sequence
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from effsim.cost.deployment import Deployment, Settings, deploy
from effsim.cost.device import MIN_CLOCK
from effsim.cost.evaluate import CostTable, operation_costs
from effsim.cost.kernels import TINY, launched, overlap, throttle_one
from effsim.cost.kv_capacity import cache_unit_bytes, kv_capacity_tokens
from effsim.cost.serving import estimate_load
from effsim.results import Provenance
from effsim.workload.features import Feature, distinct_experts
from effsim.workload.operations import Array, Parallelism

TYPICAL_BATCH, TYPICAL_PROMPT, TYPICAL_OUTPUT = 32.0, 1024.0, 256.0
_INDEX = {"tokens": 0, "distinct_experts": 0, "logit_rows": 1, "decode_seqs": 2, "prefill_tokens": 3}
Row = tuple[float, float, float, float, float]
Plain = tuple[float, float, float, float, float, float, float, float, float, float]
"""An attention kernel's time per pair, per sequence or token, its traffic's per sequence or token, key and pair [s]; fixed [s]; times; J; W; W."""


class _Attention(NamedTuple):
    """One attention kernel: coefficients of sequences-or-tokens and of its pairs and keys; times count already multiplied in."""

    pairs: Feature
    keys: Feature
    compute_s: float
    memory_s: tuple[float, float, float]
    fixed_s: float
    times: float
    core_j: float
    memory_w: float
    decode: bool
    item_s: float
    busy_w: float


class ServingStep:
    """Step costs of one replica; see :func:`serving_step_model`.

    Attributes:
        num_accelerators: Of the replica.
        kv_capacity_tokens: Tokens that the KV cache holds.
        cache_bytes: Left for it on each device [bytes]; ``weights_bytes`` are taken, ``cache_unit_bytes`` one token takes.
        data_parallel: Copies of the attention.
        longest_window: Tokens that the widest attention window keeps; 0: no layer has one; infinite: some layer attends in chunks.
        windowed_cache: Some layer's cache drops what has left its window.
        idle_power_w: Of all accelerators when nothing runs [W].
        time_log_sd: Doubt about times, as the standard deviation of the logarithm.
        power_log_sd: Likewise about power.
    """

    __slots__ = (
        "_asynchronous", "_attention", "_cache", "_captured", "_chunked_s", "_clock", "_decode_sums", "_device_w", "_eager_s", "_floor", "_host_s",
        "_lists", "_pair", "_prefill_sums", "_queries", "_ranks", "_scale", "_softness", "_stages", "cache_bytes", "cache_unit_bytes", "data_parallel",
        "idle_power_w", "kv_capacity_tokens", "longest_window", "num_accelerators", "power_log_sd", "provenance", "time_log_sd", "weights_bytes",
        "windowed_cache",
    )  # fmt: skip

    def __init__(self, deployment: Deployment, sizes: tuple[int, int], factors: tuple[float, float], queries: int = 1) -> None:
        """Build the tables for up to ``sizes`` = (tokens, sequences) per iteration, in which each decoding sequence has so many ``queries``."""
        costs = deployment.costs(deployment.prior.median)
        device, engine, c = costs.device, deployment.engine, deployment.prior.median
        self._queries = queries
        self._lists, self._attention = _tables(costs, sizes if queries == 1 else (sizes[0] + sizes[1] * queries, sizes[1] * queries))
        self._decode_sums = tuple({a.keys for a in self._attention if a.keys.kind == "decode_keys"})
        self.windowed_cache = any(layer.max_tokens for layer in deployment.table.cache)
        self.longest_window: float = max((math.inf if f.chunk else float(f.window) for f in self._decode_sums), default=0.0)
        self._prefill_sums = tuple({f for a in self._attention if a.keys.kind == "prefill_keys" for f in (a.pairs, a.keys)})
        self._softness, self._floor = c.overlap_softness, c.voltage_floor
        self._device_w, self._clock = (device.idle_w, device.static_w, device.limit_w), device.clock
        self._host_s = (engine.iteration_overhead.value * c.host_overhead_factor, engine.sequence_overhead.value * c.sequence_overhead_factor)
        self._asynchronous, self._chunked_s = engine.async_scheduling, costs.chunked_s
        self._eager_s = 0.0 if engine.max_captured_tokens is None else costs.eager_s
        self._captured: float = math.inf if engine.max_captured_tokens is None else engine.max_captured_tokens
        self._cache, self.cache_unit_bytes = deployment.table.cache, cache_unit_bytes(deployment.table.cache)
        self.data_parallel = deployment.parallelism.data
        self._stages, self._ranks = deployment.parallelism.pipeline, float(deployment.parallelism.accelerators)
        self._scale = factors
        self._pair = _plain_pair(self._attention) if self._stages == self.data_parallel == 1 else None
        self.num_accelerators = deployment.parallelism.accelerators
        self.kv_capacity_tokens = kv_capacity_tokens(deployment)
        memory = deployment.serving_memory()
        self.cache_bytes, self.weights_bytes = memory.cache_bytes, memory.weights_bytes
        self.idle_power_w = self._ranks * device.idle_w * factors[1]
        self.time_log_sd, self.power_log_sd = 0.0, 0.0
        self.provenance: Provenance = deployment.prior.provenance

    def step(self, decode_contexts: Sequence[float], chunks: Sequence[tuple[int, int]]) -> Row:
        """Return time [s] and the static, core, memory and link energy [J] of one iteration, all accelerators of the replica.

        Data-parallel ranks run in lockstep on even shares of the sequences.

        Args:
            decode_contexts: Per decoding sequence, the keys that its new token reads (itself included).
            chunks: Per prompt chunk, (new tokens, tokens already cached).
        """
        if self._pair is not None:
            return self._plain(self._pair, len(decode_contexts), float(sum(decode_contexts)), chunks)
        sums: dict[Feature, float] = {}
        if decode_contexts:
            for feature in self._decode_sums:
                sums[feature] = _decode_keys(feature, decode_contexts)
        return self._cost(len(decode_contexts), sums, chunks)

    def step_at(self, decoding: int, keys: float, chunks: Sequence[tuple[int, int]]) -> Row:
        """Return what :meth:`step` returns where every decoding sequence is longer than :attr:`longest_window`.

        Args:
            decoding: Decoding sequences.
            keys: That they read in layers without a window, their new tokens included, summed.
            chunks: As in :meth:`step`.
        """
        if self._pair is not None:
            return self._plain(self._pair, decoding, keys, chunks)
        sums: dict[Feature, float] = {f: float(decoding * f.window) if f.window else keys for f in self._decode_sums} if decoding else {}
        return self._cost(decoding, sums, chunks)

    def _cost(self, decoding: int, sums: dict[Feature, float], chunks: Sequence[tuple[int, int]]) -> Row:
        """Return the cost of an iteration whose decoding sequences read ``sums``."""
        prefill = 0
        for new, _ in chunks:
            prefill += new
        seqs, queries = decoding + len(chunks), decoding * self._queries
        micro = min(self._stages, seqs) if self._stages > 1 else 1
        parts = micro * self.data_parallel
        counts = (queries + prefill, queries + len(chunks), queries, prefill)
        time_s = core_s = core_j = memory_j = link_j = 0.0
        for values, count in zip(self._lists, counts, strict=True):
            if values and count:
                row = values[count if parts == 1 else -(-count // parts)]
                time_s += row[0]
                core_s += row[1]
                core_j += row[2]
                memory_j += row[3]
                link_j += row[4]
        if chunks:
            for feature in self._prefill_sums:
                sums[feature] = sum([_prefill_keys(feature, new, before) for new, before in chunks])
        for kernel in self._attention:
            if kernel.keys not in sums:
                continue
            a, pairs, keys = (queries if kernel.decode else prefill) / parts, sums[kernel.pairs] / parts, sums[kernel.keys] / parts
            pairs *= self._queries if kernel.decode else 1
            compute_s = kernel.compute_s * pairs + kernel.item_s * a
            traffic_s = kernel.memory_s[0] * a + kernel.memory_s[1] * keys + kernel.memory_s[2] * pairs
            busy_s, bound_s = overlap(compute_s, traffic_s, self._softness)
            time_s += kernel.times * busy_s + kernel.fixed_s
            core_s += kernel.times * bound_s
            core_j += kernel.core_j * pairs + kernel.busy_w * kernel.times * busy_s
            memory_j += kernel.memory_w * traffic_s
        if prefill or queries > self._captured * parts:
            time_s = launched(time_s, self._eager_s)
        time_s += self._chunked_s
        host_s = self._host_s[0] + self._host_s[1] * seqs / self.data_parallel
        time_s = max(time_s, host_s) if self._asynchronous else time_s + host_s
        return self._powered((time_s, core_s, core_j, memory_j, link_j), micro / self._stages)

    def _plain(self, pair: tuple[Plain, Plain], decoding: int, keys: float, chunks: Sequence[tuple[int, int]]) -> Row:
        """Return what :meth:`_cost` returns for one rank or stage group and attention of one kind over all tokens, written out."""
        prefill = twice_pairs = read = 0
        for new, before in chunks:
            end = before + new
            prefill += new
            twice_pairs += new * (before + end + 1)
            read += end
        count, prompts = decoding * self._queries, len(chunks)
        time_s, core_s, core_j, memory_j, link_j = self._lists[0][count + prefill]
        for values, here in ((self._lists[1], count + prompts), (self._lists[2], count), (self._lists[3], prefill)):
            if values and here:
                row = values[here]
                time_s += row[0]
                core_s += row[1]
                core_j += row[2]
                memory_j += row[3]
                link_j += row[4]
        launches = prefill or count > self._captured
        softness, pairs, kept = 4.0 * self._softness, keys * self._queries, keys
        for pair_s, item_s, count_s, key_s, more_s, fixed_s, times, pair_j, busy_w, memory_w in pair:
            if count:
                compute_s = pair_s * pairs + item_s * count
                traffic_s = count_s * count + key_s * kept + more_s * pairs
                difference_s, both_s = compute_s - traffic_s, softness * traffic_s  # as in kernels.overlap
                root_s = sqrt(difference_s * difference_s + both_s * compute_s)
                busy_s = 0.5 * times * (compute_s + traffic_s + root_s)
                time_s += busy_s + fixed_s
                core_s += 0.5 * times * compute_s * (1.0 + (difference_s + 0.5 * both_s) / (root_s + TINY))
                core_j += pair_j * pairs + busy_w * busy_s
                memory_j += memory_w * traffic_s
            pairs, kept, count = 0.5 * twice_pairs, read, prefill
        if launches:
            time_s = launched(time_s, self._eager_s)
        host_s = self._host_s[0] + self._host_s[1] * (decoding + prompts)
        time_s = max(time_s, host_s) if self._asynchronous else time_s + host_s
        return self._powered((time_s, core_s, core_j, memory_j, link_j), 1.0)

    def without_host(self) -> "ServingStep":
        """Return this model with iterations that wait for no host, as those of a draft within an iteration of another model."""
        self._host_s = (0.0, 0.0)
        return self

    def cached_tokens(self, tokens: int) -> int:
        """Return how much of ``kv_capacity_tokens`` a sequence of so many tokens takes: windowed layers and states take less or more."""
        if len(self._cache) == 1 and not self._cache[0].max_tokens and not self._cache[0].bytes_per_sequence:
            return tokens
        total = 0.0
        for layer in self._cache:
            kept = min(tokens, layer.max_tokens) if layer.max_tokens else tokens
            total += layer.bytes_per_token * kept + layer.bytes_per_sequence
        return math.ceil(total / self.cache_unit_bytes)

    def _powered(self, parts: Row, share: float) -> Row:
        time_s, core_s, core_j, memory_j, link_j = parts
        other_j = (memory_j + link_j) * share
        _, static_w, limit_w = self._device_w
        if self._clock == 1.0 and static_w * time_s + core_j * share + other_j <= limit_w * time_s:  # the usual case of throttle_one
            seconds, static_j, core = time_s, static_w * time_s, core_j * share
        else:
            seconds, static_j, core = throttle_one((time_s, core_s, core_j * share, other_j), self._device_w, self._floor, MIN_CLOCK, self._clock)
        slow, scale = self._scale[0], self._scale[0] * self._scale[1] * self._ranks
        return seconds * slow, static_j * scale, core * scale, memory_j * share * scale, link_j * share * scale


def _plain_pair(kernels: tuple[_Attention, ...]) -> tuple[Plain, Plain] | None:
    """Return the one decode and the one prefill kernel of a model whose layers all attend to all earlier tokens; else None."""
    found = sorted(kernels, key=lambda kernel: not kernel.decode)
    if [kernel.decode for kernel in found] != [True, False]:
        return None
    if any(f.window or f.chunk for kernel in found for f in (kernel.pairs, kernel.keys)) or not found[1].pairs.causal:
        return None
    decode, prefill = [(k.compute_s, k.item_s, *k.memory_s, k.fixed_s, k.times, k.core_j, k.busy_w, k.memory_w) for k in found]
    return decode, prefill


def _decode_keys(feature: Feature, contexts: Sequence[float]) -> float:
    if feature.window:
        window = feature.window
        return float(sum([c if c < window else window for c in contexts]))
    if feature.chunk:
        return float(sum([(c - 1) % feature.chunk + 1 for c in contexts]))
    return float(sum(contexts))


def _prefill_keys(feature: Feature, new: int, before: int) -> float:
    """The scalar twin of the prefill features, in integers."""
    end, window, chunk = before + new, feature.window, feature.chunk
    if feature.kind == "prefill_pairs":
        if not feature.causal:
            return float(new * end)
        return _keys_up_to(end, window, chunk) - _keys_up_to(before, window, chunk)
    cached = before % chunk if chunk else min(before, window) if window else before
    return float(new + cached)


def _keys_up_to(position: int, window: int, chunk: int) -> float:
    if chunk:
        full, rest = divmod(position, chunk)
        return full * (chunk * (chunk + 1) / 2) + rest * (rest + 1) / 2
    if not window or position <= window:
        return position * (position + 1) / 2
    return window * (window + 1) / 2 + float(position - window) * window


def _tables(costs: CostTable, sizes: tuple[int, int]) -> tuple[tuple[list[Row], ...], tuple[_Attention, ...]]:
    """Return, per count of :data:`_INDEX`, the summed cost of the operations that depend on it; and the attention kernels."""
    table = costs.table
    groups: tuple[list[int], ...] = ([], [], [], [])
    attention = []
    for row, op in enumerate(table.operations):
        used = {f for part in (op.flop, op.read, op.write, op.rows, op.groups, op.payload) for f in part if f.kind != "one"}
        places = {_INDEX[f.kind] for f in used if f.kind in _INDEX}
        if any(f.kind in {"decode_keys", "prefill_keys", "prefill_pairs"} for f in used):
            attention.append(_attention(costs, row))
        elif len(places) == 1:
            groups[places.pop()].append(row)
        else:
            raise ValueError(f"{op.name}: depends on {sorted(f.kind for f in used)}; a table takes one count")
    most = (sizes[0], sizes[1], sizes[1], sizes[0])
    return tuple(_list(costs, rows, index, size) for index, (rows, size) in enumerate(zip(groups, most, strict=True))), tuple(attention)


def _list(costs: CostTable, rows: list[int], index: int, size: int) -> list[Row]:
    if not rows:
        return []
    count = np.arange(size + 1, dtype=float)
    features = np.stack([_single_count(feature, index, count) for feature in costs.table.features])
    each = operation_costs(costs, features)
    times = costs.count[rows, None]
    first = len(costs.count) - costs.table.num_collectives
    links = [r - first for r in rows if r >= first]
    energy_j = np.stack(
        [
            costs.core_j_per_operation[rows].sum(axis=0) @ features + costs.busy_w[rows] @ each.moving_s[rows],
            costs.memory_w[rows] @ each.memory_s[rows],
            costs.link_j_per_collective[links].sum(axis=0) @ features,
        ]
    )
    columns = np.stack([(times * each.time_s[rows]).sum(axis=0), (times * each.core_s[rows]).sum(axis=0), *energy_j])
    columns[:, 0] = 0.0
    listed: list[Row] = [(row[0], row[1], row[2], row[3], row[4]) for row in columns.T.tolist()]
    return listed


def _single_count(feature: Feature, index: int, count: Array) -> Array:
    if feature.kind == "one":
        return np.ones_like(count)
    if feature.kind == "distinct_experts" and index == 0:
        values: Array = distinct_experts(count * feature.spread, feature.experts, feature.top_k, feature.local)
        return values
    return count if _INDEX.get(feature.kind) == index else np.zeros_like(count)


def _attention(costs: CostTable, row: int) -> _Attention:
    """Return one attention kernel's coefficients as floats."""
    table = costs.table
    place = {f.kind: i for i, f in enumerate(table.features) if table.flop[row, i] or table.read[row, i] or table.write[row, i]}
    op = table.operations[row]
    decode = "decode_keys" in place
    base, keys, pairs = ("decode_seqs", "decode_keys", "decode_keys") if decode else ("prefill_tokens", "prefill_keys", "prefill_pairs")

    def memory(kind: str) -> float:
        return float(costs.memory_s[row, place[kind]]) if kind in place else 0.0

    return _Attention(
        pairs=table.features[place[pairs]],
        keys=table.features[place[keys]],
        compute_s=float(costs.compute_s[row, place[pairs]]),
        memory_s=(memory(base), memory(keys), 0.0 if decode else memory(pairs)),
        fixed_s=float(costs.fixed_s[row, 0]) * op.count,
        times=op.count,
        core_j=float(costs.core_j_per_operation[row, place[pairs]]),
        memory_w=float(costs.memory_w[row]),
        decode=decode,
        item_s=float(costs.compute_s[row, place["decode_seqs"]]) if decode and "decode_seqs" in place else 0.0,
        busy_w=float(costs.busy_w[row]) / op.count,
    )


def serving_step_model(
    model: Any,
    accelerator: Any,
    parallelism: Parallelism,
    *,
    max_num_batched_tokens: int = 8192,
    max_num_seqs: int = 1024,
    time_factor: float = 1.0,
    power_factor: float = 1.0,
    typical: tuple[float, float, float] = (TYPICAL_BATCH, TYPICAL_PROMPT, TYPICAL_OUTPUT),
    **settings: Any,
) -> ServingStep:
    """Return the step costs of a replica for a simulator.

    Args:
        model: As :func:`effsim.model` takes it.
        accelerator: As :func:`effsim.accelerator` takes it.
        parallelism: Ranks.
        max_num_batched_tokens: Most tokens of an iteration.
        max_num_seqs: Most sequences of an iteration.
        time_factor: Multiplies every time, for a slow or fast case within the interval.
        power_factor: Multiplies every power, likewise.
        typical: Batch, prompt and output tokens at which the doubt about time and power is evaluated.
        **settings: precision, kv_precision, engine, node, network, power_limit_w, memory_utilization, calibration: see
            :class:`~effsim.cost.deployment.Settings`; and ``queries``, the tokens of each decoding sequence in an iteration, 1 unless drafts are
            checked.

    Raises:
        SpecError: A name or setting is wrong.
        InfeasibleError: The weights do not fit, or no cache is left.
    """
    queries = int(settings.pop("queries", 1))
    deployment = deploy(model, accelerator, parallelism, Settings(**settings))
    step = ServingStep(deployment, (max_num_batched_tokens, max_num_seqs), (time_factor, power_factor), queries)
    taken = step.cached_tokens(round(typical[1] + typical[2]))
    batch = max(1.0, min(typical[0], step.kv_capacity_tokens / taken / parallelism.data))
    doubt = estimate_load(deployment, batch, typical[1], max(typical[2], 1.0), float(max_num_batched_tokens))
    step.time_log_sd, step.power_log_sd = float(doubt.relative_sd("tpot_s")), float(doubt.relative_sd("power_w"))
    return step
