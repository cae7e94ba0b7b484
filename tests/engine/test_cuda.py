"""GPUs: first what a stand-in can show, then what only a GPU can, skipped where there is none."""

import os
import subprocess
import sys
from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.action import Action, Kind
from pipelab.engine import Pipeline, verify_gradients
from pipelab.engine.protocol import device
from pipelab.engine.protocol.commands import Build, Options
from pipelab.engine.protocol.device import (
    DeviceClock,
    GpuClock,
    Place,
    choose,
    device_of,
)
from pipelab.engine.protocol.progress import Progress
from pipelab.engine.rank import data_parallel
from pipelab.engine.rank.affinity import Affinity
from pipelab.engine.rank.data_parallel import DataParallel
from pipelab.engine.rank.recorder import Recorder
from pipelab.engine.rank.session import Session
from pipelab.engine.rank.stage import Stage, seed_layers
from pipelab.engine.rank.update import Update
from pipelab.engine.torchrun.joined import TorchrunRanks
from pipelab.engine.transport import groups
from pipelab.engine.transport.backends import Channels, Tagged
from pipelab.engine.transport.p2p import GroupMessages
from pipelab.errors import PipelabError, RankOutOfMemory
from pipelab.models import mlp
from pipelab.partition.tree import raw_bytes
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.simulator import Cost

GPUS = torch.cuda.device_count()
needs_gpu = pytest.mark.skipif(GPUS < 1, reason="no GPU on this machine")
needs_two = pytest.mark.skipif(GPUS < 2, reason="NCCL wants a GPU for each rank: fewer than two")
X, Y = torch.randn(16, 16), torch.arange(16) % 10
SGD = partial(torch.optim.SGD, lr=0.1)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(PipelabError, match="'tpu' is unknown: choose 'auto', 'cpu' or 'cuda'"):
        Pipeline(mlp(), build("gpipe", 2, 2), loss=cross_entropy, device="tpu")
    if GPUS == 0:
        with pytest.raises(PipelabError, match="shows no GPU: use device='cpu'"):
            Pipeline(mlp(), build("gpipe", 2, 2), loss=cross_entropy, device="cuda")


def torchrun(monkeypatch, rank, ranks, local_rank, local_ranks):
    found = {"RANK": rank, "WORLD_SIZE": ranks, "TORCHELASTIC_RUN_ID": 1}
    found |= {"LOCAL_RANK": local_rank, "LOCAL_WORLD_SIZE": local_ranks}
    for name, value in found.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("gpus", "ranks", "backend"), [(8, 8, "nccl"), (8, 4, "nccl"), (2, 4, "gloo"), (8, 1, "gloo")]
)
def test_nccl_wants_a_gpu_for_each_rank(gpus, ranks, backend, monkeypatch):
    shown(monkeypatch, gpus)
    assert choose("auto", ranks) == choose("cuda", ranks) == Place("cuda", backend)
    assert choose("cpu", ranks) == Place("cpu", "shared memory")
    assert choose("auto", ranks, worker="torch") == Place("cpu", "gloo")
    assert choose("cuda", ranks, worker="torch").device == "cuda"  # refused later, with reasons


def test_gpus_that_this_torch_cannot_use_are_none(monkeypatch):
    shown(monkeypatch, 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # the driver is too old
    assert choose("auto", 4) == Place("cpu", "shared memory")
    with pytest.raises(PipelabError, match="shows no GPU: use device='cpu'"):
        choose("cuda", 4)


def shown(monkeypatch, gpus):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)


def test_each_machine_of_torchruns_has_gpus_for_its_own_ranks(monkeypatch):
    chosen = []
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", "8")  # what a user has set stays
    shown(monkeypatch, 4)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    torchrun(monkeypatch, rank=4, ranks=6, local_rank=1, local_ranks=3)  # 3 on each of 2 machines
    place = choose("auto", 6)
    assert place.backend == "nccl"
    assert device_of(place, 4) == torch.device("cuda", 1) == chosen[0]
    torchrun(monkeypatch, rank=9, ranks=10, local_rank=4, local_ranks=5)
    assert choose("auto", 10).backend == "gloo"  # 5 ranks here on 4 GPUs
    assert device_of(place, 9) == torch.device("cuda", 0)
    monkeypatch.setenv("PIPELAB_TORCHRUN", "0")  # ranks of our own, all of them here
    assert choose("auto", 6).backend == "gloo"
    assert device_of(place, 3) == torch.device("cuda", 3)
    assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == "8"


