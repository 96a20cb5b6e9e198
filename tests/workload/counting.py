"""What the tests of the lowering share: a table by model name, and sums over the operations that run."""

import numpy as np

from effsim.specs.models import model
from effsim.workload.features import ONE, Iteration, feature_matrix
from effsim.workload.lowering import Numerics, lower
from effsim.workload.operations import Parallelism

ALL_DTYPES = frozenset({"fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4"})


def table_of(name, parallelism=None, precision="bf16", kv_precision="bf16", phase="serve", **settings):
    spec = model(name) if isinstance(name, str) else name
    return lower(spec, parallelism or Parallelism(), Numerics(precision, kv_precision, ALL_DTYPES, **settings), phase)


def amount(table, part, iteration, names=None, kinds=None):
    """Sum of ``flop``, ``read``, ``write`` or ``payload`` over the operations that have work in an iteration, by name prefix or kind."""
    features = feature_matrix(table.features, iteration)
    runs = ((table.flop + table.payload) @ features)[:, 0] > 0.0
    values = table.count * (getattr(table, part) @ features)[:, 0] * runs
    chosen = [(names is None or op.name.startswith(names)) and (kinds is None or op.kind in kinds) for op in table.operations]
    return float(values[np.array(chosen)].sum())


def weights_read(table, iteration, names=None):
    """Bytes of weights that the products of an iteration read: their constant part, and what the touched experts hold."""
    features = feature_matrix(table.features, iteration)
    held = np.array([float(f == ONE or f.kind == "distinct_experts") for f in table.features])[:, None]
    runs = (table.flop @ features)[:, 0] > 0.0
    read = table.count * (table.read @ (features * held))[:, 0] * runs
    products = [op.kind in {"gemm", "grouped_gemm"} and (names is None or op.name.startswith(names)) for op in table.operations]
    return float(read[np.array(products)].sum())


def prefill(tokens, before=0, seqs=1):
    return Iteration(prefill_seqs=seqs, prefill_tokens=tokens, prefill_before=before, completed_prefills=seqs)


def decode(batch, context):
    """``batch`` sequences, each of whose new tokens reads ``context`` keys, itself included."""
    return Iteration(decode_seqs=batch, decode_from=context, decode_to=context)
