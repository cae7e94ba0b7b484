"""Under torchrun the same script gives the same numbers, on one node and on two."""

import json
import os
import runpy
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from pipelab.action import Kind
from pipelab.engine.protocol.host import under_torchrun
from pipelab.engine.torchrun import members as module
from pipelab.engine.torchrun.joined import TorchrunRanks
from pipelab.engine.torchrun.members import Member, address_of
from pipelab.errors import LaunchError
from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace

SCRIPT = Path(__file__).with_name("several.py")
ROOT = SCRIPT.parent.parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def start(*command):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def end(process):
    """Exit code and stderr; nothing may be left hanging."""
    try:
        _, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, errors


def two_agents(folder, mode):
    """Two agents on this machine, each as one node with one rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    where = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1"]
    agents = [
        start(*TORCHRUN, *where, "--master-port", port, "--node-rank", node, SCRIPT, folder, mode)
        for node in "01"
    ]
    return [end(agent) for agent in agents]


def results_of(folder, rank):
    return json.loads((folder / f"rank-{rank}.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The script without torchrun, in this process, which has torch and a fork server already."""
    folder, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), str(folder), "alone"])
        runpy.run_path(str(SCRIPT))
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def one_node(tmp_path_factory):
    """At its end rank 1 raises."""
    folder = tmp_path_factory.mktemp("one-node")
    place = ["--standalone", "--nproc-per-node", "2"]
    code, errors = end(start(*TORCHRUN, *place, SCRIPT, folder, "one node"))
    assert code == 1, errors
    return folder


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory):
    """Rank 1's clock is 5 s ahead; at the end it is killed. The folder, and how both ended."""
    folder = tmp_path_factory.mktemp("two-nodes")
    return folder, two_agents(folder, "two nodes")


def test_the_same_numbers_as_with_launched_ranks(alone, one_node, two_nodes):
    want = results_of(alone, 0)
    assert len(set(want["losses"])) == 3
    for folder in (one_node, two_nodes[0]):
        for rank in (0, 1):
            found = results_of(folder, rank)
            assert found["losses"] == want["losses"]
            assert found["state"] == want["state"]
            assert found["in flight"] == want["in flight"]
            assert found["overlap"] == 4
            assert found["replicas"] == want["replicas"] == [True, want["replicas"][1]]
            assert found["tied"] == want["tied"]
            assert found["tied"][:2] == [True, True] and len(set(found["tied"])) == 5
            assert found["exact"] == want["exact"] == [True] * len(want["exact"]) != []


def test_each_process_is_one_rank(one_node, two_nodes):
    for folder in (one_node, two_nodes[0]):
        assert results_of(folder, 0)["pids"] == results_of(folder, 1)["pids"]
        assert len(set(results_of(folder, 0)["pids"])) == 2


def test_operators_lie_under_their_bars_whatever_the_clocks_say(alone, one_node, two_nodes):
    for folder in (alone, one_node, two_nodes[0]):
        found = results_of(folder, 0)
        assert found["linears"] == [4 * 4, 4 * 4]  # four layers a stage, four microbatches
        assert found["in their F"] == sum(found["linears"])


@pytest.mark.parametrize("rank", [0, 1])
def test_every_rank_has_the_whole_trace(one_node, rank):
    trace = Trace.load(one_node / f"trace-{rank}.json")
    for r, row in enumerate(one_f_one_b(2, 4).ranks):
        own = [e for e in trace.events if e.rank == r]
        computed = [(e.stage, e.kind, e.microbatch) for e in own if e.kind in "FB"]
        assert computed == [tuple(action) for action in row]
    assert trace.setting.clock_error == 0.0  # one machine, one clock
    assert "clocks" not in trace.source_line


def test_no_effect_before_its_cause_though_one_clock_is_5_s_ahead(two_nodes):
    trace = Trace.load(two_nodes[0] / "trace-0.json")
    error = trace.setting.clock_error
    assert 0 < error < 0.01
    assert f"clocks ± {error * 1e3:.2g} ms" in trace.source_line
    offset, own_error, _ = results_of(two_nodes[0], 1)["clock"]
    assert abs(offset + 5.0) <= own_error <= error  # both ran on one machine: the truth is known
    assert trace.duration < 1
    at = {(e.kind, e.stage, e.microbatch): e for e in trace.events}
    for i in range(4):
        assert at[Kind.F, 1, i].start >= at[Kind.F, 0, i].end - error
        assert at[Kind.B, 0, i].start >= at[Kind.B, 1, i].end - error


def test_pacing_holds_across_clocks(two_nodes):
    cost = Cost(forward=0.010, backward_input=0.010, backward_weight=0.010, latency=0.002)
    want = simulate(one_f_one_b(2, 4), cost).duration
    for rank in (0, 1):
        assert 0.95 * want < results_of(two_nodes[0], rank)["paced"] < 1.5 * want


def test_processes_that_do_not_do_the_same_are_reported(two_nodes):
    for rank in (0, 1):
        found = results_of(two_nodes[0], rank)
        where, _, words = found["other data"]
        assert where == 1
        assert "rank 1 has another batch than rank 0" in words and "manual_seed" in words
    where, _, words = results_of(two_nodes[0], 0)["other call"]
    assert where == 1
    assert "rank 1 has left" in words
    assert results_of(two_nodes[0], 0)["other call seconds"] < 8  # no deadline was waited for


