"""The front end's own functions, without a page: run by node, where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pipelab.schedules import one_f_one_b, zero_bubble_v
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace
from pipelab.widgets import front
from pipelab.widgets.data import head, packed

CASES = sorted(Path(__file__).parent.glob("front/*.mjs"))


def write_trace(trace: Trace, path: Path) -> None:
    import json

    data = {"head": head(trace), "data": list(packed(trace.events))}
    path.write_text(json.dumps(data), "utf-8")


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_front(case, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here: the front end's functions are tried in the browser only")
    module = front.script(*front.PARTS, "controls", "chart", "lab")
    (tmp_path / "front.mjs").write_text(module, "utf-8")
    write_trace(simulate(one_f_one_b(4, 8), Cost(latency=0.1)), tmp_path / "1f1b.json")
    write_trace(simulate(zero_bubble_v(2, 4), Cost(latency=0.1)), tmp_path / "v.json")
    shutil.copy(case, tmp_path / case.name)
    result = subprocess.run(
        [node, case.name], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
