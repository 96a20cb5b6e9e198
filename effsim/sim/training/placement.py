"""Gang placement: all nodes of a job at once, in as few network domains as the free nodes allow."""

from collections.abc import Collection, Mapping, Sequence


def place(free: Mapping[int, Sequence[int]], nodes: int, used: Collection[int] = ()) -> tuple[int, ...]:
    """Return the nodes to take; fewer than asked for only where fewer are free.

    Domains that the job uses already come first. A domain that holds all is taken, the fullest such (the least left over);
    where none does, the largest are filled first.

    Args:
        free: Domain -> its free nodes.
        nodes: How many.
        used: Domains in which the job has nodes.

    >>> place({0: [0, 1, 2], 1: [3, 4]}, 2)
    (3, 4)
    >>> place({0: [0, 1, 2], 1: [3, 4]}, 4)
    (0, 1, 2, 3)
    """
    taken: list[int] = []
    open_domains = {domain: members for domain, members in free.items() if members}
    for domain in [domain for domain in open_domains if domain in used]:
        taken += open_domains.pop(domain)[: nodes - len(taken)]
    while open_domains and len(taken) < nodes:
        missing = nodes - len(taken)
        fitting = [domain for domain, members in open_domains.items() if len(members) >= missing]
        if fitting:
            domain = min(fitting, key=lambda one: (len(open_domains[one]), one))
        else:
            domain = min(open_domains, key=lambda one: (-len(open_domains[one]), one))
        taken += open_domains.pop(domain)[:missing]
    return tuple(taken)