def test_an_error_of_the_script_s_own_is_theirs_and_so_are_its_connections(two_nodes):
    """EOFError is what a closed pipe raises, too; and what was open while ranks met was closed."""
    for rank in (0, 1):
        found = results_of(two_nodes[0], rank)
        where, action, words = found["end of file"]
        assert (where, action) == (1, "1F2") and "EOFError: my own file\n" in words
        assert 'raise EOFError("my own file")' in words
        assert found["own connection"] == "?"
        assert found["end of file repr"].startswith(f"<Pipeline: this process is rank {rank} of 2")


def test_a_killed_rank_ends_both_nodes_in_words(two_nodes):
    (code, errors), (other_code, other_errors) = two_nodes[1]
    assert code != 0 and other_code != 0
    assert "pipelab.errors.RankDied: rank 1 died" in errors and "no heartbeat" in errors
    assert "SIGKILL" in other_errors  # torchrun's own words, on the killed rank's node


BUG = "rank 1 failed in 1F2 (stage 1, forward, microbatch 2): KeyError: 'my own bug'"


@pytest.mark.parametrize("rank", [0, 1])
def test_an_exception_is_named_on_every_rank(one_node, rank):
    words = (one_node / f"error-{rank}").read_text()
    assert words.startswith(BUG)
    assert "several.py" in words
    assert "reset" not in words and "closed by peer" not in words


@pytest.mark.slow
def test_an_exception_ends_both_nodes(tmp_path):
    for code, errors in two_agents(tmp_path, "raise"):
        assert code != 0
        assert f"pipelab.errors.RankError: {BUG}" in errors
        assert "reset" not in errors and "closed by peer" not in errors


@pytest.mark.slow
def test_two_network_namespaces(tmp_path):
    """Two nodes that share no loopback: gloo must find the address that the other one reaches."""
    try:
        with namespaces("pipelab-a", "pipelab-b") as prefixes:
            where = ["--nnodes", "2", "--master-addr", "10.99.0.1", "--master-port", "29511"]
            script = [SCRIPT, tmp_path, "namespaces"]
            agents = [
                start(*prefix, *TORCHRUN, *where, "--node-rank", str(node), *script)
                for node, prefix in enumerate(prefixes)
            ]
            for code, errors in [end(agent) for agent in agents]:
                assert code == 1 and BUG in errors, errors
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    assert results_of(tmp_path, 0)["losses"] == results_of(tmp_path, 1)["losses"]
    assert 0 < Trace.load(tmp_path / "trace-1.json").setting.clock_error < 0.01


@contextmanager
def namespaces(*names):
    """Two namespaces and a wire between them; the prefix of a command in each."""
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        first, second = names
        ip("link", "add", "va", "netns", first, "type", "veth", "peer", "vb", "netns", second)
        for number, (name, wire) in enumerate(zip(names, ("va", "vb"), strict=True), 1):
            ip("-n", name, "addr", "add", f"10.99.0.{number}/24", "dev", wire)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", wire, "up")
        yield [["ip", "netns", "exec", name] for name in names]
    finally:
        for name in made:
            ip("netns", "del", name)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("ranks", "replicas", "nodes", "words"),
    [
        (4, 1, 1, r"started 3 processes, but its ranks take 4.*\n  torchrun --nproc-per-node 4 "),
        (4, 2, 2, r"2 ranks x 2 replicas take 4.*\n  torchrun --nnodes 2 --nproc-per-node 2 "),
        (2, 1, 4, r"its ranks take 2.*\n  torchrun --nproc-per-node 2 script.py\n.*TORCHRUN=0"),
    ],
)
def test_another_number_of_processes_is_refused(ranks, replicas, nodes, words, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("GROUP_WORLD_SIZE", str(nodes))
    with pytest.raises(LaunchError, match=words):
        TorchrunRanks(ranks, replicas, timeout=1.0)


def test_torchrun_can_be_denied(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert under_torchrun()
    monkeypatch.setenv("PIPELAB_TORCHRUN", "0")
    assert not under_torchrun()


def members(*machines_and_addresses):
    return [Member(1, machine, address) for machine, address in machines_and_addresses]


def test_the_address_that_others_reach(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("MASTER_ADDR", "node0")
    here = ("a", "127.0.1.1")  # a machine that knows itself by loopback, as Debian's do
    assert address_of(members(here, here), 0) == "127.0.0.1"
    assert address_of(members(here, ("b", "10.0.0.2")), 1) == "10.0.0.2"
    monkeypatch.setattr(module, "address_towards", {"10.0.0.2": "10.0.0.1"}.__getitem__)
    assert address_of(members(here, here, ("b", "10.0.0.2")), 1) == "10.0.0.1"
    monkeypatch.setattr(module, "address_towards", lambda host: host)
    with pytest.raises(OSError, match="node0, which is loopback here"):
        address_of(members(here, ("b", "127.0.0.1")), 0)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    assert address_of(members(here, ("b", "10.0.0.2")), 1) is None
