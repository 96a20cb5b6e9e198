"""The suites, one file each: ``TITLE``, ``ORDER`` in the report, and ``run(context) -> SuiteResult``; found because they lie in this folder."""
