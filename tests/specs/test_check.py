"""Checks of data files: what is wrong is named with its file, whatever kind it is."""

from pathlib import Path

import pytest

from effsim.catalog import KINDS, data_root
from effsim.documents import read_yaml
from effsim.errors import SpecError
from effsim.specs.check import LOADERS, check, check_file, kind_of

SITE = """
name: {name}
place: Somewhere
country: ZZZ
carbon_intensity: {{value: 100 g/kWh, kind: assumed, source: s}}
electricity_price: {{value: 0.1 USD/kWh, kind: assumed, source: s}}
pue: {{value: {pue}, kind: assumed, source: s}}
water_on_site: {{value: 1 L/kWh, kind: assumed, source: s}}
sources: {{s: {{title: a source, date: "2026"}}}}
"""


def test_everything_shipped_holds_together():
    checked = check()
    assert [(one.path.name, one.mistake) for one in checked if one.mistake] == []
    assert {one.kind for one in checked} == {*KINDS, "scenarios"}


def test_a_folder_reports_each_file(tmp_path):
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "good.yaml").write_text(SITE.format(name="good", pue=1.2))
    (tmp_path / "sites" / "bad.yaml").write_text(SITE.format(name="bad", pue=0.5))
    (tmp_path / "sites" / "other.yaml").write_text(SITE.format(name="name", pue=1.2))
    (tmp_path / "broken.yaml").write_text("a: [1")
    found = {one.path.name: one for one in check(tmp_path)}
    assert found["good.yaml"].mistake is None
    assert found["good.yaml"].figures == {"assumed": 4}
    assert "pue must be at least 1" in found["bad.yaml"].mistake
    assert "must be the file's own name, 'other'" in found["other.yaml"].mistake
    assert "broken.yaml, line" in found["broken.yaml"].mistake


def test_a_reference_to_nothing_is_found(tmp_path):
    document = (data_root("hardware_specs") / "accelerators" / "h100_sxm.yaml").read_text(encoding="utf-8")
    wrong = tmp_path / "h100_sxm.yaml"
    wrong.write_text(document.replace("default_node: dgx_h100", "default_node: dgx_h10"))
    assert "unknown node 'dgx_h10'; did you mean 'dgx_h100'" in check_file(wrong).mistake


@pytest.mark.parametrize("kind", [*KINDS, "scenarios"])
def test_the_kind_of_a_file_is_seen_from_its_fields(kind):
    folder = data_root(kind) if kind == "scenarios" else data_root("hardware_specs") / kind
    for path in sorted(folder.glob("*.yaml")):
        assert kind_of(read_yaml(path)) == kind
    assert set(LOADERS) == {*KINDS, "scenarios"}


def test_places_without_files_are_errors(tmp_path):
    with pytest.raises(SpecError, match="no YAML file in this folder"):
        check(tmp_path)
    with pytest.raises(SpecError, match="no such file or folder"):
        check(Path(tmp_path / "absent"))
