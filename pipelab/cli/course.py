"""The course: ``pipelab lab``, ``pipelab progress`` and ``pipelab edition``.

JupyterLab runs in this very process: whatever ends it ends the server, and kernels end when their
server has gone. It listens on the loopback interface alone, behind a token. The token comes to it
through the environment, which only its owner can read: arguments are in ``ps`` for everybody.

A lesson is a notebook named NN_name.ipynb. They are looked for in this order: in the folder
``notebooks`` right here; beside an editable install; in the package itself, from which they are
copied into ``pipelab-notebooks``, so that a learner's own work is never below site-packages.
"""

import argparse
import os
import secrets
import signal
import socket
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import pipelab
from pipelab.cli.console import ENDINGS, CommandError, end_at_once, say, stopped_by, writable
from pipelab.files import replacing

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

HOST = "127.0.0.1"
COPY = Path("pipelab-notebooks")
_PATTERN = "[0-9][0-9]_*.ipynb"
_HIDDEN = ("teacher", "template", "site", "__pycache__")  # what is no lesson, also in a clone


def lab(arguments: argparse.Namespace) -> int:
    """Serve a lesson until Ctrl-C, or until JupyterLab's own menu ends it; the exit code."""
    if find_spec("jupyterlab") is None:
        raise CommandError(
            f"JupyterLab is missing from this Python: {sys.executable} -m pip install jupyterlab"
        )
    notebook = find(arguments.lesson)
    held = hold_port(arguments.port)
    port: int = held.getsockname()[1]
    token = secrets.token_urlsafe(24)
    server = _server(options(notebook, port, not arguments.no_browser), token, held)

    def announce() -> None:
        say(f"Lesson {notebook.name[:2]} of {notebook.parent}, for this machine's user alone:")
        say(f"http://{HOST}:{port}/lab/tree/{notebook.name}?token={token}")
        say("Ctrl-C here ends JupyterLab and its kernels; save your work first.")

    server.io_loop.add_callback(announce)  # after the server's own callback, which opens the port
    _keep_kernels_quiet()
    return _serve(server)


def progress(arguments: argparse.Namespace) -> None:
    """Print the saved progress as Markdown: this learner's, a file's, or a table of a folder."""
    from pipelab.lessons import progress_file
    from pipelab.lessons.progress_report import class_table, ledgers, report

    if arguments.reset is not None:
        return _reset(arguments.reset, arguments.place)
    place = Path(arguments.place) if arguments.place else _own_progress()
    try:
        if arguments.place and place.is_dir():
            if not (files := ledgers(place)):
                raise CommandError(f"{place} holds no progress files: NAME/progress.json each")
            text = class_table(files)
        else:
            is_new = not arguments.place and not os.path.lexists(place)
            known = progress_file.load() if is_new else progress_file.read(place)
            text = f"{report(known)}\n\nKept on this machine alone, in {place}"
    except (OSError, ValueError) as error:
        raise CommandError(_unread(place, error)) from None
    say(text)


def _own_progress() -> Path:
    """Where this user's progress file is, or would be."""
    from pipelab.lessons import progress_file

    try:
        return progress_file.path()
    except OSError as error:
        raise CommandError(str(error)) from None


def _unread(place: Path, error: OSError | ValueError) -> str:
    from pipelab.lessons.progress_file import reason

    if isinstance(error, FileNotFoundError):
        return f"there is no progress file {place}"
    return f"the progress in {place} cannot be used ({reason(error)}): it was left as it is"


def _reset(lesson: str, place: str | None) -> None:
    """Forget the progress of a lesson, or of all."""
    from pipelab.lessons import progress_file

    if place:
        raise CommandError(
            f"--reset forgets your own progress, and {place} may be another's: leave {place} out"
        )
    number = f"{int(lesson):02d}" if lesson.isdecimal() else lesson
    if number not in ("all", *(f"{n:02d}" for n in range(100))):
        raise CommandError(f"--reset {lesson}: give the number of a lesson, such as 4, or nothing")
    own = _own_progress()
    try:
        copy = progress_file.reset("" if number == "all" else number)
    except (OSError, ValueError) as error:
        raise CommandError(_unread(own, error)) from None
    if copy is None:
        of_what = "" if number == "all" else f" of lesson {int(number)}"
        say(f"Nothing{of_what} was saved, so nothing is forgotten.")
        return
    what = "all lessons" if number == "all" else f"lesson {int(number)}"
    say(f"The progress of {what} is forgotten. As it was before: {copy}")


def edition(arguments: argparse.Namespace) -> None:
    """Write an edition of the course. Raises PipelabError if that is not possible."""
    from pipelab.lessons.edition import generate

    folder = writable(arguments.folder, remedy="choose another FOLDER")
    try:
        written = generate(arguments.edition, teachers(), folder, arguments.force)
    except OSError as error:
        raise CommandError(
            f"cannot write {error.filename or folder} ({error.strerror or error}): make room, or "
            f"choose another FOLDER. What was there is there still, or beside it as NAME.old"
        ) from None
    for path in written.new:
        say(str(path))
    for path, aside in written.aside:
        say(f"What was {path} is now {aside}")
    if written.kept:
        names = "\n  ".join(map(str, written.kept))
        raise CommandError(
            f"these are there already, differ, and were left as they are:\n  {names}\n"
            f"They may hold somebody's work: --force gives them another name, and writes new ones"
        )


