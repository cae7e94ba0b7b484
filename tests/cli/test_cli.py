"""The command line: exit codes, errors in words, ``lab`` and ``doctor``.

``demo`` has its own file, test_demo; ``show`` and ``simulate`` have test_show_simulate.
"""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from pipelab.cli import console, doctor, machine
from pipelab.cli import course as course_command
from pipelab.cli import demo as demo_command
from pipelab.cli.console import CommandError, ProgressLine
from pipelab.cli.main import main
from pipelab.engine.launch import fork_server
from pipelab.errors import RankError, ScheduleError
from tests.faults.leftovers import Held, nothing_more

MARK = "PIPELAB_TEST_MARK"  # in the environment of a command and of all that it starts


@contextmanager
def started(*arguments, cwd, **environment):
    """``pipelab ...`` in a new process group, with a mark on all of its processes."""
    mark = uuid.uuid4().hex
    command = subprocess.Popen(
        [sys.executable, "-m", "pipelab", *arguments],
        cwd=cwd,
        env={**os.environ, MARK: mark, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    command.mark = mark
    try:
        yield command
    finally:
        for process in marked(mark):
            process.kill()
        command.communicate()


def marked(mark):
    """The processes that a command started and that still run, itself included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def survivors(mark, seconds=5.0):
    """What is left of a command that has ended, after a moment to go."""
    until = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < until:
        time.sleep(0.1)
    return [process.cmdline() for process in left]


def interrupt(command, number=signal.SIGINT):
    """What a terminal does on Ctrl-C: the signal goes to the whole process group."""
    os.killpg(command.pid, number)
    output, errors = command.communicate(timeout=60)
    assert "Traceback" not in output + errors, output + errors
    assert len(errors.splitlines()) == 1, errors
    return errors.strip()


# ------------------------------------------------------------------------------------- main


def test_help_is_quick():
    def cpu():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def once():
        before = cpu()
        subprocess.run([sys.executable, "-m", "pipelab", "--help"], check=True, capture_output=True)
        return cpu() - before

    assert min(once() for _ in range(3)) < 0.3  # seconds of work, however busy the machine is


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["dmeo"],
        ["demo", "--steps", "0"],
        ["demo", "--ranks", "-1"],
        ["demo", "--microbatches", "many"],
        ["lab", "x"],
        ["lab", "--port", "65536"],
        ["show"],
        ["show", "gpipe", "--csv", "--lowered"],
        ["show", "gpipe", "-p", "0"],
        ["simulate", "--forward", "-1"],
        ["simulate", "--latency", "1 ms"],
        ["simulate", "--memory-limit", "4"],
        ["simulate", "--best", "gpipe"],
        ["simulate", "--best", "-v", "2"],
    ],
    ids=" ".join,
)
def test_arguments_without_sense_are_refused(argv, capsys):
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert "usage: pipelab" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("show 1f1b --wrong", ["usage: pipelab show", "unrecognized arguments: --wrong"]),
        ("progress now later", ["usage: pipelab progress", "unrecognized arguments: later"]),
        ("simulate --best gpipe", ["leave gpipe out"]),
        ("simulate --best -v 2", ["leave -v out"]),
    ],
)
def test_a_refusal_shows_the_options_of_its_command(line, words, capsys):
    with pytest.raises(SystemExit):
        main(line.split())
    errors = capsys.readouterr().err
    assert all(text in errors for text in words), errors


def test_an_edition_that_cannot_be_written_says_where(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["edition", "learner", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"pipelab: {tmp_path / 'file'} is a file, not a folder: choose another FOLDER, or move it "
        f"away"
    ]


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert re.fullmatch(r"pipelab \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (ScheduleError("no such thing: do another"), 1, ["pipelab: no such thing: do another"]),
        (KeyboardInterrupt(), 130, ["Stopped by Ctrl-C."]),
        (RankError("rank 1 failed", 1, "1F0", "a\nb\n"), 1, ["pipelab: rank 1 failed", "a", "b"]),
    ],
    ids=["PipelabError", "KeyboardInterrupt", "RankError"],
)
def test_errors_become_lines_and_exit_codes(error, code, lines, capsys, monkeypatch):
    def fails(setup):
        raise error

    monkeypatch.setattr(demo_command, "demo", fails)
    assert main(["demo"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == lines


def test_output_that_nobody_reads_any_more(tmp_path):
    with started("lab", "99", cwd=tmp_path) as command:
        command.stdout.close()
        command.stdout = None
        assert command.wait(60) == 1
        assert "Traceback" not in command.stderr.read()
    line = [sys.executable, "-m", "pipelab", "doctor"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        command.stdout.close()
        assert command.wait(60) == 1
        assert command.stderr.read() == b""


def test_progress_prints_a_new_line_each_time_without_a_terminal(capsys):
    line = ProgressLine(23)
    for step in range(1, 24):
        line.show(step, f"step {step}")
    assert capsys.readouterr().out.splitlines() == ["step 1", "step 10", "step 20", "step 23"]


# -------------------------------------------------------------------------------------- lab


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder with two lessons, and an empty Jupyter configuration."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    for name in ("00_start_here", "01_bubbles"):
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook), "utf-8")
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(address, path, token=None, data=None):
    """Status of a request to the server behind an address."""
    base = re.match(r"http://127\.0\.0\.1:\d+", address).group()
    headers = {"Authorization": f"token {token}"} if token else {}
    request = urllib.request.Request(base + path, data=data, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def seen(processes):
    """Each one's command line and connections; one that has ended meanwhile shows nothing."""
    found = []
    for process in processes:
        with suppress(psutil.Error):
            found.append((" ".join(process.cmdline()), process.net_connections()))
    return found


def test_lab_serves_a_lesson_to_the_token_alone_and_ends_on_ctrl_c(course):
    with started("lab", "1", "--no-browser", cwd=course) as command:
        lines = [command.stdout.readline().strip() for _ in range(3)]
        (address,) = [line for line in lines if line.startswith("http://")]
        pattern = r"http://127\.0\.0\.1:\d+/lab/tree/01_bubbles\.ipynb\?token=([\w-]{20,})"
        token = re.fullmatch(pattern, address).group(1)
        assert asked(address, "/api/status", token) == 200
        assert asked(address, "/api/status") == 403
        assert asked(address, "/lab/tree/01_bubbles.ipynb", token) == 200
        assert asked(address, "/api/kernels", token, data=b'{"name": "python3"}') == 201
        processes = seen(marked(command.mark))
        assert len(processes) >= 2, "want the server, which is the command, and the kernel"
        listening = {
            connection.laddr.ip
            for _, connections in processes
            for connection in connections
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        assert not [line for line, _ in processes if token in line], "ps shows the token"
        assert interrupt(command) == "Stopped by Ctrl-C."
        assert command.returncode == 130
        assert survivors(command.mark) == []


def test_lab_holds_its_port_while_jupyterlab_starts(course, monkeypatch):
    """JupyterLab takes seconds to bind it, and another program could be faster."""

    def start(options, token, held):
        assert f"--ServerApp.port={held.getsockname()[1]}" in options
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(held.getsockname())
        held.close()
        raise CommandError("far enough")

    monkeypatch.chdir(course)
    monkeypatch.setattr(course_command, "_server", start)
    assert main(["lab", "--no-browser"]) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_lab_ends_with_its_terminal(number, course):
    with started("lab", "--no-browser", cwd=course) as command:
        command.stdout.readline()
        assert interrupt(command, number) == f"Stopped by {number.name}."
        assert command.returncode == 128 + number
        assert survivors(command.mark) == []


def test_lab_that_is_killed_leaves_no_kernel(course):
    with started("lab", "--no-browser", cwd=course) as command:
        address = [command.stdout.readline().strip() for _ in range(3)][1]
        token = address.partition("token=")[2]
        assert asked(address, "/api/kernels", token, data=b'{"name": "python3"}') == 201
        assert len(marked(command.mark)) >= 2, "want the server and the kernel"
        command.kill()
        command.wait(10)
        assert survivors(command.mark, seconds=20.0) == []


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "jupyter_server_config.json",
            '{"IdentityProvider": {"token": ""}}',
            ("without the token", "Remove IdentityProvider.token"),
        ),
        (
            "jupyter_server_config.py",
            "raise SystemExit('a broken configuration')",
            ("JupyterLab did not start", "a broken configuration"),
        ),
    ],
    ids=["lets anybody in", "does not start"],
)
def test_lab_refuses_a_server_that(name, text, words, course):
    config = course / "jupyter_config_dir"
    config.mkdir()
    (config / name).write_text(text)
    with started("lab", "--no-browser", cwd=course) as command:
        output, errors = command.communicate(timeout=90)
        assert command.returncode == 1
        assert "http://" not in output
        assert all(word in errors for word in words), errors
        assert survivors(command.mark) == []


