"""Policies of the serving simulator; a file here is a policy, its name is the file's name.

A scheduler policy is a file with ``pick(waiting, now_s) -> int``: the index in ``waiting`` (never empty) of the request
to admit next. A router is a file with ``route(replicas, routed) -> int``: the index in ``replicas`` (never empty, only
those whose KV cache can ever hold the request) that serves the request; ``routed`` requests were placed before. Both are
pure: they read their arguments, change nothing and keep nothing.
"""
