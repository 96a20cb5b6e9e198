"""A job on the cluster while it is simulated: what it holds, what has befallen it, how far it is."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import simpy

from effsim.sim.training.ledger import Book
from effsim.sim.training.progress import Progress
from effsim.specs.cluster import Job


class Phase(NamedTuple):
    """What a job does until something happens.

    Args:
        cause: A cause of the ledger, or ``work``.
        duration_s: Until it ends by itself; infinite where only an event ends it.
        nodes: Held.
        usable: Of these, in whole groups.
        speed: Share of full speed that the power budget leaves.
        slowdown: Step time over that without stragglers.
        power_share: Share of the useful power that the budget leaves.
    """

    cause: str
    duration_s: float
    nodes: int
    usable: int
    speed: float
    slowdown: float
    power_share: float


@dataclass(slots=True, eq=False)
class JobState:
    """One job.

    Args:
        id: Its place among the jobs.
        spec: As given.
        progress: Of its work.
        write_s: Time of a save while all else stands still.
        nodes: Held; ``slow`` are those that are stragglers, ``domains`` counts them by network domain.
        drain: Nodes to give up after saving -> (cause, when they return [s]).
        is_broken: A failure has stopped it and is noticed at ``detected_at_s``; ``is_rolled_back`` once the loss is booked.
        is_loading: It must restart and restore before it works; ``loaded_s`` of that is done, ``is_hot``: on nodes that stand ready.
        preempt: It has been told to make room.
        grow: Nodes are there for it to become larger again.
        written_s: Of a save outside the cycle.
        reached_s: The most work that it ever had done.
        fruitless: Failures in a row without a save between; ``saves_seen`` had been written at the last.
    """

    id: int
    spec: Job
    progress: Progress
    write_s: float
    book: Book = field(default_factory=Book)
    nodes: set[int] = field(default_factory=set)
    slow: set[int] = field(default_factory=set)
    drain: dict[int, tuple[str, float]] = field(default_factory=dict)
    is_broken: bool = False
    is_rolled_back: bool = False
    detected_at_s: float = 0.0
    is_loading: bool = False
    is_hot: bool = True
    loaded_s: float = 0.0
    preempt: bool = False
    grow: bool = False
    written_s: float = 0.0
    reached_s: float = 0.0
    status: str = "queued"
    queued_since_s: float = 0.0
    queue_s: float = 0.0
    start_s: float | None = None
    end_s: float | None = None
    domains_at_end: int = 0
    failures: int = 0
    restarts: int = 0
    loads: int = 0
    preemptions: int = 0
    lost_s: float = 0.0
    fruitless: int = 0
    saves_seen: int = 0
    domains: Counter[int] = field(default_factory=Counter)
    phase: Phase | None = None
    phase_start_s: float = 0.0
    process: simpy.Process | None = None
    granted: simpy.Event | None = None
    can_be_poked: bool = False

    @property
    def usable(self) -> int:
        """Nodes in whole groups, at most those that it is laid out for."""
        return len(self.nodes) // self.spec.node_group * self.spec.node_group

    @property
    def missing(self) -> int:
        """Nodes short of those that it is laid out for."""
        return self.spec.nodes - len(self.nodes)

    @property
    def enough(self) -> int:
        """Nodes without which it stands still."""
        return self.spec.min_nodes or self.spec.nodes

    def poke(self) -> None:
        """Make it look at its state again; once is enough for all that happens at one time."""
        if self.can_be_poked and self.process is not None:
            self.can_be_poked = False
            self.process.interrupt()

    def must_load(self, *, is_hot: bool) -> None:
        """Note that it must restart from its checkpoint."""
        self.is_loading = True
        self.is_hot = is_hot
        self.loaded_s = 0.0
        self.written_s = 0.0