def test_lab_lists_the_lessons_if_there_is_no_such(course, capsys):
    assert main(["lab", "7"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "pipelab: there is no lesson 07 in notebooks; take one of",
        "  00  start here",
        "  01  bubbles",
    ]


def test_lab_names_the_remedy_if_the_port_is_taken(course, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["lab", "--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert f"port {port} cannot be used" in error and "another with --port" in error


def test_lab_names_the_remedy_if_jupyterlab_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(course_command, "find_spec", lambda name: None)
    assert main(["lab"]) == 1
    assert "pip install jupyterlab" in capsys.readouterr().err


def test_packaged_lessons_are_copied_and_never_overwritten(tmp_path, monkeypatch):
    packaged = tmp_path / "site-packages" / "pipelab" / "notebooks"
    (packaged / "images").mkdir(parents=True)
    (packaged / "00_start_here.ipynb").write_text("as it was shipped")
    (packaged / "images" / "a.png").write_bytes(b"png")
    monkeypatch.setattr(course_command.pipelab, "__file__", str(packaged.parent / "__init__.py"))
    monkeypatch.setattr(course_command, "files", lambda package: packaged.parent)
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "pipelab-notebooks"
    assert course_command.find(0) == copy / "00_start_here.ipynb"
    assert (copy / "images" / "a.png").read_bytes() == b"png"
    (copy / "00_start_here.ipynb").write_text("my own work")
    (packaged / "01_bubbles.ipynb").write_text("came with an update")
    assert course_command.find(1).read_text() == "came with an update"
    assert course_command.find(0).read_text() == "my own work"


# ----------------------------------------------------------------------------------- doctor


def test_doctor_is_content_here(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    fork_server.wait_until_up()  # it stays
    before = Held.now()
    assert main(["doctor"]) == 0
    output, errors = capfd.readouterr()
    assert errors == ""
    assert nothing_more(before, 5.0) is None
    assert "All is well" in output and "FAIL" not in output and "\x1b" not in output
    for name in ("python", "versions", "cores", "memory", "GPUs", "widgets", "kernel"):
        assert re.search(rf"^(ok|warn)\s+{name} ", output, re.MULTILINE), output
    flat = " ".join(output.split())
    for number in (4, 2):
        assert re.search(rf"ok {number} ranks up after [\d.]+ (s|ms|µs) \(", flat), output
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def no_launch(monkeypatch):
    """The doctor without its ranks, which take seconds."""
    monkeypatch.setattr(doctor, "launches", lambda *arguments: iter([]))
    monkeypatch.setattr(console, "import_engine", lambda: None)


def test_doctor_finds_a_kernel_of_another_python_and_a_front_end_switched_off(
    tmp_path, monkeypatch, capsys, no_launch
):
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    spec = {"argv": ["/opt/other/bin/python", "-m", "x"], "display_name": "x", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    (tmp_path / "labconfig").mkdir()
    page = {"disabledExtensions": {"anywidget": True}}
    (tmp_path / "labconfig" / "page_config.json").write_text(json.dumps(page))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(tmp_path))
    assert main(["doctor"]) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "FAIL widgets anywidget is switched off" in output
    assert "jupyter labextension enable anywidget" in output
    assert "FAIL kernel python3 is another Python, ['/opt/other/bin/python']" in output
    assert "jupyter kernelspec remove python3" in output
    assert "2 things to repair" in output


def test_doctor_finds_a_missing_front_end(tmp_path, monkeypatch, capsys, no_launch):
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *sub: [str(tmp_path)])
    assert main(["doctor"]) == 1
    output = " ".join(capsys.readouterr().out.split())
    for distribution in ("anywidget", "jupyterlab_widgets"):
        assert f"the front end of {distribution} is missing: looked in {tmp_path}" in output
        assert f"pip install --force-reinstall --no-deps {distribution}" in output


def test_doctor_finds_an_older_front_end_in_front(tmp_path, monkeypatch):
    folder = tmp_path / "labextensions" / "anywidget"
    folder.mkdir(parents=True)
    package = {"name": "anywidget", "version": "0.0.1", "jupyterlab": {"_build": {"load": "x"}}}
    (folder / "package.json").write_text(json.dumps(package))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    (wrong,) = [f for f in machine.front_ends() if f.level == "FAIL"]
    assert f"{folder} holds the front end of 0.0.1" in wrong.text
    assert wrong.remedy.startswith("remove that folder")


def test_doctor_finds_missing_and_unfit_versions(monkeypatch):
    monkeypatch.setattr(machine.metadata, "requires", lambda name: ["nowhere>=1", "torch<1"])
    wrong = [finding for finding in machine.versions() if finding.level == "FAIL"]
    assert [f.text.partition(", found")[0] for f in wrong] == [
        "nowhere: want >=1",
        "torch: want <1",
    ]
    assert all("-m pip install" in finding.remedy for finding in wrong)


def test_doctor_continues_where_torch_is_missing_or_a_check_breaks(monkeypatch, capsys):
    def missing():
        raise doctor.CommandError("torch cannot be loaded (no such file): install it")

    def broken():
        raise RuntimeError("a thing nobody thought of")

    monkeypatch.setattr(console, "import_engine", missing)
    monkeypatch.setattr(machine, "cores", broken)
    assert main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert "torch cannot be loaded" in output and "a thing nobody thought of" in output
    assert re.search(r"^ok +kernel", output, re.MULTILINE)


def test_doctor_says_when_ranks_do_not_launch(monkeypatch):
    def fails(*args, **kwargs):
        raise ScheduleError("nothing goes")

    monkeypatch.setattr("pipelab.engine.Pipeline", fails)
    (finding,) = doctor.launches(4, time.monotonic(), "")
    assert (finding.level, finding.name, finding.text) == ("FAIL", "4 ranks", "nothing goes")
    assert finding.remedy


def test_memory_limits_of_control_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_groups", lambda controller: [tmp_path, tmp_path / "inner"])
    assert machine.memory_limit() == (sys.maxsize, 0)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_limit() == (sys.maxsize, 0)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "memory.max").write_text("2000000000\n")
    (tmp_path / "inner" / "memory.current").write_text("500000000\n")
    assert machine.memory_limit() == (2_000_000_000, 500_000_000)
    (finding,) = machine.memory()
    assert "may take 2.0 GB, 500.0 MB are taken" in finding.text
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert machine.cpu_quota() == 1.5
    (finding,) = machine.cores()
    assert finding.level == "warn" and "paced" in finding.remedy


def test_the_groups_of_this_process_are_folders_below_the_root():
    assert all(isinstance(folder, Path) for folder in machine._groups("memory"))
