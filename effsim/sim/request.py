"""A request under way: plain mutable numbers, told apart by ``id`` because two requests may be equal in all else."""


class InFlight:
    """One request inside the cluster.

    ``computed`` tokens have their keys and values in the cache, ``remaining`` are to be computed before the next token can
    be sampled, ``generated`` were sampled. Times are those of the simulation clock [s], -1 before they happen. While the request
    decodes among others these stand still, and follow from ``base`` (``computed`` less the replica's iterations) and ``mark_j``
    (the energy per sequence that the replica had counted) when it joined.
    """

    __slots__ = (
        "arrival_s", "base", "blocks", "computed", "energy_j", "first_scheduled_s", "first_token_s", "generated", "id", "last_token_s",
        "mark_j", "output_tokens", "preemptions", "prompt_tokens", "remaining", "replica",
    )  # fmt: skip

    def __init__(self, id: int, arrival_s: float, prompt_tokens: int, output_tokens: int) -> None:  # noqa: A002 -- what it is
        self.id = id
        self.arrival_s = arrival_s
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.computed = 0
        self.remaining = prompt_tokens
        self.generated = 0
        self.blocks = 0
        self.base = 0
        self.mark_j = 0.0
        self.preemptions = 0
        self.energy_j = 0.0
        self.replica = -1
        self.first_scheduled_s = -1.0
        self.first_token_s = -1.0
        self.last_token_s = -1.0

    @property
    def kv_tokens(self) -> int:
        """Tokens in the cache when it ends; the last one sampled is never read."""
        return self.prompt_tokens + self.output_tokens - 1
