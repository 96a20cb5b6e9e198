"""Number formats: bytes per weight with its scales, what the arithmetic runs in, what must be converted first."""

import dataclasses
from collections.abc import Collection
from typing import Final

from effsim.catalog import suggest
from effsim.errors import SpecError, shown


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """A number format as used on one device.

    Args:
        name: ``bf16``, ``fp8`` ...
        weight_bytes: Per weight, block scales included [bytes].
        activation_bytes: Per activation that a matrix product reads [bytes].
        compute: Dtype of the units that multiply.
        dequantize_flop: Vector operations to turn one stored weight into an operand [FLOP]; 0 where the units take it as it is.
    """

    name: str
    weight_bytes: float
    activation_bytes: float
    compute: str
    dequantize_flop: float = 0.0

    @property
    def is_quantized(self) -> bool:
        """Whether weights are stored in fewer than 16 bits."""
        return self.weight_bytes < 2.0  # noqa: PLR2004 -- bytes of a 16-bit number


_DEQUANTIZE_FLOP: Final = 2.0  # unpack and scale, fused with the load; as counted in the Marlin kernel (arXiv:2408.11743)

_FORMATS: Final = {
    "fp32": Format("fp32", 4.0, 4.0, "fp32"),
    "tf32": Format("tf32", 4.0, 4.0, "tf32"),
    "bf16": Format("bf16", 2.0, 2.0, "bf16"),
    "fp16": Format("fp16", 2.0, 2.0, "fp16"),
    "fp8": Format("fp8", 1.0 + 4.0 / 128**2, 1.0 + 4.0 / 128, "fp8"),  # DeepSeek-style blocks: fp32 scale per 128x128, per 128 activations
    "int8": Format("int8", 1.0 + 4.0 / 4096, 1.0, "int8"),  # scale per output channel of about 4,096
    "int4": Format("int4", 0.5 + 2.5 / 128, 2.0, "bf16", _DEQUANTIZE_FLOP),  # GPTQ/AWQ: fp16 scale and 4-bit zero per group of 128
    "mxfp8": Format("mxfp8", 1.0 + 1.0 / 32, 1.0 + 1.0 / 32, "fp8"),  # OCP MX v1.0: one 8-bit scale per 32
    "mxfp4": Format("mxfp4", 0.5 + 1.0 / 32, 0.5 + 1.0 / 32, "fp4"),  # OCP MX v1.0: one 8-bit scale per 32
    "nvfp4": Format("nvfp4", 0.5 + 1.0 / 16, 0.5 + 1.0 / 16, "fp4"),  # one fp8 scale per 16
    # GGUF files (llama.cpp, ggml-common.h and llama-quant.cpp): an fp16 scale per block of 32; q4_k_m keeps half of the value and down
    # projections, about 15 % of a layer, in q6_k (210 bytes per 256) and the rest in q4_k (144 bytes per 256).
    "q8_0": Format("q8_0", 34.0 / 32, 2.0, "bf16", _DEQUANTIZE_FLOP),
    "q6_k": Format("q6_k", 210.0 / 256, 2.0, "bf16", _DEQUANTIZE_FLOP),
    "q4_k_m": Format("q4_k_m", (0.85 * 144.0 + 0.15 * 210.0) / 256, 2.0, "bf16", _DEQUANTIZE_FLOP),
    "q4_0": Format("q4_0", 18.0 / 32, 2.0, "bf16", _DEQUANTIZE_FLOP),
}
_HEAD_OF: Final = {"q8_0": "q8_0", "q6_k": "q6_k", "q4_k_m": "q6_k", "q4_0": "q6_k"}
"""GGUF files quantise embedding and head too, the head in at least q6_k."""
PRECISIONS: Final = tuple(_FORMATS)
_ALIASES: Final = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "fp4": "nvfp4", "float8": "fp8", "w4a16": "int4", "w8a8": "int8"}


def normalize(name: str) -> str:
    """Return the canonical name of a precision.

    Raises:
        SpecError: Unknown, or no name; the message has the nearest names.
    """
    if not isinstance(name, str):
        raise SpecError(f"precision: expected a name, got {shown(name)}; allowed: {', '.join(PRECISIONS)}")
    key = name.strip().lower()
    key = _ALIASES.get(key, key)
    if key not in _FORMATS:
        raise SpecError(f"precision: unknown {name!r}; {suggest(name, PRECISIONS)}allowed: {', '.join(PRECISIONS)}")
    return key


