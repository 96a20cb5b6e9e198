"""A training cluster that fails: jobs, checkpoints, repairs and the energy of each.

A job does not step. Between two events it advances in closed form (:mod:`effsim.sim.training.progress`), so that the cost of
a simulation grows with its failures and not with its steps.
"""
