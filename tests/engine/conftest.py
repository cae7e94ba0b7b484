"""For the tests of the engine."""

import pytest
import torch

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