# The process that ranks are forked from must not look for GPUs: its children could use none.
LOOKS = """
import torch
for name in ("is_available", "device_count", "_lazy_init", "current_device"):
    setattr(torch.cuda, name, lambda *a, name=name: print("looked:", name))
torch.accelerator.current_accelerator = lambda *a, **k: print("looked")
import pipelab.engine.launch.preload
parameter = torch.nn.Parameter(torch.zeros(1))
print("preloaded")
parameter.grad = torch.zeros(1)
torch.optim.Adam([parameter]).step()
"""


def test_the_fork_server_never_looks_for_gpus():
    done = subprocess.run(
        [sys.executable, "-c", LOOKS], capture_output=True, text=True, timeout=60, check=True
    )
    before, _, after = done.stdout.partition("preloaded")
    assert "looked" not in before
    assert "looked" in after  # as Adam does: the stubs see it


def test_a_failure_to_let_nccl_go_hides_no_cause():
    class Stuck:
        closed = 0

        def close(self):
            self.closed += 1
            raise RuntimeError("unhandled cuda error")

    ranks, session, ends = object.__new__(TorchrunRanks), Stuck(), []
    ranks.session, ranks._end = session, lambda: ends.append(1)
    ranks.close()
    ranks.close()
    assert session.closed == 1 and len(ends) == 2


def test_replicas_add_up_by_the_host_in_a_first_batch_and_else_by_nccl(monkeypatch):
    class Group:
        def __init__(self, name):
            self.name = name

        def rank(self):
            return 0

        def allreduce(self, tensors):
            used.append(self.name)
            future = torch.futures.Future()
            future.set_result(tensors)
            return SimpleNamespace(get_future=lambda: future)

        def abort(self):
            used.append("abort")

    made = []  # clocks: a GPU's waits for the GPU when it is made, and to start must not
    monkeypatch.setattr(data_parallel, "clock_of", lambda d: made.append(d) or DeviceClock())
    used, stage = [], nn.Linear(2, 2)
    replicas = DataParallel(Group("gloo"), None, 1.0, Group("nccl"))
    for by_host in (True, False):
        replicas.begin(by_host)
        assert replicas.start(stage).by_nccl is not by_host
    assert len(made) == 1
    DataParallel(Group("gloo"), None, 1.0).close()
    replicas.close()
    assert used == ["gloo", "nccl", "abort"]


class Reads(nn.Module):
    def forward(self, x):
        assert os.environ["NCCL_OF_A_LEARNER"] == "7"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""  # else Adam would take memory of a GPU
        return x


def test_variables_for_gpus_that_are_set_late_reach_the_ranks(monkeypatch):
    monkeypatch.setenv("NCCL_OF_A_LEARNER", "7")
    model = nn.Sequential(nn.Linear(16, 10), Reads())
    with Pipeline(model, build("gpipe", 2, 2), loss=cross_entropy, device="cpu") as pipeline:
        pipeline.step(X, Y)


