"""Policies of the serving simulator; a file here is a policy, its name is the file's name.

A scheduler policy is a file with ``pick(waiting, now_s) -> int``: the index in ``waiting`` (never empty) of the request
to admit next. A router is a file with ``route(replicas, request, routed, seed) -> int``: the index in ``replicas`` (never empty, only
those that can serve the request) that serves it; ``routed`` requests were placed before, ``seed`` is that of the run. Both are
pure: they read their arguments, change nothing and keep nothing; chance is a function of ``routed`` and ``seed``. What a router reads of
a replica is as of the end of the last leg (:mod:`effsim.sim.replica`), counts of requests are current.
"""
