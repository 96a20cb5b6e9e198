"""Dense products by shape and dtype: those of a decoding batch, of a prompt, and a large square one."""

from effsim.bench.case import Case, Work, in_turn
from effsim.bench.devices.base import ITEM_BYTES, Device

OUT_BYTES = {"fp8": 2, "int8": 4}
"""Of one result where it is wider than the operands."""

LARGE = (
    (8192, 8192, 8192),
    (16, 8192, 8192),
    (1, 4096, 4096),
    (64, 14336, 4096),
    (256, 4096, 14336),
    (2048, 6144, 4096),
    (128, 1280, 5120),
    (512, 28672, 8192),
)
SMALL = ((512, 512, 512), (1, 1024, 1024), (16, 1024, 1024), (128, 1024, 1024), (1024, 1024, 1024), (64, 2816, 1024), (1, 4096, 4096))
QUICK_OTHERS = 2


def cases(device: Device, quick: bool) -> list[Case]:
    """Return the shapes of the native dtype, then the telling ones of the others."""
    shapes = LARGE if device.large else SMALL
    native = [case(shape, device.native) for shape in (shapes[:4] if quick else shapes)]
    others = [case(shape, dtype) for shape in shapes[: QUICK_OTHERS if quick else 4] for dtype in device.dtypes if dtype != device.native]
    return [found for found in (*native, *others) if not (found.dtype == "int8" and found.whole("m") <= 16)]  # noqa: PLR2004 -- torch._int_mm wants more rows


def case(sizes: tuple[int, int, int], dtype: str) -> Case:
    """Return the product of (m, k) and (k, n), sizes being m, n, k."""
    m, n, k = sizes
    item = ITEM_BYTES[dtype]
    return Case("gemm", {"m": m, "n": n, "k": k}, dtype, flop=2.0 * m * n * k, bytes=float((m * k + k * n) * item + m * n * OUT_BYTES.get(dtype, item)))


def prepare(case: Case, device: Device) -> Work:
    """Allocate operands with random contents: power depends on them."""
    sizes = (case.whole("m"), case.whole("n"), case.whole("k"))
    made = [device.gemm(sizes, case.dtype) for _ in range(device.buffers(case.bytes))]
    return in_turn([call for call, _ in made], made[0][1])
