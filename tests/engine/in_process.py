"""Ranks in one process, one thread each: for tests of the driver and of the main loop alone.

They answer the same commands as ranks that are processes, in milliseconds. Never for a learner:
they share one interpreter, so they cannot train faster than one process, and

    random layers        draw from one generator for all threads: dropout is not reproducible
    threads of torch     are one for each rank, whatever the machine has
    processes            a test of affinity, memory, output, signals or deadlines needs real ones
    messages over gloo   are those of a double: ``Link`` below
    CUDA                 one current device per thread, but one allocator

Gradient mode and autocast are settings of each thread, so they work as on real ranks.

``Link`` carries the messages, as gloo does (with tags) or as NCCL does (in order). ``Sums`` adds up
over replicas.
"""

import queue
import threading
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import torch

from pipelab.engine.failures.cause import cause
from pipelab.engine.failures.findings import Findings
from pipelab.engine.failures.sentences import unsendable
from pipelab.engine.protocol.commands import Build, Done, dumps
from pipelab.engine.protocol.progress import Progress
from pipelab.engine.rank.affinity import Affinity
from pipelab.engine.rank.data_parallel import DataParallel
from pipelab.engine.rank.raised import failure_of
from pipelab.engine.rank.recorder import Recorder
from pipelab.engine.rank.session import Session
from pipelab.engine.transport.groups import START_TIMEOUT  # the first optimizer loads for seconds
from pipelab.engine.transport.p2p import GroupMessages

TIMEOUT = 5.0


class Link:
    """All channels between all ranks. With ``tags``, gloo's rules; without, NCCL's.

    Without tags the n-th send from one rank to another goes into the n-th buffer that was opened
    there, whatever was meant. A send is not complete before; a buffer of another shape is an error.
    """

    def __init__(self, tags):
        self.tags = tags
        self.sent = 0
        self.is_broken = False
        self.change = threading.Condition()
        self.sends, self.receives = defaultdict(deque), defaultdict(deque)

    def put(self, channel, tag, tensor, sends):
        key = (*channel, tag if self.tags else None)
        mine, other = (self.sends, self.receives) if sends else (self.receives, self.sends)
        work = Work(self, tensor)
        with self.change:
            self.sent += sends
            mine[key].append(work)
            while mine[key] and other[key]:
                source, goal = self.sends[key].popleft(), self.receives[key].popleft()
                same = (source.tensor.shape, source.tensor.dtype)
                source.crossed = goal.crossed = same != (goal.tensor.shape, goal.tensor.dtype)
                if not goal.crossed:
                    goal.tensor.copy_(source.tensor)
                source.done = goal.done = True
            self.change.notify_all()
        return work

    def cut(self):
        """As when a rank's process ends: whoever waits for a message gets an error at once."""
        with self.change:
            self.is_broken = True
            self.change.notify_all()


class Work:
    """One message, or one sum, under way."""

    def __init__(self, link, tensor):
        self.link, self.tensor, self.done, self.crossed = link, tensor, False, False

    def wait(self, timeout=None):
        with self.link.change:
            if not self.link.change.wait_for(lambda: self.done or self.link.is_broken, TIMEOUT):
                raise RuntimeError("deadlock: nobody meets this message")
            if not self.done:
                raise RuntimeError("Connection closed by peer")
        if self.crossed:
            raise RuntimeError("crossed: this message went into the buffer of another")

    def get_future(self):
        return self.future


class End:
    """One rank's end of a link, with the face of a transport."""

    def __init__(self, link, rank):
        self.link, self.rank, self.channels = link, rank, set()

    def open(self, channels):
        self.channels.update(channels)

    def send(self, tensor, peer, tag):
        assert self.link.tags or (self.rank, peer) in self.channels
        return self.link.put((self.rank, peer), tag, tensor, sends=True)

    def receive(self, buffer, peer, tag):
        assert self.link.tags or (peer, self.rank) in self.channels
        return self.link.put((peer, self.rank), tag, buffer, sends=False)

    def finish(self, work, timeout):
        work.wait(timeout)

    def close(self):
        pass

    def buffer(self, shape, dtype):
        return torch.empty(shape, dtype=dtype)

    def outgoing(self, tensor):
        return tensor.detach().contiguous()

    def arrived(self, buffer):
        return buffer


class Sums:
    """The n-th all-reduce of each member of a group is one sum, in the members' order."""

    def __init__(self, link, size):
        self.link, self.size = link, size
        self.waiting = defaultdict(dict)  # number of the sum -> member -> its work


