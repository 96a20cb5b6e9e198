"""A request under way: plain mutable numbers, told apart by ``id`` because two requests may be equal in all else."""

from collections.abc import Hashable, Sequence


class InFlight:
    """One request inside the cluster.

    ``computed`` tokens have their keys and values in the cache, ``remaining`` are to be computed before the next token can
    be sampled, ``generated`` were sampled. Times are those of the simulation clock [s], -1 before they happen. While the request
    decodes among others these stand still, and follow from ``base`` (the replica's iterations less its own so far, a token of the prompt counting as
    one) and ``mark_j`` (the energy per sequence that the replica had counted) when it joined. With drafts, ``gain`` tokens come in ``span`` iterations of
    which ``steps`` are done, from ``start`` computed tokens on; ``span`` 0: not drawn.

    A request whose keys and values come from elsewhere arrives with ``computed`` its prompt, ``generated`` 1 and ``remaining`` 1.

    Attributes:
        priority: Lower goes first under the policy of that name.
        prefix: Names of the full blocks of its prompt, equal where all tokens up to their end are (of the engine's block size); None: unknown.
        session: Of several turns, each of which begins with all of the former one; -1: none.
        prefix_tokens: Tokens of the prompt that the former turn of its session had read or written.
        cached_tokens: Tokens of it that were found in the prefix cache when it was first admitted.
    """

    __slots__ = (
        "arrival_s", "base", "blocks", "cached_tokens", "computed", "energy_j", "first_scheduled_s", "first_token_s", "gain", "generated", "held", "id",
        "last_token_s", "mark_j", "output_tokens", "preemptions", "prefix", "prefix_tokens", "priority", "prompt_tokens", "remaining", "replica",
        "session", "span", "start", "steps",
    )  # fmt: skip

    def __init__(self, id: int, arrival_s: float, prompt_tokens: int, output_tokens: int) -> None:  # noqa: A002 -- what it is
        self.id = id
        self.arrival_s = arrival_s
        self.prompt_tokens = self.remaining = prompt_tokens
        self.output_tokens = output_tokens
        self.computed = self.generated = self.blocks = self.preemptions = self.priority = self.span = self.prefix_tokens = self.cached_tokens = 0
        self.base = self.start = self.gain = self.steps = 0
        self.energy_j = self.mark_j = 0.0
        self.replica = self.session = -1
        self.first_scheduled_s = self.first_token_s = self.last_token_s = -1.0
        self.prefix: Sequence[Hashable] | None = None
        self.held: list[Hashable | None] | None = None

    @property
    def kv_tokens(self) -> int:
        """Tokens in the cache when it ends; the last one sampled is never read."""
        return self.prompt_tokens + self.output_tokens - 1

    @property
    def decodes(self) -> bool:
        """Its next iteration reads no prompt."""
        return self.remaining == 1 and self.generated > 0
