"""Open the session of a rank: its device, its transport, and which worker runs its steps."""

import torch
import torch.distributed as dist

from pipelab.engine.protocol.commands import Build
from pipelab.engine.protocol.device import device_of
from pipelab.engine.rank.affinity import Affinity
from pipelab.engine.rank.data_parallel import DataParallel
from pipelab.engine.rank.recorder import Recorder
from pipelab.engine.rank.session import OtherWorker, Session
from pipelab.engine.rank.worker import Worker
from pipelab.engine.transport.backends import Channels, Tagged, Transport
from pipelab.engine.transport.groups import Groups, nccl
from pipelab.engine.transport.p2p import GroupMessages
from pipelab.engine.transport.rank_messages import Messages
from pipelab.engine.transport.ring_messages import RingMessages
from pipelab.engine.transport.rings import Rings
from pipelab.engine.transport.shared_memory import Shared


def open_session(
    recorder: Recorder, groups: Groups | None, affinity: Affinity, build: Build, timeout: float,
    shared: Shared | None = None,
) -> Session:  # fmt: skip
    """The session of a rank that knows its stages.

    ``groups``: the ranks that it has met over gloo; None if only memory is ``shared`` with them.
    """
    rank = recorder.rank
    device = device_of(build.options.place, rank)
    if shared is not None and build.options.place.is_shared:
        rings = Rings(rank, shared, timeout)
        messages: Messages = RingMessages(rings)
        data_parallel = DataParallel(None, None, timeout, add=rings.total)
    else:
        assert groups is not None, "no way to reach the other ranks"
        messages = _group_messages(rank, groups, build, device, timeout)
    if groups is not None:
        gpus = _gpus_of_replicas(rank, groups, build, device, timeout)
        data_parallel = DataParallel(groups.replicas, groups.pipeline, timeout, gpus, device)
    session = Session(recorder, messages, data_parallel, affinity, device, build)
    if build.options.worker == "torch":
        assert groups is not None, "torch's messages need them"
        session.other = _torchs_worker(session.worker, groups, timeout)
    return session


def _group_messages(
    rank: int, groups: Groups, build: Build, device: torch.device, timeout: float
) -> GroupMessages:
    transport: Transport
    transport = host = Tagged(groups.everyone, device)
    if build.options.place.is_ordered:
        transport = Channels(rank, device, groups.store, timeout)
    return GroupMessages(transport, host, build.num_stages, timeout)


def _gpus_of_replicas(
    rank: int, groups: Groups, build: Build, device: torch.device, timeout: float
) -> dist.ProcessGroup | None:
    """The ranks that hold the same stages as a group of NCCL's, where each has a GPU."""
    alike = groups.replicas
    if alike is None or not build.options.place.is_ordered:
        return None
    number, size = alike.rank(), alike.size()
    name = f"replicas of rank {rank % (groups.everyone.size() // size)}"
    return nccl(groups.store, name, number, size, device, timeout)


def _torchs_worker(worker: Worker, groups: Groups, timeout: float) -> OtherWorker:
    """The one import of it, made where it is chosen: torch.distributed.pipelining loads for 1 s."""
    from pipelab.engine.rank.torch_worker import TorchSteps

    return TorchSteps(worker, groups.pipeline or groups.everyone, timeout)