class Gpu:
    """A clock that runs a little fast, and events that give milliseconds as CUDA does."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(device, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: Mark(self))

    @property
    def milliseconds(self):
        return self.now * 1e3 * (1 + 20e-6)


class Mark:
    def __init__(self, gpu):
        self.gpu = gpu

    def record(self):
        self.at = self.gpu.milliseconds

    def synchronize(self):
        pass

    def elapsed_time(self, later):
        return torch.tensor(later.at - self.at, dtype=torch.float32).item()


def test_times_of_a_gpu_stay_exact_for_days(monkeypatch):
    gpu = Gpu(monkeypatch)
    clock = GpuClock()
    for _ in range(3):
        gpu.now += 86_400.0
        clock.begin()
        for seconds in (0.0, 0.0005, 1.0):
            gpu.now += seconds
            assert clock.seconds(clock.now()) == pytest.approx(gpu.now, abs=50e-6, rel=0)


def test_a_rank_that_waits_for_its_gpu_does_not_wait_for_messages_posted_ahead(monkeypatch):
    Gpu(monkeypatch)
    waited = []
    stream = SimpleNamespace(synchronize=lambda: waited.append("computation"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append("all streams"))
    GpuClock().finish()
    assert waited == ["computation"]


def test_both_ends_of_a_channel_make_the_same_group_and_greet_each_other(monkeypatch):
    seen = []

    def nccl(store, name, rank, size, device, timeout):
        def start(how):
            return lambda tensors, peer, tag: SimpleNamespace(
                is_completed=lambda: True, wait=lambda _: seen.append((name, rank, how, peer))
            )

        return SimpleNamespace(send=start("send"), recv=start("receive"))

    monkeypatch.setattr(groups, "nccl", nccl)
    ends = {}
    for rank in (1, 2):
        channels = Channels(rank, torch.device("cpu"), store=None, timeout=1.0)
        channels.open([(2, 1), (1, 2)])
        channels.open([(1, 2)])  # the next schedule may use the same ones
        ends[rank], seen = seen, []
    assert ends[1] == [("from 1 to 2", 0, "send", 1), ("from 2 to 1", 1, "receive", 0)]
    assert ends[2] == [("from 1 to 2", 1, "receive", 0), ("from 2 to 1", 0, "send", 1)]


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.int16, torch.uint32, torch.bfloat16, torch.complex64]
)
def test_messages_of_nccl_are_bytes_in_place_whatever_they_hold(shape, dtype):
    tensor, other = torch.ones(shape).to(dtype), torch.zeros(shape).to(dtype)
    assert raw_bytes(tensor).dtype is torch.uint8 and raw_bytes(tensor).dim() == 1
    raw_bytes(other).copy_(raw_bytes(tensor))
    assert other.tolist() == tensor.tolist()


def test_a_message_of_nccl_is_late_by_when_it_is_waited_for():
    waited = []
    ready = iter([False, False, True])
    work = SimpleNamespace(is_completed=lambda: next(ready), wait=waited.append)
    groups.finish(work, 10.0)
    assert waited == [timedelta(seconds=10)]
    never = SimpleNamespace(is_completed=lambda: False)
    with pytest.raises(groups.TimedOut, match=r"not complete after 0\.01 s"):
        groups.finish(never, 0.01)


def test_random_layers_are_seeded_on_a_gpu_and_on_its_host(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed", seeds.append)
    with torch.random.fork_rng(devices=[]):
        seed_layers(5, "cuda")
        seed_layers(6, "cpu")
        assert (seeds, torch.initial_seed()) == ([5], 6)


META = torch.device("meta")  # tensors elsewhere than on the host, as those of a GPU are


WEIGHT = torch.ones(10)


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(weight=WEIGHT), partial(cross_entropy, weight=WEIGHT)]
)
def test_the_weights_of_a_loss_go_where_its_stage_is(loss, tmp_path):
    built = Build({0: nn.Linear(3, 10)}, 1, Options(loss, SGD))
    host = Tagged(None, META)
    messages, alone = GroupMessages(host, host, 1, 1.0), DataParallel(None, None, 1.0)
    session = Session(
        Recorder(0, Progress(tmp_path, 1)), messages, alone, Affinity(0, 1, threads=0), META, built
    )
    (stage,) = session.worker.stages.values()
    there = stage.loss.weight if isinstance(loss, nn.Module) else stage.loss.keywords["weight"]
    assert {t.device for t in [*stage.parameters, there]} == {META}
    assert WEIGHT.device.type == "cpu"


def test_an_optimizers_state_is_loaded_to_where_its_parameters_are():
    def update_of(module):
        options = Options(cross_entropy, partial(torch.optim.Adam, lr=0.1))
        stages = {0: Stage(0, module, True, options)}
        return Update(stages, options, DataParallel(None, None, 1.0))

    here, there = update_of(nn.Linear(2, 2)), update_of(nn.Linear(2, 2, device=META))
    for parameter in here.stages[0].parameters:
        parameter.grad = torch.ones_like(parameter)
    here.step(0)
    there.load(here.state())
    entries = list(there.optimizers[0].state.values())
    assert len(entries) == 2
    for entry in entries:
        assert entry["exp_avg"].device == entry["exp_avg_sq"].device == META
        assert entry["step"].device.type == "cpu" and entry["step"] == 1


def test_an_all_reduce_of_a_paced_gpu_ends_when_it_is_due(monkeypatch, tmp_path):
    gpu = Gpu(monkeypatch)
    recorder = Recorder(0, Progress(tmp_path, 1))
    recorder.clock = GpuClock()
    for _ in range(2):
        with recorder.record(Action(0, Kind.REDUCE_GRAD)):
            pass
    ended = recorder.clock.now()
    recorder.end_at(0, ended, until=gpu.now + 5.0)
    recorder.end_at(1, ended, until=gpu.now - 5.0)
    assert [row[2] for row in recorder.events] == [gpu.now + 5.0, pytest.approx(gpu.now)]


class TooLarge(nn.Linear):
    """Fails as CUDA's allocator does."""

    def forward(self, x):
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 "
            "GiB of which 1.25 GiB is free. Including non-PyTorch memory, this process has 77 GiB."
        )