def teachers() -> Path:
    """The folder of the teacher's notebooks, which learners' copies do not have."""
    from pipelab.lessons.standing import teachers_folder

    if folder := teachers_folder():
        return folder
    raise CommandError(
        "the teacher's notebooks are missing from this pipelab: install pipelab-course again"
    )


def find(number: int) -> Path:
    """The notebook of a lesson. Raises CommandError with all lessons if there is none."""
    folder = home()
    lessons = sorted(folder.glob(_PATTERN))
    for path in lessons:
        if int(path.name[:2]) == number:
            return path.resolve()
    rows = [f"  {path.name[:2]}  {path.stem[3:].replace('_', ' ')}" for path in lessons]
    raise CommandError(
        "\n".join([f"there is no lesson {number:02d} in {folder}; take one of", *rows])
    )


def home() -> Path:
    """The folder of the lessons. Raises CommandError if they are nowhere."""
    package = Path(pipelab.__file__).parent
    here, clone = Path("notebooks"), package.parent / "notebooks"
    if _holds_lessons(here):
        return here
    if (clone.parent / "pyproject.toml").is_file() and _holds_lessons(clone):
        return clone
    packaged = files(pipelab) / "notebooks"
    if packaged.is_dir():
        try:
            _copy(packaged, COPY)
        except OSError as error:
            raise CommandError(
                f"cannot copy the lessons into {COPY.absolute()} ({error.strerror or error}): "
                f"go to a folder of your own and try again there"
            ) from None
    if not _holds_lessons(COPY):
        raise CommandError(
            f"no lessons: neither in ./{here}, nor in {clone}, nor in the package. Go to a clone's "
            f"folder, or install pipelab-course again"
        )
    return COPY


def _holds_lessons(folder: Path) -> bool:
    return any(folder.glob(_PATTERN))


def _copy(source: Traversable, target: Path) -> None:
    """Copy what is not there yet; whatever is there stays as it is.

    Each file is there whole or not at all: the next call continues what was interrupted.
    """
    target.mkdir(exist_ok=True)
    for item in source.iterdir():
        if item.is_dir():
            _copy(item, target / item.name)
        elif not os.path.lexists(target / item.name):  # a link of the learner's, too, stays
            with replacing(target / item.name) as new:
                new.write(item.read_bytes())


def hold_port(wanted: int | None) -> socket.socket:
    """A socket that listens at the wanted port, or at any free one.

    Raises:
        CommandError: the wanted port is taken.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((HOST, wanted or 0))
        held.listen(128)
    except OSError as error:
        held.close()
        raise CommandError(
            f"port {wanted} cannot be used ({error.strerror}): choose another with --port, or "
            f"leave --port out and a free one is taken"
        ) from None
    held.setblocking(False)
    return held


def options(notebook: Path, port: int, browser: bool) -> list[str]:
    """JupyterLab's command line; it stands above what configuration files say."""
    found = [
        f"--ServerApp.ip={HOST}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={notebook.parent}",
        *(f"--ContentsManager.hide_globs={name}" for name in _HIDDEN),
        f"--LabApp.default_url=/lab/tree/{notebook.name}",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--Application.log_level=ERROR",
    ]
    found += [] if browser else ["--no-browser"]
    return found + (["--allow-root"] if os.geteuid() == 0 else [])  # a container's usual user


def _server(options: list[str], token: str, held: socket.socket) -> "ServerApp":
    """A server that is ready to run. Raises CommandError if it cannot, or has another token."""
    from jupyterlab.labapp import LabApp

    from pipelab.cli.held_port import serving

    LabApp.serverapp_class = serving(held)
    os.environ["JUPYTER_TOKEN"] = token
    try:
        server: ServerApp = LabApp.initialize_server(argv=options)
    except SystemExit as error:
        raise CommandError(f"JupyterLab did not start: {error}") from None
    if server.identity_provider.token != token:
        raise CommandError(
            "JupyterLab lets anybody in without the token: your Jupyter configuration switches "
            "it off. Remove IdentityProvider.token (or ServerApp.token) from it; `jupyter "
            "--paths` says where it is"
        )
    return server


def _keep_kernels_quiet() -> None:
    """What kernels write to the descriptors that they inherit no longer reaches the terminal.

    What this process says goes where it went before.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        ours = os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors="replace")
        os.dup2(nowhere, stream.fileno())
        setattr(sys, name, ours)


def _serve(server: "ServerApp") -> int:
    """Run JupyterLab until a signal or its own menu ends it, and all its kernels with it."""
    signals: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        end_at_once()
        signals.append(number)
        server.stop(from_signal=True)

    for number in ENDINGS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    server.start()
    if not signals:
        return 0
    stopped_by(signals[0])
    return 128 + signals[0]
