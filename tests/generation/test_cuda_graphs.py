"""When a function is called, recorded and replayed, with a stand-in for CUDA."""

from contextlib import nullcontext
from unittest.mock import MagicMock

import pytest
import torch

from gptexp.generation.cuda_graphs import CudaGraphs


@pytest.fixture
def events(monkeypatch):
    """What CUDA was asked to do."""
    events = []

    class Graph:
        def capture_begin(self, pool, capture_error_mode):
            events.append(f"begin {pool} {capture_error_mode}")

        def capture_end(self):
            events.append("end")

        def replay(self):
            events.append("replay")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", MagicMock())
    monkeypatch.setattr(torch.cuda, "current_stream", MagicMock())
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    return events


def test_a_function_runs_once_then_is_recorded_then_replayed(events):
    graphs, result = CudaGraphs(torch.device("cuda"), "a test"), torch.zeros(1)

    def function():
        events.append("call")
        return result

    for _ in range(3):
        assert graphs.run("one", function) is result
    assert events == ["call", "begin pool thread_local", "call", "end", "replay", "replay"]
    graphs.run("two", function)
    assert events[6:] == ["call"]


def test_a_function_that_cannot_be_recorded_runs_each_time(events):
    graphs = CudaGraphs(torch.device("cuda"), "a test")
    graphs.device = torch.device("cpu")  # of the recording that ends the failed one

    def function():
        events.append("call")
        if "begin" in events[-2:][0]:
            raise RuntimeError("not permitted\nmore")
        return torch.zeros(1)

    graphs.run("one", function)
    with pytest.warns(UserWarning, match=r"^a test goes on without CUDA graphs: not permitted$"):
        graphs.run("one", function)
    assert events[1:4] == ["begin pool thread_local", "call", "end"]
    assert events[4:] == ["begin pool thread_local", "end", "call"]
    graphs.run("one", function)
    assert events[7:] == ["call"]


def test_a_cpu_calls_the_function_each_time():
    calls = []
    graphs = CudaGraphs(torch.device("cpu"), "a test")
    for _ in range(3):
        graphs.run("one", lambda: calls.append(1) or torch.zeros(1))
    assert len(calls) == 3
