"""The nodes of the cluster: who holds them, which are out of order, who gets them next."""

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from typing import Any

import simpy

from effsim.sim.training.job import JobState
from effsim.sim.training.ledger import Ledger, Pool
from effsim.sim.training.placement import place
from effsim.sim.training.queueing import Decision, Running, Waiting, queue_policy
from effsim.specs.cluster import Cluster

Speed = Callable[[float], float]


class ClusterState:
    """Nodes 0 to ``total - 1``; a node is free, held by a job, or off.

    Args:
        env: Of the simulation.
        spec: With ``nodes`` stated.
        ledger: Takes the time and energy of nodes without a job.
        speed: Share of useful power -> share of speed; 0 where it cannot run.
    """

    def __init__(self, env: simpy.Environment, spec: Cluster, ledger: Ledger, speed: Speed) -> None:
        self.env = env
        self.spec = spec
        self.ledger = ledger
        self.speed_of = speed
        self.total = (spec.nodes or 0) + spec.spare_nodes
        self.idle_w = spec.idle_power or 0.0
        self.domain_size = spec.nodes_per_domain or self.total
        self.domains = -(-self.total // self.domain_size)
        self.free: list[dict[int, None]] = [dict.fromkeys(self.members(domain)) for domain in range(self.domains)]
        self.owner: list[JobState | None] = [None] * self.total
        self.is_off = [False] * self.total
        self.lives = [0] * self.total
        self.slow: set[int] = set()
        self.known_slow: set[int] = set()
        self.pools = {
            "idle": Pool(ledger, "idle", self.idle_w, self.total),
            "repair": Pool(ledger, "repair", spec.off_power),
            "maintenance": Pool(ledger, "maintenance", spec.off_power),
        }
        self.queue: list[JobState] = []
        self.holding: list[JobState] = []
        self.admit = queue_policy(spec.queue)
        self.is_paused = False
        self.power_share = self.speed = 1.0
        self.counts: Counter[str] = Counter()
        self.on_return: Callable[[int], None] = lambda _node: None

    def members(self, domain: int) -> range:
        """Return the nodes of a domain."""
        return range(domain * self.domain_size, min((domain + 1) * self.domain_size, self.total))

    @property
    def num_free(self) -> int:
        """Sound nodes without a job, spares among them."""
        return self.pools["idle"].count

    # --- who holds what

    def take(self, job: JobState, wanted: int) -> int:
        """Give a job up to so many free nodes and return how many."""
        nodes = place({domain: tuple(free) for domain, free in enumerate(self.free) if free}, wanted, job.domains.keys()) if wanted else ()
        for node in nodes:
            domain = node // self.domain_size
            del self.free[domain][node]
            self.owner[node] = job
            job.domains[domain] += 1
        job.nodes.update(nodes)
        job.slow.update(node for node in nodes if node in self.slow)
        self.pools["idle"].change(self.env.now, -len(nodes))
        self.balance_power()
        return len(nodes)

    def _give_up(self, job: JobState, node: int) -> None:
        job.nodes.discard(node)
        job.slow.discard(node)
        self.owner[node] = None
        domain = node // self.domain_size
        job.domains[domain] -= 1
        if not job.domains[domain]:
            del job.domains[domain]

    def release(self, job: JobState) -> None:
        """Take all nodes from a job that ends or makes room; what was to be drained or is slow goes off, the rest is free."""
        self.drain(job)
        slow = [node for node in job.nodes if node in self.known_slow]
        for node in list(job.nodes):
            self._give_up(job, node)
            self._free(node)
        self.take_off(slow, "repair", self.env.now + self.spec.failures.repair)
        self.holding.remove(job)
        self.balance_power()

    def _free(self, node: int) -> None:
        self.free[node // self.domain_size][node] = None
        self.pools["idle"].change(self.env.now, 1)

    def drain(self, job: JobState) -> None:
        """Send the nodes that a job must give up where they are due."""
        due: dict[tuple[str, float], list[int]] = {}
        for node, where in job.drain.items():
            if node in job.nodes and where[1] > self.env.now:
                self._give_up(job, node)
                self._free(node)
                due.setdefault(where, []).append(node)
        job.drain.clear()
        for (cause, until_s), nodes in due.items():
            self.take_off(nodes, cause, until_s)
        self.balance_power()

    # --- what is out of order

    def take_off(self, nodes: Iterable[int], cause: str, until_s: float) -> None:
        """Take free nodes out of order until a time."""
        gone = list(nodes)
        for node in gone:
            del self.free[node // self.domain_size][node]
            self.is_off[node] = True
            self.lives[node] += 1
            self.slow.discard(node)
            self.known_slow.discard(node)
        if gone:
            self.pools["idle"].change(self.env.now, -len(gone))
            self.pools[cause].change(self.env.now, len(gone))
            self.env.process(self._return(gone, cause, until_s - self.env.now))

    def _return(self, nodes: list[int], cause: str, after_s: float) -> Generator[simpy.Event, Any, None]:
        yield self.env.timeout(after_s)
        self.pools[cause].change(self.env.now, -len(nodes))
        for node in nodes:
            self.is_off[node] = False
            self._free(node)
            self.on_return(node)
        self.offer()

    def fail(self, nodes: Iterable[int], repair_s: float, *, is_transient: bool = False) -> bool:
        """Let nodes fail together; those that are off already cannot. Return whether any did."""
        struck = [node for node in nodes if not self.is_off[node]]
        owners = {owner.id: owner for node in struck if (owner := self.owner[node]) is not None}
        if not is_transient:
            for node in struck:
                job = self.owner[node]
                if job is not None:
                    self._give_up(job, node)
                    self._free(node)
            self.take_off(struck, "repair", self.env.now + repair_s)
        for job in owners.values():
            self._break(job)
        if not is_transient:
            self.balance_power()
        return bool(struck)

    def _break(self, job: JobState) -> None:
        if not job.is_broken:
            job.is_broken, job.is_rolled_back = True, False
            job.detected_at_s = self.env.now + self.spec.failures.detection
            job.failures += 1
        job.poke()

    # --- who gets what next

    def offer(self) -> None:
        """Offer free nodes to jobs that wait for them, to those that run with fewer, then to the queue."""
        left = self.num_free
        for job in self.holding:
            cause = None if job.phase is None else job.phase.cause
            if cause == "waiting":
                left -= job.missing
                job.poke()
            elif cause == "work" and self.can_grow(job, left):
                left -= job.missing
                job.grow = True
                job.poke()
            elif left > 0 and cause == "work" and (slow := job.nodes & self.known_slow):
                job.drain |= dict.fromkeys(sorted(slow)[:left], ("repair", self.env.now + self.spec.failures.repair))
                left -= len(slow)
                job.poke()
        self.schedule(left)

    def can_grow(self, job: JobState, left: int) -> bool:
        """Return whether so many more nodes fill at least one more group of a job."""
        return job.usable + job.spec.node_group <= min(len(job.nodes) + max(left, 0), job.spec.nodes)

    def enqueue(self, job: JobState) -> None:
        """Put a job at the end of the queue, in which jobs stand by their time of submission."""
        job.status, job.queued_since_s = "queued", self.env.now
        self.queue.append(job)
        self.queue.sort(key=lambda one: (one.spec.submit, one.id))
        self.offer()

    def schedule(self, left: int) -> None:
        """Ask the policy, and do what it says as far as the power budget allows."""
        free = max(left - self.spec.spare_nodes, 0)
        if not self.queue:
            return
        decision = self._decision(free)
        by_id = {job.id: job for job in (*self.queue, *self.holding)}
        for job in (by_id[number] for number in decision.start):
            if job.spec.nodes > free or not self.fits_budget(job):
                break
            free -= job.spec.nodes
            self._start(job)
        for job in (by_id[number] for number in decision.preempt):
            job.preempt = True
            job.poke()

    def _decision(self, free: int) -> Decision:
        now_s = self.env.now
        waiting = [Waiting(job.id, job.spec.nodes, expected_s(job), job.spec.priority, job.spec.submit) for job in self.queue]
        running = [
            Running(job.id, len(job.nodes), expected_end_s(job, now_s), job.spec.priority, now_s if job.start_s is None else job.start_s, job.preempt)
            for job in self.holding
        ]
        return self.admit(waiting, running, free, now_s)

    def _start(self, job: JobState) -> None:
        self.queue.remove(job)
        self.holding.append(job)
        self.take(job, job.spec.nodes)
        job.status = "running"
        job.queue_s += self.env.now - job.queued_since_s
        job.start_s = self.env.now if job.start_s is None else job.start_s
        if job.granted is not None:
            job.granted.succeed()

    # --- the power budget

    def _share(self, jobs: Iterable[tuple[int, JobState]]) -> float:
        """Return the share of their useful power that the budget leaves to jobs, if all other nodes idle."""
        budget = self.spec.power_budget
        held = [(nodes, job.spec.power.useful) for nodes, job in jobs if nodes]
        if budget is None or not held:
            return 1.0
        idle_w = (self.total - sum(nodes for nodes, _ in held)) * self.idle_w
        return min((budget.limit - idle_w) / sum(nodes * useful_w for nodes, useful_w in held), 1.0)

    def fits_budget(self, job: JobState) -> bool:
        """Return whether the power budget lets a job run beside those that hold nodes, all on as many as they are laid out for."""
        share = self._share((one.spec.nodes, one) for one in (*self.holding, job))
        return share > 0.0 and self.speed_of(share) > 0.0

    def balance_power(self) -> None:
        """Set the speed that the power budget leaves, and tell the jobs if it has changed."""
        share = self._share((len(job.nodes), job) for job in self.holding)
        if share != self.power_share:
            self.power_share, self.speed = share, self.speed_of(share)
            for job in self.holding:
                job.poke()


def expected_s(job: JobState) -> float:
    """Return how long a job will still run if nothing befalls it, saves included [s]."""
    progress = job.progress
    return (progress.work_s - progress.done_s) * (1.0 + progress.blocking_s / progress.interval_s) + job.write_s


def expected_end_s(job: JobState, now_s: float) -> float:
    """Return when a job that holds nodes will have ended if nothing befalls it; its progress is that at the start of its phase."""
    since_s = now_s if job.phase is None else job.phase_start_s
    return max(since_s + expected_s(job), now_s)
