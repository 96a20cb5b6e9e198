"""Accelerators, and the CPU, through PyTorch: CUDA, ROCm (which PyTorch calls cuda) and MPS."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from effsim.bench.devices.base import Call, Device, Facts
from effsim.bench.machine import cpu_facts, mac_gpu_facts, module
from effsim.errors import SpecError

FLOATS: Final = {"fp64": "float64", "fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
CANDIDATES: Final = {
    "cpu": ("fp32", "bf16", "fp16", "int8"),
    "mps": ("fp32", "bf16", "fp16"),
    "cuda": ("fp32", "tf32", "bf16", "fp16", "fp8", "int8"),
    "rocm": ("fp32", "bf16", "fp16", "fp8", "int8"),
}
PROBE: Final = (64, 64, 64)
AMPERE: Final = 8  # compute capability from which NVIDIA's matrix units know TF32 (CUDA C++ Programming Guide)
RECORDING_WARM_UPS: Final = 3
MPS_SAMPLE_S: Final = 0.02  # a wait for the device takes tenths of a millisecond and is in each sample


class TorchDevice(Device):
    """A PyTorch device.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        seed: Of the random operands.

    Raises:
        SpecError: PyTorch does not see this device.
    """

    def __init__(self, name: str = "cuda", seed: int = 0) -> None:
        self.torch = module("torch")
        self.facts = _facts(self.torch, name)
        self.device = self.torch.device(self.facts.name)
        self.sample_s = MPS_SAMPLE_S if self.facts.kind == "mps" else self.sample_s
        if self.facts.kind in {"cuda", "rocm"}:
            self.torch.cuda.set_device(self.device)
        self.torch.manual_seed(seed)
        self.dtypes = tuple(dtype for dtype in CANDIDATES[self.facts.kind] if self._multiplies(dtype))

    def _multiplies(self, dtype: str) -> bool:
        if dtype == "tf32" and self.torch.cuda.get_device_capability(self.device)[0] < AMPERE:
            return False  # such a GPU multiplies in fp32 then, without a word
        try:
            self.gemm(PROBE, dtype)[0]()
            self.synchronize()
        except (RuntimeError, AttributeError, TypeError, ValueError, NotImplementedError):
            return False
        return True

    @property
    def _cuda(self) -> bool:
        return self.facts.kind in {"cuda", "rocm"}

    def synchronize(self) -> None:
        """Wait for the device."""
        if self._cuda:
            self.torch.cuda.synchronize(self.device)
        elif self.facts.kind == "mps":
            self.torch.mps.synchronize()

    def release(self) -> None:
        """Return cached memory to the device."""
        super().release()
        if self._cuda:
            self.torch.cuda.empty_cache()
        elif self.facts.kind == "mps":
            self.torch.mps.empty_cache()

    def seconds(self, run: Call, samples: int) -> list[float]:
        """Return the time of each run: between two events on the device where it has them, else around a wait [s]."""
        if self._cuda:
            marks = [(self._event(), self._event()) for _ in range(samples)]
            for start, end in marks:
                start.record()
                run()
                end.record()
            self.synchronize()
            return [start.elapsed_time(end) * 1e-3 for start, end in marks]
        found = []
        for _ in range(samples):
            self.synchronize()
            begin = time.perf_counter()
            run()
            self.synchronize()
            found.append(time.perf_counter() - begin)
        return found

    def _event(self) -> Any:
        return self.torch.cuda.Event(enable_timing=True)

    def recorded(self, run: Call, times: int) -> Call | None:
        """Return the replay of a CUDA graph of ``times`` runs; what cannot be recorded gives ``None``."""
        if not self._cuda:
            return None
        torch = self.torch
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(RECORDING_WARM_UPS):
                run()
        torch.cuda.current_stream(self.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                for _ in range(times):
                    run()
            graph.replay()
            self.synchronize()
        except RuntimeError:
            self.synchronize()
            return None
        replay: Call = graph.replay
        return replay

    def _type(self, dtype: str) -> Any:
        if dtype == "fp8":
            amd = self.facts.kind == "rocm" and "gfx94" in getattr(self.torch.cuda.get_device_properties(self.device), "gcnArchName", "")
            return self.torch.float8_e4m3fnuz if amd else self.torch.float8_e4m3fn
        return self.torch.int8 if dtype == "int8" else getattr(self.torch, FLOATS[dtype])

    def random(self, shape: Sequence[int], dtype: str) -> Any:
        """Return random numbers on the device."""
        if dtype == "int8":
            return self.torch.randint(-127, 128, tuple(shape), dtype=self.torch.int8, device=self.device)
        if dtype == "fp8":
            return self.torch.randn(tuple(shape), device=self.device, dtype=self.torch.bfloat16).to(self._type(dtype))
        return self.torch.randn(tuple(shape), device=self.device, dtype=self._type(dtype))

    def zeros(self, shape: Sequence[int], dtype: str) -> Any:
        """Return zeros on the device."""
        return self.torch.zeros(tuple(shape), device=self.device, dtype=self._type(dtype))

    def gemm(self, sizes: tuple[int, int, int], dtype: str) -> tuple[Call, str]:
        """Multiply; weights lie as (n, k), as models store them."""
        torch, (m, n, k) = self.torch, sizes
        left, right = self.random((m, k), dtype), self.random((n, k), dtype).t()
        if dtype == "int8":
            return lambda: torch._int_mm(left, right), "torch._int_mm"
        if dtype == "fp8":
            one = torch.ones((), device=self.device)
            return lambda: torch._scaled_mm(left, right, scale_a=one, scale_b=one, out_dtype=torch.bfloat16), "torch._scaled_mm, one scale per tensor"
        out = self.zeros((m, n), dtype)
        return self._precise(dtype, lambda: torch.matmul(left, right, out=out)), "torch.matmul"

    def _precise(self, dtype: str, call: Call) -> Call:
        """Return a call with fp32 products in full precision, or on the matrix units for tf32."""
        if dtype not in {"fp32", "tf32"} or self.facts.kind != "cuda":
            return call
        wanted = "high" if dtype == "tf32" else "highest"
        choose: Callable[[str], None] = self.torch.set_float32_matmul_precision

        def chosen() -> object:
            choose(wanted)
            return call()

        return chosen

    def grouped_gemm(self, rows: Sequence[int], sizes: tuple[int, int], dtype: str) -> tuple[Call, str]:
        """Multiply all groups in one kernel where PyTorch has one, else group by group."""
        torch, (n, k) = self.torch, sizes
        left, right = self.random((sum(rows), k), dtype), self.random((len(rows), n, k), dtype).transpose(1, 2)
        ends = torch.tensor(rows, device=self.device).cumsum(0).to(torch.int32)
        grouped = getattr(torch.nn.functional, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)
        if grouped is not None and self._cuda:
            try:
                grouped(left, right, offs=ends)
                self.synchronize()
            except (RuntimeError, TypeError, ValueError, NotImplementedError):
                pass
            else:
                return lambda: grouped(left, right, offs=ends), "torch grouped_mm"
        parts = [(part, weight) for part, weight in zip(left.split(list(rows)), right, strict=True) if len(part)]
        return lambda: [torch.matmul(part, weight) for part, weight in parts], "torch.matmul, one group after the other"

    def attention(self, query: Any, key: Any, value: Any, *, causal: bool) -> Any:
        """Return PyTorch's scaled dot-product attention."""
        shared = query.shape[1] != key.shape[1]
        return self.torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal, enable_gqa=shared)

    def flex_attention(self) -> Callable[..., Any]:
        """Return PyTorch's flex attention, compiled for CUDA or ROCm."""
        if not self._cuda:
            return super().flex_attention()
        flex: Callable[..., Any] = module("torch.nn.attention.flex_attention").flex_attention
        compiled: Callable[..., Any] = self.torch.compile(flex, dynamic=False)
        return compiled

    def copy(self, target: Any, source: Any) -> object:
        """Copy an array onto another."""
        return target.copy_(source)

    def maximum(self, array: Any) -> object:
        """Read an array once."""
        return self.torch.amax(array)

    def add(self, left: Any, right: Any, out: Any) -> object:
        """Add two arrays into a third."""
        return self.torch.add(left, right, out=out)

    def gated(self, gate: Any, up: Any) -> Any:
        """Return ``silu(gate) * up``."""
        return self.torch.nn.functional.silu(gate) * up

    def normalized(self, x: Any, weight: Any) -> Any:
        """Return the root-mean-square norm over the last axis."""
        return self.torch.nn.functional.rms_norm(x, (x.shape[-1],), weight, 1e-6)

    def all_reduce(self, elements: int, dtype: str, devices: int) -> tuple[Call, str]:
        """Sum over the first devices through NCCL or RCCL, one process driving them all."""
        if not self._cuda or devices > self.torch.cuda.device_count():
            raise NotImplementedError(f"all-reduce over {devices} devices: {self.facts.count} found")
        nccl = module("torch.cuda.nccl")
        parts = [self.torch.randn(elements, device=f"cuda:{index}", dtype=self._type(dtype)) for index in range(devices)]
        return lambda: nccl.all_reduce(parts, parts), "torch.cuda.nccl.all_reduce, one process"


