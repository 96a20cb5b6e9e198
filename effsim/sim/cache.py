"""The prefix cache of vLLM V1: full blocks are found again by what stands in them and before them, until their place is needed.

A block that no running request holds is free, and keeps its contents until it is taken: free blocks are taken in the order in which they
became free, the last blocks of a sequence first. Blocks that running requests share count once. Source: vLLM 0.11,
``vllm/v1/core/block_pool.py`` and ``kv_cache_manager.py``. Where two blocks come to hold the same, the later one is not found again.
"""

from collections import OrderedDict
from collections.abc import Hashable
from itertools import count
from typing import Final, NamedTuple

from effsim.sim.request import InFlight

KEYED: Final = 0
"""Entry of the free queue that stands for one block with contents; other entries are runs of so many blocks without."""


class Found(NamedTuple):
    """What the cache has of a request's tokens: leading blocks, and how many of them nobody holds."""

    blocks: int
    free: int


NOTHING: Final = Found(0, 0)


class PrefixCache:
    """Contents of a replica's blocks. As long as no free block has contents, the order of the free ones does not matter and is not kept.

    Args:
        block_size: Tokens of a block.
    """

    __slots__ = ("_block_size", "_held", "_queue", "_serial", "keyed")

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._held: dict[Hashable, int] = {}
        self._queue: OrderedDict[Hashable, int] = OrderedDict()
        self._serial = count()
        self.keyed = 0

    def find(self, request: InFlight) -> Found:
        """Return the leading blocks of a request that are in the cache, short of its last token; of its last two where it goes on generating."""
        if request.prefix is None and request.session < 0 and not request.preemptions:
            return NOTHING
        most = (request.remaining - (2 if request.generated else 1)) // self._block_size
        if request.session >= 0 and not request.preemptions:
            most = min(most, request.prefix_tokens // self._block_size)
        held, queue = self._held, self._queue
        free = 0
        life = request.preemptions - 1
        for place in range(most):
            name = self._name(request, place, life)
            if name in queue:
                free += 1
            elif name not in held:
                return Found(place, free)
        return Found(most, free)

    def hold(self, request: InFlight, found: Found) -> None:
        """Give a request, when it is admitted, the blocks that were found."""
        mine: list[Hashable | None] = []
        request.held = mine if request.prefix is not None or request.session >= 0 else None
        held, queue, life = self._held, self._queue, request.preemptions
        for place in range(found.blocks):
            name = self._name(request, place, life - 1)
            if name in held:
                held[name] += 1
            else:
                del queue[name]
                self.keyed -= 1
                name = self._name(request, place, life)
                if request.held is not None:
                    held[name] = 1
            mine.append(name)
        if not self.keyed:
            queue.clear()

    def fill(self, request: InFlight, tokens: int) -> None:
        """Give names to the blocks of a running request that its first ``tokens`` tokens fill, if others may ask for them."""
        mine = request.held
        if mine is None:
            return
        held, queue = self._held, self._queue
        for place in range(len(mine), tokens // self._block_size):
            name = self._name(request, place, request.preemptions)
            if name in held or name in queue:
                mine.append(None)
            else:
                held[name] = 1
                mine.append(name)

    def take(self, blocks: int) -> None:
        """Forget what stood in the free blocks that are taken."""
        queue = self._queue
        while blocks > 0 and self.keyed:
            name, run = next(iter(queue.items()))
            if run > blocks:
                queue[name] = run - blocks
                return
            del queue[name]
            blocks -= run or 1
            if run == KEYED:
                self.keyed -= 1
        if not self.keyed:
            queue.clear()

    def release(self, request: InFlight, blocks: int, free: int, *, ended: bool) -> int:
        """Free the blocks of a request, its last one first; return how many nobody else holds.

        Args:
            request: With its ``computed`` tokens.
            blocks: That it has.
            free: Blocks that are free before.
            ended: It is done: what it alone has written will not be asked for again.
        """
        mine, request.held = request.held, None
        if ended and mine is None:
            self._append(blocks)
            return blocks
        held, queue = self._held, self._queue
        taken = mine or []
        full = len(request.prefix or ()) if ended and request.session < 0 else request.computed // self._block_size
        freed, blank = 0, 0
        for place in range(blocks - 1, -1, -1):
            if place < len(taken):
                name = taken[place]
                if name is not None:
                    held[name] -= 1
                    if held[name]:
                        continue
                    del held[name]
            else:
                name = self._name(request, place, request.preemptions)
                name = None if name in held or name in queue else name
            freed += 1
            if name is None or place >= full:
                blank += 1
                continue
            self._append(blank)
            blank = 0
            if not queue and free + freed > 1:
                queue[self._new()] = free + freed - 1
            queue[name] = KEYED
            self.keyed += 1
        self._append(blank)
        return freed

    def _append(self, blank: int) -> None:
        """Put blocks without contents at the end of the queue, if it is kept."""
        if not blank or not self.keyed:
            return
        last = next(reversed(self._queue))
        if self._queue[last] != KEYED:
            self._queue[last] += blank
        else:
            self._queue[self._new()] = blank

    def _new(self) -> Hashable:
        return ("blank", next(self._serial))

    def _name(self, request: InFlight, place: int, life: int) -> Hashable:
        """Return what stands in a block that a request has written; what nobody else can ask for goes by how often it had lost its blocks."""
        if request.prefix is not None and place < len(request.prefix):
            return request.prefix[place]
        return ("session", request.session, place) if request.session >= 0 else ("request", request.id, place, life)
