"""What is released is checked: one version, a changelog that names it, data inside the wheel's reach."""

import re
import tomllib
from pathlib import Path

from effsim._version import __version__
from effsim.catalog import KINDS, data_root

ROOT = Path(__file__).parent.parent


def test_the_changelog_starts_with_the_version():
    versions = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == __version__


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "effsim/_version.py"


def test_the_wheel_carries_the_data_where_the_catalog_looks():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] == {
        "hardware_specs": "effsim/_data/hardware_specs",
        "scenarios": "effsim/_data/scenarios",
    }
    assert {folder.name for folder in data_root("hardware_specs").iterdir() if folder.is_dir()} == set(KINDS)


def test_each_dependency_has_a_lower_bound_and_no_upper_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]:
        assert re.fullmatch(r"[\w.-]+>=[\d.]+(; .+)?", requirement), requirement
