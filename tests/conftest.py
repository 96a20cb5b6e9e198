"""Settings of the whole suite: bounded and repeatable property tests, and where reference data lie."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from effsim.catalog import DATA_VARIABLE, SPECS_VARIABLE

settings.register_profile("ci", max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

os.environ.pop(SPECS_VARIABLE, None)  # a user's own catalog must not decide whether the suite passes


@pytest.fixture(scope="session")
def reference_file() -> Callable[[str], Path]:
    """Return a function from the name of a reference file to its path; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        folders = [Path(folder) for folder in os.environ.get(DATA_VARIABLE, "").split(os.pathsep) if folder]
        if not folders:
            pytest.skip(f"{DATA_VARIABLE} is not set: no reference data")
        found = next((folder / name for folder in folders if (folder / name).exists()), None)
        if found is None:
            pytest.skip(f"{name} is in no folder of {DATA_VARIABLE}")
        return found

    return find
