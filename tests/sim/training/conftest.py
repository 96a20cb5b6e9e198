"""A small cluster and job whose outcome can be worked out by hand."""

from typing import Any

import pytest

from effsim.specs.cluster import Cluster, Job

POWER = {"useful": 8000.0, "checkpoint": 5000.0, "restart": 3000.0, "idle": 1000.0, "stalled": 4000.0}


@pytest.fixture(scope="session")
def job():
    def build(name: str = "one", nodes: int = 8, work: Any = 100_000.0, **fields: Any) -> Job:
        return Job(name=name, nodes=nodes, work=work, power=POWER, **fields)

    return build


@pytest.fixture(scope="session")
def cluster():
    def build(**fields: Any) -> Cluster:
        return Cluster.model_validate({"checkpoint": {"interval": 1000.0, "write": 50.0}, "idle_power": 700.0, "off_power": 100.0, **fields})

    return build
