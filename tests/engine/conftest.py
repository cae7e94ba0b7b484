"""For the tests of the engine."""

import pytest
import torch

from tests.engine.in_process import InProcessRanks

collect_ignore = ["several.py", "raw_torch.py"]  # scripts


@pytest.fixture(autouse=True)
def one_thread():
    """Ranks compute with one thread when they share two cores: so does the reference.

    A sum is shared out among threads, and adds up differently with each number of them.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def in_process(monkeypatch, tmp_path_factory):
    """Pipelines get ranks that are threads: see ``in_process.py`` for what these cannot test."""

    def start(num_ranks, replicas, timeout, idle_timeout):
        return InProcessRanks(num_ranks, replicas, tmp_path_factory.mktemp("ranks"))

    monkeypatch.setattr("pipelab.engine.pipeline.start_ranks", start)
