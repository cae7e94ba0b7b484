"""Traces and checkpoints are data, never code; nothing is written outside the folders named."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelab.engine.driver import checkpoint
from pipelab.errors import CheckpointError, TraceError
from pipelab.schedules import gpipe
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace

QUIET = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
TRACE = simulate(gpipe(2, 2), Cost(forward=1.0, backward_input=1.0, backward_weight=1.0))
STATE = checkpoint.Checkpoint(
    {"0.weight": torch.arange(6.0).reshape(2, 3)},
    {"0.weight": {"step": torch.tensor(1.0)}, "stage 0": {"kind": "SGD", "groups": [{"lr": 0.1}]}},
    3,
)


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "hacked")


@st.composite
def damages(draw):
    """A damage to bytes: cut off, turned over in places, or something else altogether."""
    cut = draw(st.floats(0.0, 1.0))
    flips = draw(st.lists(st.tuples(st.floats(0.0, 0.999), st.integers(0, 255)), max_size=5))
    other = draw(st.none() | st.binary(max_size=200))

    def damage(data):
        if other is not None:
            return other
        data = bytearray(data if not flips else data[: max(1, int(len(data) * max(cut, 0.5)))])
        for place, value in flips:
            data[int(place * len(data))] = value
        return bytes(data) if flips else bytes(data[: int(cut * len(data))])

    return damage


@given(damages())
@QUIET
def test_a_damaged_trace_is_refused_in_words_or_read_as_a_trace(tmp_path, damage):
    path = TRACE.save(tmp_path / "trace.json")
    path.write_bytes(damage(path.read_bytes()))
    try:
        assert isinstance(Trace.load(path), Trace)
    except TraceError as error:
        assert "trace.json" in str(error)


@given(damages())
@QUIET
def test_a_damaged_checkpoint_is_refused_in_words_or_read_as_a_checkpoint(tmp_path, damage):
    path = checkpoint.save(tmp_path, STATE)
    path.write_bytes(damage(path.read_bytes()))
    try:
        assert isinstance(checkpoint.load(tmp_path), checkpoint.Checkpoint)
    except CheckpointError as error:
        assert "checkpoint.pt" in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(st.sampled_from(["source", "setting", "memory", "events", "version", "format"]), JSON)
@QUIET
def test_a_trace_with_any_value_in_any_place_is_refused_in_words(tmp_path, key, value):
    path = TRACE.save(tmp_path / "trace.json")
    data = json.loads(path.read_text("utf-8"))
    data[key] = value
    path.write_text(json.dumps(data), "utf-8")
    try:
        Trace.load(path)
    except TraceError as error:
        assert "trace.json" in str(error)


@pytest.mark.parametrize("name", ["plain", "torch"])
def test_a_hostile_checkpoint_runs_no_code(tmp_path, name):
    target = tmp_path / "target"
    path = tmp_path / "checkpoint.pt"
    if name == "plain":
        path.write_bytes(pickle.dumps(Hostile(target)))
    else:
        torch.save({"format": "pipelab-checkpoint", "model": Hostile(target)}, path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        checkpoint.load(tmp_path)
    assert not target.exists()


def test_a_hostile_trace_runs_no_code(tmp_path):
    path = tmp_path / "trace.json"
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "target")))
    with pytest.raises(TraceError, match="cannot be read"):
        Trace.load(path)
    assert not (tmp_path / "target").exists()


def test_a_tensor_that_claims_more_than_its_file_is_refused(tmp_path):
    huge = torch.zeros(1).expand(10**6, 10**6)  # 4 TB once somebody copies it
    checkpoint.save(tmp_path, STATE._replace(optimizer={"0.weight": {"momentum": huge}}))
    assert (tmp_path / "checkpoint.pt").stat().st_size < 10_000
    with pytest.raises(CheckpointError, match=r"claims 4,000,000,000,000 bytes"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(("load", "error"), [("trace", TraceError), ("state", CheckpointError)])
def test_a_pipe_or_a_huge_file_is_refused_at_once(tmp_path, load, error):
    path = tmp_path / "checkpoint.pt"
    reads = {"trace": lambda: Trace.load(path), "state": lambda: checkpoint.load(tmp_path)}
    os.mkfifo(path)  # to read it would hang
    with pytest.raises(error, match="not a plain file"):
        reads[load]()
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte that takes no room
    with pytest.raises(error):
        reads[load]()


@pytest.mark.parametrize("what", ["trace", "checkpoint"])
def test_a_failed_save_keeps_the_earlier_file(tmp_path, monkeypatch, what):
    save = {
        "trace": lambda: TRACE.save(tmp_path / "trace.json"),
        "checkpoint": lambda: checkpoint.save(tmp_path, STATE),
    }[what]
    path = save()
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        save()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]  # nothing half written either


WRITES = """
import os, sys, tempfile, torch
from pathlib import Path
from pipelab.engine import Pipeline
from pipelab.models import mlp
from pipelab.schedules import gpipe
with Pipeline(mlp(), gpipe(2, 2), loss=torch.nn.functional.cross_entropy) as pipeline:
    result = pipeline.step(torch.randn(4, 16), torch.randint(10, (4,)))
    pipeline.save(sys.argv[1])
    result.trace.save(Path(sys.argv[1]) / "trace.json")
"""


def test_nothing_is_written_outside_the_folders_named(tmp_path_factory):
    below = tmp_path_factory.mktemp("data")  # not tmp_path: a socket's path is a short one
    home, temporary, work, out = (below / n for n in ("home", "tmp", "work", "out"))
    for folder in (home, temporary, work, out):
        folder.mkdir()
    home.chmod(0o500)
    environment = os.environ | {"HOME": str(home), "TMPDIR": str(temporary)}
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        environment.pop(name, None)
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", WRITES, str(out)], cwd=work, env=environment,
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert list(home.iterdir()) == list(work.iterdir()) == []
    assert [p.name for p in temporary.iterdir() if p.name.startswith("pipelab")] == []
    assert sorted(p.name for p in out.iterdir()) == ["checkpoint.pt", "trace.json"]
    assert tempfile.gettempdir() not in {str(home), str(work)}
