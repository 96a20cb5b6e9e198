"""The formats, one file each: ``TITLE``, ``sniff(document) -> bool`` and ``read(document, where) -> list[Measurement]``.

``document`` is the parsed JSON, or for CSV a :class:`~effsim.calibrate.logs.fields.Sheet`. Found because they lie in this folder.
"""
