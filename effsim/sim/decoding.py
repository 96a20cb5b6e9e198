"""The sequences of a replica that decode together, many iterations at a step."""

import math
from heapq import heappop, heappush
from typing import Final, NoReturn

from effsim.errors import SpecError
from effsim.sim.cache import PrefixCache
from effsim.sim.decode import DecodeCosts, Piece, least
from effsim.sim.meter import Meter
from effsim.sim.recorder import Recorder
from effsim.sim.request import InFlight
from effsim.sim.setup import Cost, ReplicaSetup
from effsim.sim.speculation import tokens_after

IDLE: Final = 0
WAKING: Final = 1
DECODING: Final = 2
MIXED: Final = 3
STEPWISE: Final = 4


class Decoding(Meter):
    """What grows evenly while the batch does not change.

    Attributes:
        end_s: End of the leg under way; infinite while idle.
    """

    __slots__ = (
        "_ahead", "_block_size", "_cached_tokens", "_cost", "_costs", "_count", "_decoded_s", "_decoding", "_ending", "_even", "_fading", "_filling",
        "_first_s", "_growth", "_growth_s", "_iteration", "_keys", "_leg", "_needs", "_paused", "_per_sequence", "_piece", "_serial", "_speculation", "_step",
        "_stepwise", "_token_j", "_window", "cache", "end_s", "free_blocks", "index", "kv_blocks",
    )  # fmt: skip

    def __init__(self, index: int, setup: ReplicaSetup, costs: DecodeCosts, record: Recorder) -> None:
        super().__init__(setup, record)
        self.index = index
        self.end_s = math.inf
        self.kv_blocks = self.free_blocks = setup.kv_blocks
        self.cache = PrefixCache(setup.block_size) if setup.finds_prefixes else None
        self._costs, self._step, self._cached_tokens = costs, setup.step_model, setup.step_model.cached_tokens
        self._speculation = setup.speculation
        self._block_size, self._per_sequence, self._window = setup.block_size, setup.tokens_per_sequence, setup.step_model.longest_window
        self._even = setup.speculation is None and not setup.step_model.windowed_cache
        self._leg, self._stepwise, self._paused, self._fading = IDLE, False, False, False
        self._count, self._cost = 0, (0.0, 0.0, 0.0, 0.0, 0.0)
        self._piece: Piece | None = None
        self._first_s = self._growth_s = self._token_j = 0.0
        self._decoded_s = -math.inf
        self._decoding = self._iteration = self._serial = self._ahead = 0
        self._keys: float = 0
        self._growth: float = 0
        self._ending: list[tuple[int, int, InFlight]] = []
        self._needs = [0] * (2 * self._block_size)
        self._filling: InFlight | None = None

    @property
    def leg(self) -> int:
        """What is under way: one of the constants above."""
        return self._leg

    @property
    def start_s(self) -> float:
        """When it began."""
        return self._start_s

    def _begin_decoding(self, now_s: float) -> bool:
        """Begin as many iterations as the batch and the blocks last; False where they have to be looked at one by one."""
        decoding, iteration = self._decoding, self._iteration
        count = self._ending[0][0] - iteration
        if decoding * (count * self._per_sequence // self._block_size + 1) > self.free_blocks:
            count = self._iterations_of_blocks(count)
        if count == 0 or decoding * self._per_sequence > self.setup.max_num_batched_tokens:
            return False
        if self._fading:  # what the head of the queue would find may be taken: look again after each iteration
            count, self._fading = 1, False
        keys, growth = self._keys, self._growth
        piece = self._costs.piece(decoding, keys)
        self._leg, self._count = DECODING, count
        if keys + growth * (count - 1) < piece[0]:
            self._piece, slope_s = piece, piece[3]
            self._first_s = first_s = piece[2] + slope_s * (keys - piece[1])
            self._growth_s = growth_s = slope_s * growth
            self.end_s = now_s + count * (first_s + 0.5 * growth_s * (count - 1))
        else:
            self._piece = None
            self.end_s = now_s + self._costs.duration_s(decoding, keys, growth, count)
        if not now_s < self.end_s < math.inf:
            self._refuse_end(now_s)
        return True

    def _refuse_end(self, now_s: float) -> NoReturn:
        raise SpecError(f"replica {self.index}: a leg begun at {now_s!r} s ends at {self.end_s!r} s; expected a positive time")

    def cut(self, now_s: float) -> None:
        """Let the leg under way end with the iteration that is under way at ``now_s``, up to which the replica has been advanced."""
        if self._leg != DECODING or self._count == 1:
            return
        span_s = now_s - self._start_s
        if self._piece is not None:
            first_s, growth_s = self._first_s, self._growth_s
            self._count = count = least(first_s, growth_s, self._count, span_s)
            self.end_s = self._start_s + count * (first_s + 0.5 * growth_s * (count - 1))
        else:
            self._count, span_s = self._costs.count_until(self._decoding, self._keys, self._growth, self._count, span_s)
            self.end_s = self._start_s + span_s

    def _iterations_of_blocks(self, most: int) -> int:
        """Return how many iterations the free blocks last, at most ``most``."""
        free, needs, size = self.free_blocks, self._needs, self._block_size
        if not self._even:  # no more than one round per block of tokens
            return max(0, min(most, (free // self._decoding - 1) * size // self._per_sequence))
        done = min(most, free // self._decoding * size)  # whole rounds take one block per sequence
        free -= done // size * self._decoding
        while done < most:
            free -= needs[(self._iteration + done) % size]
            if free < 0:
                break
            done += 1
        return done

    def _blocks_taken(self, count: int) -> int:
        """Return the blocks that ``count`` iterations of the present batch take; negative where windows give some back."""
        if not self._even:
            blocks_for, tokens = self.setup.blocks_for, self._tokens
            return sum([blocks_for(tokens(request, count)) - blocks_for(tokens(request, 0)) for _, _, request in self._ending])
        size = self._block_size
        first = self._iteration % size
        if count < size:
            return sum(self._needs[first : first + count])
        rounds, rest = divmod(count, size)
        return rounds * self._decoding + sum(self._needs[first : first + rest])

    def _tokens(self, request: InFlight, more: int) -> int:
        """Return the tokens in the cache of a decoding request after so many more iterations."""
        done = self._iteration - request.base + more
        return tokens_after(request, done) if request.span else done

    def _end_decoding(self, now_s: float) -> None:
        """Account for a run of iterations: sums of the closed form."""
        count, decoding, keys, growth, piece = self._count, self._decoding, self._keys, self._growth, self._piece
        inter_token = self._record.inter_token
        if piece is not None:
            total = count * (keys - piece[1]) + 0.5 * growth * count * (count - 1)
            inter_token.add_ramp(self._first_s, self._growth_s, count, decoding)
            cost = (
                0.0, count * piece[4] + piece[5] * total, count * piece[6] + piece[7] * total, count * piece[8] + piece[9] * total,
                count * piece[10] + piece[11] * total,
            )  # fmt: skip
        else:
            cost = self._costs.run(decoding, keys, growth, count, inter_token)
        if self._paused:
            self._count_pauses(self._costs.cost(decoding, keys)[0])
        taken = self._blocks_taken(count)
        energy_j = self._account(cost, now_s, count, self.kv_blocks - self.free_blocks + 0.5 * taken * (1.0 + 1.0 / count))
        self.free_blocks -= taken
        if self.cache is not None and self.cache.keyed:
            self.cache.take(taken - self._ahead)
        self._ahead = 0
        self._iteration += count
        self._keys += growth * count
        self._token_j += energy_j / decoding
        self._decoded_s = now_s
        if self._ending[0][0] <= self._iteration:
            self._retire(now_s)

    def _count_pauses(self, first_s: float) -> None:
        """Count the first gap of each sequence from its own last token on, as prompts were read in between."""
        inter_token, now_s = self._record.inter_token, self._start_s + first_s
        inter_token.add(first_s, -self._decoding)
        for _, _, request in self._ending:
            inter_token.add(now_s - max(request.last_token_s, self._decoded_s))
        self._paused = False

    def _join(self, request: InFlight) -> None:
        """Let a request decode with the others."""
        iteration, computed = self._iteration, request.computed
        request.mark_j = self._token_j
        if computed + 1 < self._window:
            self._stepwise = True
        speculation = self._speculation
        if speculation is None:
            request.base = iteration - computed
            left = request.output_tokens - request.generated
            if self._even:
                size, needs = self._block_size, self._needs
                slot = (iteration - self._cached_tokens(computed)) % size
                needs[slot] += 1
                needs[slot + size] += 1
            self._growth += 1
            self._keys += computed + 1
        else:
            speculation.start(request)
            request.base = iteration - request.steps
            left = request.span - request.steps
            rate = request.gain / request.span
            self._growth += rate
            self._keys += request.start + rate * request.steps + 1
        self._decoding += 1
        self._serial += 1
        heappush(self._ending, (iteration + left, self._serial, request))

    def _leave(self, request: InFlight) -> None:
        """Take a request out of those that decode; its own numbers are current again."""
        iteration = self._iteration
        request.energy_j += self._token_j - request.mark_j
        done = iteration - request.base
        if self._even:
            request.computed = done
            cached, size = self._cached_tokens(done), self._block_size
            request.blocks = -(-cached // size)
            slot = (iteration - cached) % size
            needs = self._needs
            needs[slot] -= 1
            needs[slot + size] -= 1
            self._growth -= 1
            self._keys -= done + 1
        else:
            self._leave_uneven(request, done)
        request.generated = request.computed - request.prompt_tokens + 1
        self._decoding -= 1
        if not self._decoding:
            self._growth = self._keys = 0

    def _leave_uneven(self, request: InFlight, done: int) -> None:
        """Take out a request whose cache or tokens do not grow by one with each iteration."""
        if request.span:
            rate = request.gain / request.span
            request.steps, request.computed = done, tokens_after(request, done)
            keys = request.start + rate * done + 1
        else:
            rate, request.computed, keys = 1, done, done + 1
        request.blocks = self.setup.blocks_for(request.computed)
        self._growth -= rate
        self._keys -= keys

    def _retire(self, now_s: float) -> None:
        """End the requests whose last token has been sampled."""
        ending, iteration = self._ending, self._iteration
        while ending and ending[0][0] <= iteration:
            request = heappop(ending)[2]
            self._leave(request)
            request.last_token_s = now_s
            self._end(request)

    def _end(self, request: InFlight) -> None:
        """Let a request that is done go."""
        blocks, cache = request.blocks, self.cache
        if cache is not None and (cache.keyed or request.held is not None):
            blocks = cache.release(request, blocks, self.free_blocks, ended=True)
        self.free_blocks += blocks
        request.blocks = 0
        del self.members[request.id]
        self._record.finished(request)

    def _spread(self) -> None:
        """Leave the closed form: each decoding request gets its own numbers."""
        for _, _, request in self._ending:
            request.last_token_s = max(request.last_token_s, self._decoded_s)
            self._leave(request)
        self._ending.clear()
        self._filling = None

    def _stop_decoding(self, now_s: float) -> None:
        """End a run of iterations with a part of one."""
        self.cut(now_s)
        decoding, done, keys, growth = self._decoding, self._count - 1, self._keys, self._growth
        span_s = self._costs.duration_s(decoding, keys, growth, done)
        whole = self._costs.run(decoding, keys, growth, done, self._record.inter_token)
        last = self._costs.cost(decoding, keys + growth * done)
        part = part_of(last, (now_s - self._start_s - span_s) / last[0])
        cost = (whole[0] + part[0], whole[1] + part[1], whole[2] + part[2], whole[3] + part[3], whole[4] + part[4])
        self._token_j += self._account(cost, now_s, done, self.kv_blocks - self.free_blocks) / decoding
        self._iteration += done
        self._keys += growth * done
        if done:
            self._decoded_s = self._start_s + span_s


def part_of(cost: Cost, share: float) -> Cost:
    """Return a share of a cost."""
    time_s, static_j, core_j, memory_j, link_j = cost
    return time_s * share, static_j * share, core_j * share, memory_j * share, link_j * share