def format_on(name: str, dtypes: Collection[str]) -> Format:
    """Return a format as a device with these arithmetic dtypes runs it.

    Where the units cannot take a low-precision operand, weights stay small in memory and are converted on the fly: fp8 on
    A100, mxfp4 on H100. Source: vLLM's Marlin paths for the same pairs (docs, 2025-10).

    >>> format_on("fp8", {"bf16", "fp32"}).compute, format_on("fp8", {"bf16", "fp8"}).compute
    ('bf16', 'fp8')
    """
    chosen = _FORMATS[normalize(name)]
    if chosen.compute in dtypes or not chosen.is_quantized:
        return chosen
    sixteen = "bf16" if "bf16" in dtypes else "fp16"
    return dataclasses.replace(chosen, compute=sixteen, activation_bytes=2.0, dequantize_flop=_DEQUANTIZE_FLOP)


SPARSITIES: Final = ("none", "unstructured", "2:4")
_MASK_BYTES: Final = 1.0 / 8.0  # two bits for each of the two weights kept of four


def sparse_format(fmt: Format, sparsity: str, dtypes: Collection[str]) -> Format:
    """Return a format with weight sparsity.

    Unstructured zeros change nothing: dense units multiply them and dense kernels load them. 2:4 halves the stored values, adds a
    mask of one bit a weight, and runs on the sparse units, whose dtype carries the suffix ``:2:4``. (Structured pruning changes
    shapes: see :mod:`effsim.workload.pruning`.) Source: Mishra et al., Accelerating Sparse Deep Neural Networks, arXiv:2104.08378.

    Raises:
        SpecError: An unknown sparsity, or a device without sparse units for the dtype.

    >>> sparse_format(format_on("bf16", {"bf16", "bf16:2:4"}), "2:4", {"bf16", "bf16:2:4"}).weight_bytes
    1.125
    """
    if sparsity not in SPARSITIES:
        raise SpecError(f"sparsity: unknown {sparsity!r}; {suggest(str(sparsity), SPARSITIES)}allowed: {', '.join(SPARSITIES)}")
    if sparsity != "2:4":
        return fmt
    dtype = f"{fmt.compute}:2:4"
    if dtype not in dtypes or fmt.dequantize_flop:
        raise SpecError(f"sparsity: the device has no 2:4 units for {fmt.compute}; dense kernels gain nothing from zeros")
    return dataclasses.replace(fmt, weight_bytes=0.5 * fmt.weight_bytes + _MASK_BYTES, compute=dtype)


def base_format(name: str) -> Format:
    """Return the format of what a quantised variant leaves alone (embedding, head, router, norms): bf16, or the precision itself.

    In a GGUF file that is the format of the head.

    >>> base_format("fp8").name, base_format("fp32").name, base_format("q4_0").name
    ('bf16', 'fp32', 'q6_k')
    """
    chosen = _FORMATS[normalize(name)]
    return _FORMATS[_HEAD_OF.get(chosen.name, "bf16")] if chosen.is_quantized else chosen


def cache_precision(name: str) -> str:
    """Return the precision of the KV cache where none is asked for: 16 bits, or the precision itself where it is wider.

    >>> cache_precision("fp8"), cache_precision("q4_0"), cache_precision("fp32")
    ('bf16', 'bf16', 'fp32')
    """
    chosen = _FORMATS[normalize(name)]
    return "bf16" if chosen.is_quantized else chosen.name


def kv_bytes(name: str) -> float:
    """Return the bytes of one number in the KV cache.

    >>> kv_bytes("fp8"), kv_bytes("bf16")
    (1.0, 2.0)
    """
    own = {"fp8": 1.0, "mxfp8": 1.0, "int8": 1.0, "int4": 0.5, "mxfp4": 0.5, "nvfp4": 0.5}  # scales apart: one per tensor, or not worth counting
    return own.get(normalize(name), _FORMATS[normalize(name)].weight_bytes)
