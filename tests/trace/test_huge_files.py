"""A file of hundreds of megabytes is read in a stream: in bounded memory, with its progress."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelab.schedules import one_f_one_b
from tests.trace.foreign import device_events, kineto, runtime_events
from tests.traces import recorded_like

ROOT = Path(__file__).parents[2]
READ = r"""
import json, re, sys, time
from pipelab.trace import Trace
parts = []
start = time.process_time()
traces = Trace.read(sys.argv[1], lambda place: parts.append(place.done / place.total))
# not ru_maxrss: that is at least its parent's
peak = 1024 * int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1])
print(json.dumps([len(traces), time.process_time() - start, peak, parts[-1], len(parts),
                  traces[0].duration]))
"""


def inflate(path, megabytes, kernels):
    """Write events that say nothing of the pipeline into a file, as a profiler does."""
    data = json.loads(path.read_text())
    later = [json.dumps(event) for event in data.pop("traceEvents")]
    with path.open("w") as file:
        file.write(json.dumps(data)[:-1] + ', "traceEvents": [\n')
        size = number = 0
        while size < megabytes * 1e6:
            number += 1
            args = {"External id": number, "Input Dims": [[8, 64], [64, 64]], "Ev Idx": number}
            rows = [{"ph": "X", "cat": "cpu_op", "name": "aten::linear", "pid": 1, "tid": 1,
                     "ts": 1e6 + number / 3, "dur": 2.25, "args": args}]  # fmt: skip
            if kernels:
                args = {"correlation": 10**6 + number, "grid": [1, 2, 3], "stream": 7}
                rows += [
                    {"ph": "X", "cat": category, "name": name, "pid": 1, "tid": 1,
                     "ts": 3e6 + number / 3, "dur": 0.25, "args": args}
                    for category, name in (("cuda_runtime", "cudaLaunchKernel"), ("kernel", "gemm"))
                ]  # fmt: skip
            text = ",\n".join(json.dumps(row, indent=1) for row in rows) + ",\n"
            size += len(text)
            file.write(text)
        file.write(",\n".join(later) + "]}")


def measured(folder):
    done = subprocess.run([sys.executable, "-c", READ, folder], cwd=ROOT, capture_output=True,
                          text=True, check=False, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("kernels", [False, True])
def test_300_megabytes_take_half_a_minute_of_cpu_time_and_half_a_gigabyte(kernels, tmp_path):
    own = recorded_like(one_f_one_b(1, 8))
    (path,) = kineto(tmp_path, [own], device_events if kernels else runtime_events, windows=False)
    inflate(path, 300, kernels)
    steps, seconds, peak, last, _, duration = measured(tmp_path)
    print(f"{seconds:.1f} s, {peak / 1e6:.0f} MB")
    assert steps == 1 and duration == pytest.approx(own.duration, abs=1e-5)
    assert seconds < 30 and peak < 500e6 and last == 1.0


def test_memory_does_not_grow_with_what_is_not_read(tmp_path):
    peaks = []
    for megabytes in (1, 16):
        folder = tmp_path / str(megabytes)
        (path,) = kineto(folder, [recorded_like(one_f_one_b(1, 8))])
        inflate(path, megabytes, kernels=False)
        _, _, peak, last, parts, _ = measured(folder)
        assert last == 1.0 and parts >= megabytes
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 8e6, "half of what was read"
