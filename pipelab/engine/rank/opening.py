"""Open the session of a rank: its device, its transport, and which worker runs its steps."""

from pipelab.engine.protocol.commands import Build
from pipelab.engine.protocol.device import device_of
from pipelab.engine.rank.affinity import Affinity
from pipelab.engine.rank.data_parallel import DataParallel
from pipelab.engine.rank.recorder import Recorder
from pipelab.engine.rank.session import OtherWorker, Session
from pipelab.engine.rank.worker import Worker
from pipelab.engine.transport.backends import Channels, Tagged, Transport
from pipelab.engine.transport.groups import Groups, nccl
from pipelab.engine.transport.p2p import Messages


def open_session(
    recorder: Recorder, groups: Groups, affinity: Affinity, build: Build, timeout: float
) -> Session:
    """The session of a rank that has met the others and knows its stages."""
    place, rank = build.options.place, recorder.rank
    device = device_of(place, rank)
    transport: Transport
    transport = host = Tagged(groups.everyone, device)
    replicas, gpus = groups.replicas, None
    if place.is_ordered:
        transport = Channels(rank, device, groups.store, timeout)
        if replicas is not None:
            number, size = replicas.rank(), replicas.size()
            name = f"replicas of rank {rank % (groups.everyone.size() // size)}"
            gpus = nccl(groups.store, name, number, size, device, timeout)
    messages = Messages(transport, host, build.num_stages, timeout)
    data_parallel = DataParallel(replicas, groups.pipeline, timeout, gpus, device)
    session = Session(recorder, messages, data_parallel, affinity, device, build)
    if build.options.worker == "torch":
        session.other = _torchs_worker(session.worker, groups, timeout)
    return session


def _torchs_worker(worker: Worker, groups: Groups, timeout: float) -> OtherWorker:
    """The one import of it, made where it is chosen: torch.distributed.pipelining loads for 1 s."""
    from pipelab.engine.rank.torch_worker import TorchSteps

    return TorchSteps(worker, groups.pipeline or groups.everyone, timeout)
