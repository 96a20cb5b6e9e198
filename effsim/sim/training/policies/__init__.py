"""Queue policies of the training cluster; a file here is a policy, its name is the file's name.

A policy is a file with ``admit(queue, running, free_nodes, now_s) -> Decision``: which waiting jobs start now, in which order,
and which running ones make room. ``queue`` is in order of submission. Policies are pure: they read their arguments, change
nothing and keep nothing.
"""