def test_a_full_gpu_gets_the_error_of_a_budget_that_is_used_up():
    model = nn.Sequential(nn.Linear(16, 16), TooLarge(16, 10))
    words = (
        r"rank 1 ran out of memory in 1F0 .*: CUDA out of memory. Tried to allocate 2.00 GiB. "
        r"GPU 0 has a total capacity of 79.10 GiB of which 1.25 GiB is free. Including non-PyTorch "
        r"memory, this process has 77 GiB.\n.*Cut the model into more stages"
    )
    with (
        pytest.raises(RankOutOfMemory, match=words) as caught,
        Pipeline(model, build("gpipe", 2, 2), loss=cross_entropy) as pipeline,
    ):
        pipeline.step(X, Y)
    assert caught.value.rank == 1 and caught.value.action == "1F0"


def gradients_are_right(schedule: Schedule, device: str, **options: object) -> None:
    report = verify_gradients(mlp(), schedule, X, Y, cross_entropy, device=device, **options)
    worst = max(row.max_difference for row in report.parameters)
    assert worst < 1e-4, str(report)  # a GPU adds up in another order than the host


@needs_gpu
@pytest.mark.parametrize("name", BUILDERS)
def test_every_schedule_on_gpus(name):
    gradients_are_right(build(name, 2, 4), "cuda")


@needs_gpu
def test_ranks_share_gpus_through_the_host():
    schedule = build("1f1b", GPUS + 1, 4)  # one rank more than there are GPUs: gloo, staged
    model = mlp(depth=GPUS + 1)
    with Pipeline(model, schedule, loss=cross_entropy, optimizer=SGD, device="cuda") as pipeline:
        result = [pipeline.step(X, Y) for _ in range(2)][-1]
        state, trace = pipeline.state_dict(), result.trace
    assert (trace.setting.device, trace.setting.backend) == ("cuda", "gloo")
    assert all(tensor.device.type == "cpu" for tensor in state.values())
    for allocated, memory in zip(result.allocated, trace.memory, strict=True):
        assert allocated >= memory.parameters
    events = [e for e in trace.events if e.kind in "FB"]
    assert len(events) == 2 * 4 * (GPUS + 1)
    assert all(0 <= e.start < e.end for e in events)


@needs_gpu
def test_replicas_memory_and_pacing_on_gpus():
    gradients_are_right(build("zero_bubble_h1", 2, 2), "cuda", replicas=2)
    gradients_are_right(build("1f1b", 2, 2), "cuda", checkpoint=True)
    cost = Cost(0.01, 0.01, 0.01, latency=0.002)
    with Pipeline(
        mlp(), build("1f1b", 2, 4), loss=cross_entropy, pace=cost, device="cuda"
    ) as pipeline:
        trace = [pipeline.step(X, Y).trace for _ in range(2)][-1]
    assert min(e.end - e.start for e in trace.events if e.kind == "F") > 0.008


@needs_two
@pytest.mark.parametrize("name", BUILDERS)
def test_nccl(name):
    schedule = build(name, 2, 4)
    gradients_are_right(schedule, "cuda")
    with Pipeline(mlp(), schedule, loss=cross_entropy, device="cuda") as pipeline:
        pipeline.step(X, Y)
        by_the_host = pipeline.gradients()  # the first batch of a form
        for _ in range(2):
            assert pipeline.step(X, Y).trace.setting.backend == "nccl"
            for name, gradient in pipeline.gradients().items():
                assert torch.allclose(gradient, by_the_host[name], atol=1e-6), name