def _facts(torch: Any, name: str) -> Facts:
    kind, _, index = name.partition(":")
    if kind == "cpu":
        memory_bytes, cache_bytes, _, model = cpu_facts()
        return Facts("cpu", "torch", "cpu", model, memory_bytes, cache_bytes, torch.get_num_threads())
    if kind == "mps" and torch.backends.mps.is_available():
        memory_bytes, cores, model = mac_gpu_facts()
        return Facts("mps", "torch", "mps", model, memory_bytes, 0, cores)
    found = available(torch)
    number = int(index or 0) if (index or "0").isdigit() else -1
    if kind != "cuda" or f"cuda:{number}" not in found:
        raise SpecError(f"--device: {name}: PyTorch {torch.__version__} does not see it; choose from {', '.join(found)}")
    properties = torch.cuda.get_device_properties(number)
    return Facts(
        name=f"cuda:{number}",
        library="torch",
        kind="rocm" if torch.version.hip else "cuda",
        model=properties.name,
        memory_bytes=properties.total_memory,
        cache_bytes=int(getattr(properties, "L2_cache_size", 0)),
        compute_units=properties.multi_processor_count,
        count=torch.cuda.device_count(),
    )


def available(torch: Any) -> list[str]:
    """Return the devices that PyTorch sees, fastest first."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*names, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