class Member:
    """One rank's place in a group, with the face of a process group."""

    def __init__(self, sums, place):
        self.sums, self.place, self.number = sums, place, 0

    def rank(self):
        return self.place

    def size(self):
        return self.sums.size

    def allreduce(self, tensors):
        (tensor,) = tensors
        work = Work(self.sums.link, tensor)
        work.future = torch.futures.Future()
        with self.sums.link.change:
            works = self.sums.waiting[self.number]
            works[self.place] = work
            self.number += 1
            if len(works) == self.sums.size:
                total = sum(works[place].tensor for place in range(self.sums.size))
                for one in works.values():
                    one.tensor.copy_(total)
                    one.done = True
                    one.future.set_result(None)
                self.sums.link.change.notify_all()
        return work


def groups(link, num_ranks, replicas):
    """For each rank, its place among its replicas and in its copy of the pipeline, or None."""
    p = num_ranks // replicas
    alike = [Sums(link, replicas) for _ in range(p)]
    copies = [Sums(link, p) for _ in range(replicas)]
    return [
        (
            Member(alike[rank % p], rank // p) if replicas > 1 else None,
            Member(copies[rank // p], rank % p) if p > 1 else None,
        )
        for rank in range(num_ranks)
    ]


def open_session(recorder, build, transport, host, replicas=None, pipeline=None, timeout=TIMEOUT):
    """A rank without a process: what ``rank.session.open_session`` makes of real groups."""
    messages = GroupMessages(transport, host, build.num_stages, timeout)
    data_parallel = DataParallel(replicas, pipeline, timeout)
    affinity = Affinity(recorder.rank, 1, threads=0)  # bound to no core
    return Session(recorder, messages, data_parallel, affinity, torch.device("cpu"), build)


class InProcessRanks:
    """The ranks of one pipeline, a thread each; the face of ``pipelab.engine.ranks.Ranks``."""

    pids = ()
    clock_error = 0.0
    why_closed = ""

    def __init__(self, num_ranks, replicas, folder):
        self.link = Link(tags=True)
        self.pages = [Progress(Path(folder), num_ranks) for _ in range(num_ranks)]
        self.recorders = [Recorder(rank, page) for rank, page in enumerate(self.pages)]
        self.groups = groups(self.link, num_ranks, replicas)
        self.sessions = [None] * num_ranks
        self.is_closed = False
        self.questions = [queue.SimpleQueue() for _ in range(num_ranks)]
        self.answered = [queue.SimpleQueue() for _ in range(num_ranks)]
        self.given = deque()
        self.threads = [
            threading.Thread(target=self._serve, args=(rank,), daemon=True)
            for rank in range(num_ranks)
        ]
        for thread in self.threads:
            thread.start()

    def _serve(self, rank):
        torch.set_num_threads(1)  # as on ranks that share two cores
        while (message := self.questions[rank].get()) is not None:
            try:
                answer = self._answer(rank, cloudpickle.loads(message))
            except Exception as error:
                answer = failure_of(self.recorders[rank], error)
                self.link.cut()
            self.answered[rank].put(dumps(answer))

    def _answer(self, rank, command):
        if isinstance(command, Build):
            recorder, end = self.recorders[rank], End(self.link, rank)
            self.sessions[rank] = open_session(recorder, command, end, end, *self.groups[rank])
            return Done()
        answer = self.sessions[rank].answer(command)
        if self.questions[rank].empty():
            self.sessions[rank].settle()
        return answer

    def begun(self):
        return self.pages[0].begun()

    def ready(self, meet_again=False):
        pass

    def ask(self, commands, meanwhile=None):
        self.give(commands)
        if meanwhile is not None:
            meanwhile()
        return self.answers()

    def give(self, commands):
        with self._working():
            # pickled as for processes: what a rank does to its batch the caller never sees
            for rank, command in enumerate(commands):
                try:
                    message = dumps(command)
                except Exception as error:
                    raise unsendable(rank, command, error) from error
                self.questions[rank].put(message)
            self.given.append(commands)

    def answers(self):
        with self._working():
            answers = [cloudpickle.loads(q.get(timeout=START_TIMEOUT)) for q in self.answered]
            commands = self.given.popleft()
            found = Findings(commands, dict(enumerate(answers)), {}, self.begun(), TIMEOUT)
            if error := cause(found):
                raise error
            return answers

    @contextmanager
    def _working(self):
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self):
        if not self.is_closed:
            self.is_closed = True
            self.link.cut()
            for question in self.questions:
                question.put(None)
            for thread in self.threads:
                thread.join(TIMEOUT)
            for page in self.pages:
                page.close()


def in_threads(calls):
    """The results of calls that run at once; the first error of any."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        for future in as_completed(futures):
            future.result()
    return [future.result() for future in futures]
