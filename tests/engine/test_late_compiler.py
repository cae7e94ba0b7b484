"""Ranks load PyTorch's compiler when something is compiled, and then it is what it always is."""

import subprocess
import sys
from functools import partial

import pytest
import torch

from pipelab.engine import Pipeline
from pipelab.engine.launch import late_compiler
from pipelab.schedules import one_f_one_b

# In a new process each: the compiler, once loaded, stays.
BEGIN = """
import sys, torch
from pipelab.engine.launch import late_compiler
late_compiler.begin()
late = torch._dynamo
assert "torch._dynamo.eval_frame" not in sys.modules
"""
KEPT_OUT = """
def plain(x):
    return x + 1
kept_out = torch._disable_dynamo(plain)
by_name = torch._dynamo.disable(plain)
assert kept_out(1) == by_name(1) == 2
assert "torch._dynamo.eval_frame" not in sys.modules
assert float(torch.compile(lambda x: kept_out(x) * 2, backend="eager")(torch.ones(()))) == 4.0
assert "torch._dynamo.eval_frame" in sys.modules
for function in (kept_out, by_name):
    try:
        torch.compile(lambda x: function(x) * 2, backend="eager", fullgraph=True)(torch.ones(()))
    except torch._dynamo.exc.Unsupported:
        continue
    raise AssertionError("it was compiled, too")
"""
SAME = """
import torch._dynamo.config
settings = sys.modules["torch._dynamo.config"]
assert torch._dynamo.config is settings
assert "torch._dynamo.eval_frame" not in sys.modules
import torch._dynamo.utils as first
import torch._dynamo
assert torch._dynamo is late is sys.modules["torch._dynamo"]
assert type(late) is type(sys)
assert first is torch._dynamo.utils is sys.modules["torch._dynamo.utils"]
assert first.__spec__.loader.__class__.__name__ == "SourceFileLoader"
assert torch._dynamo.config is settings
assert torch._dynamo.trace_rules is sys.modules["torch._dynamo.trace_rules"]
assert not hasattr(torch._dynamo, "nothing of that name")
"""
THREADS = """
import threading
found = []
def look():
    found.append(torch._dynamo.OptimizedModule)
threads = [threading.Thread(target=look) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert found == [torch._dynamo.OptimizedModule] * 4
"""


@pytest.mark.parametrize("code", [KEPT_OUT, SAME, THREADS], ids=["kept out", "same", "threads"])
def test_what_is_loaded_late_is_the_compiler_itself(code):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def observed(output, target):
    print("compiler:", "torch._dynamo.eval_frame" in sys.modules)
    return torch.nn.functional.mse_loss(output, target)


@pytest.mark.parametrize(
    ("replicas", "options"),
    [
        (1, {"optimizer": partial(torch.optim.Adam, lr=0.1), "checkpoint": True}),
        (2, {"optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9), "clip_norm": 1.0}),
    ],
)
def test_ranks_that_compile_nothing_do_not_load_it(replicas, options, capfd):
    """Adam looks up what is compiled; replicas join over gloo, which clears what was traced."""
    model = [torch.nn.Linear(4, 4) for _ in range(2)]
    with Pipeline(model, one_f_one_b(2, 2), loss=observed, replicas=replicas, **options) as used:
        for _ in range(2):
            used.step(torch.ones(8, 4), torch.zeros(8, 4))
        used.state_dict()
    said = [line for line in capfd.readouterr().out.splitlines() if line.startswith("[rank ")]
    assert {line.partition("] ")[2] for line in said} == {"compiler: False"}


def test_a_process_that_has_it_keeps_it():
    assert torch._dynamo.config  # loads it
    before = sys.meta_path[:]
    late_compiler.begin()
    assert type(sys.modules["torch._dynamo"]) is type(sys)
    assert sys.meta_path == before
