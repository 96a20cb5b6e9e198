"""How a CUDA device is timed and recorded, against a stand-in for PyTorch whose clock is written down."""

from types import SimpleNamespace

import pytest

from effsim.bench.devices import torch_device
from effsim.bench.devices.torch_device import TorchDevice


class Event:
    now_ms = 0.0

    def __init__(self, enable_timing):
        assert enable_timing
        self.at_ms = None

    def record(self):
        self.at_ms = Event.now_ms

    def elapsed_time(self, other):
        return other.at_ms - self.at_ms


class Graph:
    def __init__(self):
        self.calls = []

    def replay(self):
        for call in self.calls:
            call()


class Recording:
    """Within the block, work that is issued is kept by the graph and not done; ``forbidden`` work ends it."""

    current = None
    forbidden = False

    def __init__(self, graph):
        self.graph = graph

    def __enter__(self):
        Recording.current = self.graph

    def __exit__(self, *error):
        Recording.current = None
        if Recording.forbidden:
            raise RuntimeError("operation not permitted when stream is capturing")


class Stream:
    def __init__(self, device=None):
        pass

    def wait_stream(self, other):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.fixture
def device(monkeypatch):
    def missing(*given, **named):
        raise RuntimeError("not here")

    properties = SimpleNamespace(name="Fake GPU", total_memory=80 * 2**30, multi_processor_count=132, L2_cache_size=50 * 2**20)
    cuda = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 2, get_device_properties=lambda index: properties, set_device=lambda device: None,
        synchronize=lambda device: None, empty_cache=lambda: None, Event=Event, CUDAGraph=Graph, graph=Recording, Stream=Stream,
        stream=lambda stream: stream, current_stream=lambda device: Stream(),
    )  # fmt: skip
    torch = SimpleNamespace(
        __version__="0", cuda=cuda, version=SimpleNamespace(hip=None), device=lambda name: name, manual_seed=lambda seed: None, randn=missing, randint=missing,
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)), bfloat16=None, float32=None, float16=None, float8_e4m3fn=None, int8=None,
    )  # fmt: skip
    cuda.get_device_capability = lambda device: (9, 0)
    monkeypatch.setattr(torch_device, "module", lambda name: torch)
    monkeypatch.setattr(Event, "now_ms", 0.0)
    monkeypatch.setattr(Recording, "forbidden", False)
    return TorchDevice("cuda:1")


def work(done):
    def call():
        if Recording.current is not None:
            Recording.current.calls.append(call)
            return
        done.append(1)
        Event.now_ms += 2.5

    return call


def test_what_the_driver_says_is_kept(device):
    facts = device.facts
    assert (facts.name, facts.kind, facts.model, facts.cache_bytes, facts.compute_units, facts.count) == ("cuda:1", "cuda", "Fake GPU", 50 * 2**20, 132, 2)
    assert device.dtypes == ()  # each was tried, none worked
    assert device.large


def test_times_are_those_between_events(device):
    assert device.seconds(work([]), 3) == pytest.approx([0.0025] * 3)


def test_a_recording_replays_as_often_as_asked(device):
    done = []
    replay = device.recorded(work(done), 5)
    before = len(done)
    replay()
    assert len(done) - before == 5
    assert device.seconds(replay, 2) == pytest.approx([0.0125] * 2)


def test_what_cannot_be_recorded_is_issued(device, monkeypatch):
    monkeypatch.setattr(Recording, "forbidden", True)
    assert device.recorded(work([]), 5) is None
