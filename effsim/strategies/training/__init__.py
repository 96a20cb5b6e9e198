"""Choices that change the energy of a training; a file here is a choice, its name is the file's name.

Each file has:

- ``TITLE``, in words;
- ``KNOBS``: name of each knob -> the values that the table shows;
- ``neutral(job)``: the values of the knobs that leave the job as it is;
- ``apply(job, **knobs)``: the changed job; what a step costs follows from it through the cost model alone;
- ``steps(job, changed)``: a :class:`~effsim.strategies.effect.StepsEffect`: how many more or fewer tokens reach the same loss;
- ``quality(job, changed)``: what else it does to the trained model, with the source.

All are pure: they read their arguments, change nothing and keep nothing.
"""
