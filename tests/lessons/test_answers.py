"""Answers in any form, and answers that do harm: what comes back is plain data, or words."""

import asyncio
import functools
import json
import os
import pickle
import signal
import struct
import threading
import time
from collections import OrderedDict, deque
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from itertools import count

import cloudpickle
import numpy as np
import pytest
import torch

from pipelab.action import Action
from pipelab.engine.launch import fork_server
from pipelab.engine.protocol import pickling
from pipelab.errors import LessonError
from pipelab.lessons import check, checking, progress_file
from pipelab.lessons.answer_bytes import pack, uses_pipelab
from pipelab.lessons.answer_process import call, keep_prints
from pipelab.lessons.exercise import Exercise, each, equal
from pipelab.lessons.frames import MOST_BYTES, Frames
from pipelab.lessons.plain_data import decoded, encoded, plain
from pipelab.lessons.torch_settings import usual_settings
from pipelab.lessons.unproven import BROKEN
from pipelab.schedules import gpipe
from tests.faults.leftovers import gone


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELAB_HOME", str(tmp_path / "home"))


# ------------------------------------------------------------------- what an answer may return

FORMS = [
    (np.float16(0.5), 0.5),
    (np.float32(0.5), 0.5),
    (np.longdouble(0.5), 0.5),
    (np.int64(3), 3),
    (np.bool_(True), True),
    (np.array(3.5), 3.5),
    (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (np.array(["0F0", ""]), ["0F0", ""]),
    (np.array([1, None], dtype=object), [1, None]),
    (np.ma.array([1, 2]), [1, 2]),
    (torch.tensor(3), 3),
    (torch.tensor(1.5, dtype=torch.bfloat16), 1.5),
    (torch.tensor([1.0, 2.0], requires_grad=True), [1.0, 2.0]),
    (torch.eye(2).to_sparse(), [[1.0, 0.0], [0.0, 1.0]]),
    ([torch.tensor(2), np.int32(3)], [2, 3]),
    (Fraction(1, 4), 0.25),
    (Fraction(4, 2), 2),
    (Decimal("0.25"), 0.25),
    (Decimal("2.0"), 2),
    ((1, (2,)), [1, [2]]),
    (range(2), [0, 1]),
    (map(str, [1, 2]), ["1", "2"]),
    (zip([1], [2], strict=True), [[1, 2]]),
    ((n for n in (1, 2)), [1, 2]),
    (deque([1]), [1]),
    ({1: 2}.keys(), [1]),
    (OrderedDict(a=(1,)), {"a": [1]}),
    ([Action.parse("2F0")], ["2F0"]),
    (10**5000, 10**5000),
    (float("inf"), float("inf")),
]


@pytest.mark.parametrize(("value", "expected"), FORMS, ids=lambda v: type(v).__name__)
def test_values_of_any_form_become_plain_data(value, expected):
    found = decoded(encoded(plain(value)))
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    "kind", [torch.float64, torch.float16, torch.bfloat16, torch.int8, "numpy"]
)
def test_what_a_dict_holds_by_name_stays_a_tensor(kind):
    values = np.ones((2, 3)) if kind == "numpy" else torch.ones(2, 3, dtype=kind)
    found = decoded(encoded(plain({"weight": values, "bias": torch.tensor(2.0)})))
    assert found["weight"].dtype == (torch.float64 if kind == "numpy" else kind)
    assert found["weight"].tolist() == [[1] * 3] * 2 and found["bias"].shape == ()


def test_one_row_of_a_column_travels():
    """It counts as contiguous, with a step over the other columns: no view as bytes."""
    column = torch.arange(8).reshape(2, 4)[:1, 2]
    assert decoded(encoded(plain({"dp_group": column})))["dp_group"].tolist() == [2]
    made, parts = pickling._reduce_tensor(column)
    assert made(*parts).tolist() == [2]


NO_FORMS = [
    ({1, 2}, "a set, which has no order; return a list"),
    (b"0F0", "a bytes; return text"),
    (len, "call it"),
    (int, "call it"),
    (list, "call it"),
    (1j, "a complex"),
    (torch.zeros(2, dtype=torch.complex64), "complex64"),
    (torch.empty(2, device="meta"), "on meta"),
    (torch.zeros(1).expand(2_000_000), "2,000,000 items"),
    (count(), "more than 100,000 items"),
    ({(1, 2): 3}, "a tuple as a name"),
]


@pytest.mark.parametrize(("value", "words"), NO_FORMS, ids=lambda v: type(v).__name__)
def test_other_values_are_refused_in_words(value, words):
    with pytest.raises(TypeError) as error:
        plain(value)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\2[",
        struct.pack("!I", 3) + b"{]}",
        struct.pack("!I", 12) + b'{"other": 1}',
        struct.pack("!I", 26) + b'{"tensor": ["float32", 9]}'[:26],
        struct.pack("!I", 27) + b'{"tensor": ["float32", -1]}',
        struct.pack("!I", 200_000) + b"[" * 200_000,
        cloudpickle.dumps(print),
    ],
)
def test_bytes_that_are_no_plain_data_do_no_harm(data):
    with pytest.raises(ValueError, match="no plain data"):
        decoded(data)
    with pytest.raises(ValueError, match="at most"):
        list(Frames().add(struct.pack("!Q", MOST_BYTES + 1)))


# --------------------------------------------------------------------- what an answer may use

NUMBERS = [1, 2]


@functools.cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@functools.lru_cache(maxsize=2)
def is_even(n):
    return n == 0 or is_odd(n - 1)


def is_odd(n):
    return n != 0 and is_even(n - 1)


class Helper:
    def __init__(self):
        self.three = 3

    @functools.cached_property
    def four(self):
        return self.three + 1

    @functools.cache  # noqa: B019
    def plus(self, n):
        return n + self.four

    def __call__(self, n):
        return n * self.three


def around(n):
    def inner(m):
        return m + n + len(NUMBERS)

    return inner


cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["x"]))  # as a notebook's


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (fibonacci, 55),
        (lambda n: fibonacci(n) + is_even(n), 56),
        (Helper(), 30),
        (Helper().plus, 14),
        (around(5), 17),
        (functools.partial(pow, 2), 1024),
        (lambda n: Helper().plus(n), 14),
    ],
)
def test_helpers_travel_with_an_answer(answer, expected):
    assert [o.value for o in call(answer, [(10,)])] == [expected]


LOCK = threading.Lock()


def with_lock(n):
    with LOCK:
        return n


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (lambda n: with_lock(n), "LOCK, a lock"),
        (lambda n, held=LOCK: n, "held, a lock"),
        (lambda n, it=(x for x in ()): n, "it, a generator"),
    ],
)
def test_what_cannot_travel_is_named(answer, name):
    with pytest.raises(LessonError, match=name):
        call(answer, [(1,)])
    assert name in str(check("04.2", answer))


def test_functions_that_a_cell_replaced_change_no_verdict(monkeypatch):
    """A right answer was refused, and the learner's progress taken for damaged."""
    for module, name in ((json, "loads"), (json, "dumps"), (pickle, "loads")):
        monkeypatch.setattr(module, name, lambda *_, **__: None)
    for module, name in ((pickle, "dumps"), (cloudpickle, "dumps"), (pickle, "Pickler")):
        monkeypatch.setattr(module, name, None)
    progress_file.add_attempt("04.2", True, [])
    assert [o.value for o in call(lambda n: [n, {"a": 1.5}], [(2,)])] == [[2, {"a": 1.5}]]
    assert progress_file.load()["checks"]["04.2"]["passed"] is True
    assert len(list(progress_file.path().parent.glob("*.json"))) == 1


def test_an_answer_may_use_up_its_arguments():
    shared = [1, 2, 3]

    def total(numbers):
        return sum(numbers.pop() for _ in range(len(numbers)))

    assert [o.value for o in call(total, [(shared,), (shared,)])] == [6, 6]


def test_an_answer_made_of_pipelabs_own_functions_is_right_and_named():
    def own(rank, p, m):
        return [action.token for action in gpipe(p, m).ranks[rank]]

    assert uses_pipelab(own) and uses_pipelab(lambda: own(0, 1, 1))
    assert not any(map(uses_pipelab, (fibonacci, Helper(), lambda n: Action, print)[:2]))
    assert "own functions" in str(check("04.1", own))


def test_an_answer_may_use_what_the_lesson_hands_out():
    assert not uses_pipelab(lambda name: BROKEN[name])


@pytest.mark.parametrize("setting", ["dtype", "no_grad", "inference", "device", "anomaly"])
def test_settings_of_the_notebook_change_no_verdict(setting, monkeypatch):
    seen = []

    def judge(function, seed):
        weight = torch.ones(2, requires_grad=True)
        (weight.sum() * 2).backward()
        seen.append((weight.dtype, weight.device.type, weight.grad.tolist()))
        yield equal("row", 1, 1)

    exercise = Exercise("title", "a function", judge, ("", "", ""))
    monkeypatch.setattr(checking, "_exercise", lambda name: exercise)
    contexts = {
        "no_grad": torch.no_grad(),
        "inference": torch.inference_mode(),
        "device": torch.device("meta"),
        "anomaly": torch.autograd.set_detect_anomaly(False),
        "dtype": usual_settings(),
    }
    with contexts[setting]:
        if setting == "dtype":
            torch.set_default_dtype(torch.float64)
        try:
            assert check("01.1", len).passed
            assert torch.get_default_dtype() == (
                torch.float64 if setting == "dtype" else torch.float32
            )
        finally:
            torch.set_default_dtype(torch.float32)
    assert seen == [(torch.float32, "cpu", [2.0, 2.0])]


# --------------------------------------------------------------------------- harm, and debugging


def test_what_an_answer_prints_is_shown_by_call():
    def shows(p, share):
        print("p is", p)
        os.write(1, b"from C\n")
        return 8 if p == 4 else 3

    text = str(check("04.2", shows))
    assert "with 4, 0.28 your answer printed:\n  p is 4\n  from C\n" in text
    assert "&lt;" not in text and "more characters" in text
    html = check("04.2", shows)._repr_html_()
    assert "<pre>" in html and "p is 4" in html


def test_what_is_printed_stands_below_its_own_call_in_the_words_of_an_answer():
    def shows(events, num_ranks):
        print(num_ranks, "ranks")
        return 0.5

    text = str(check("03.1", shows))
    assert "with (Event(0, 'F', 0, 0, 0.0, " in text and "Kind" not in text
    heads = [line for line in text.splitlines() if "your answer printed" in line]
    assert len(heads) == 6  # also where the shown part of two calls is the same


def test_a_failing_case_shows_the_call_and_repeats_no_remark():
    def adds(minutes, dishes, hand_over):
        return sum(minutes) + dishes

    verdict = check("01.2", adds)
    call = "adds([1.0, 2.0, 1.0], 6, 0.0)"
    assert f"a slow cook in the middle: {call}\n" in str(verdict)
    html = verdict._repr_html_()
    assert "<code style=" in html and call in html and "as for: equal cooks" in html
    assert html.count("follow the first dish to the end; then") == 2  # once, and of the drawn


@pytest.mark.parametrize(
    ("divide", "row", "words"),
    [
        (lambda sizes: 1, "4 equal microbatches", "tied: 20 times the right one"),
        (lambda sizes: sum(sizes) * 1.004, "4 equal microbatches", "tied: 0.996 times the right"),
    ],
)
def test_a_gradient_that_is_too_long_says_by_how_much(divide, row, words):
    def combine(grads, sizes):
        total = {}
        for grad, size in zip(grads, sizes, strict=True):
            for name, value in grad.items():
                total[name] = total.get(name, 0) + value * size / divide(sizes)
        return total

    assert words in {r.name: r.got for r in check("05.1", combine).results}[row]


def test_a_gradient_of_another_direction_is_called_that():
    def combine(grads, sizes):  # the mean of the means
        names = {name: grad[name] for grad in grads for name in grad}
        return {
            name: sum(grad.get(name, 0 * value) for grad in grads) / len(grads)
            for name, value in names.items()
        }

    rows = {r.name: r.got for r in check("05.1", combine).results}
    assert "not the right direction; the difference is" in rows["a ragged last microbatch"]


@pytest.mark.parametrize(
    ("mistake", "row", "words"),
    [
        (lambda work, last, ranks: 100 * (1 - work / (ranks * (last - 100))), 4, "percentage"),
        (lambda work, last, ranks: work / (ranks * (last - 100)), 4, "the bubble is the rest"),
        (lambda work, last, ranks: 1 - work / (ranks * last), 4, "read from 0"),
        (lambda work, last, ranks: 1 - work / (ranks * last), 6, "counted twice"),
    ],
)
def test_a_known_slip_in_the_bubble_is_named(mistake, row, words):
    def bubble(events, num_ranks):
        work = [e for e in events if e.kind in ("F", "B", "I", "W")]
        seconds = sum(e.end - e.start for e in work)
        return mistake(seconds, max(e.end for e in work), num_ranks)

    assert words in check("03.1", bubble).results[row].hint


def test_endless_printing_is_stopped():
    def loud():
        while True:
            print("x" * 1000)

    with keep_prints() as prints:
        (outcome,) = call(loud, [()])
    assert "printed more than 10,000,000 bytes" in outcome.problem
    assert len(str(prints)) < 2000 and "more characters" in str(prints)


def _write_everywhere(data):
    for handle in range(3, 60):
        with suppress(OSError):
            os.write(handle, data)


def writes(data, then=lambda: None):
    def answer():
        _write_everywhere(data)
        then()

    return answer


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (writes(struct.pack("!Q", 5) + b"hello"), "sent what is no answer"),
        (writes(struct.pack("!Q", 10**12)), "sent what is no answer"),
        (writes(struct.pack("!Q", 9) + b"x", lambda: time.sleep(60)), "still running after 1 s"),
        (lambda: os.kill(os.getpid(), 9), "its process was killed"),
        (lambda: os.closerange(0, 60), "its process ended"),
        (lambda: [0] * 10**11, "needs more than 2 GiB"),
        (lambda: asyncio.sleep(1), "a coroutine"),
        (lambda: [0] * 2_000_000, "more than 100,000 items"),
    ],
)
def test_harm_is_a_problem_in_words(harm, words):
    (outcome,) = call(harm, [()], seconds=1.0)
    assert words in outcome.problem


@pytest.mark.parametrize(
    "value",
    [10**5000, "x" * 10**6, [1.0] * 10**6, "\ud800", {"a": torch.zeros(3)}, None, [None]],
    ids=lambda value: type(value).__name__,
)
def test_a_verdict_is_short_and_never_a_traceback(value):
    for name in ("01.1", "05.1"):
        verdict = check(name, lambda *arguments: value)
        assert not verdict.passed and "the number a whole" not in str(verdict)
        assert len(str(verdict)) < 20_000 and len(verdict._repr_html_()) < 60_000
        str(verdict).encode()
        assert progress_file.load()["checks"][name]["passed"] is False


def test_control_characters_of_an_answer_reach_no_terminal():
    """A notebook clears its output at some, an editor turns the text around at others."""

    def colours(cooks, dishes):
        print("\x1b[31mred\x1b[0m\tand", "\u202eback")
        return [["\x1b[2J0F0\b\0"]] * cooks

    verdict = check("01.1", colours)
    text = str(verdict) + verdict._repr_html_()
    assert all(c.isprintable() or c == "\n" for c in text)
    assert r"\x1b[31mred\x1b[0m" in text and r"\x1b[2J0F0\x08\x00" in text


def test_a_fault_of_the_check_is_a_verdict(monkeypatch):
    def judge(function, seed):
        yield equal("row", 1, 1)
        raise ZeroDivisionError("a cell has changed this")

    exercise = Exercise("title", "a function", judge, ("", "", ""))
    monkeypatch.setattr(checking, "_exercise", lambda name: exercise)
    verdict = check("01.1", len)
    assert not verdict.passed and "a cell has changed this" in str(verdict)
    assert "restart the kernel" in str(verdict)
    assert progress_file.load()["checks"]["01.1"]["attempts"] == 1


@pytest.mark.slow
def test_a_killed_fork_server_costs_nothing_but_time(monkeypatch):
    monkeypatch.setattr(fork_server, "_home", fork_server._Home())  # the one that runs stays
    try:
        fork_server.wait_until_up()
        os.kill(fork_server.pid(), 9)
        assert [o.value for o in call(lambda n: n, [(1,), (2,)])] == [1, 2]
    finally:
        fork_server.end()


def test_a_stopped_fork_server_continues():
    """Each later check took 30 seconds, and refused a right answer."""

    def stops(server):
        os.kill(server, signal.SIGSTOP)
        return 1

    fork_server.wait_until_up()
    assert [o.value for o in call(stops, [(fork_server.pid(),)])] == [1]
    assert [o.value for o in call(lambda n: n, [(2,)])] == [2]


def forks():
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    return pid


def forks_a_daemon():
    """In a new session, with no file open, and with a parent that has ended."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if pid := os.fork():
            os.write(write, str(pid).encode())
            os._exit(0)
        os.closerange(0, 100)
        time.sleep(60)
        os._exit(0)
    return int(os.read(read, 100))


@pytest.mark.parametrize("start", [forks, forks_a_daemon])
def test_what_an_answer_forks_ends_with_it(start):
    (outcome,) = call(start, [()])
    assert gone([outcome.value], 5.0)


@pytest.mark.slow
@pytest.mark.parametrize("start", [forks, forks_a_daemon])
def test_what_an_answer_forks_ends_with_the_kernel(start, tmp_path):
    """A kernel that is killed can end nothing itself."""
    said = tmp_path / "pid"

    def answer(kernel):
        said.write_text(f"{start()} {os.getpid()}")
        os.kill(kernel, signal.SIGKILL)
        time.sleep(60)

    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            call(answer, [(os.getpid(),)])
        os._exit(0)
    os.waitpid(pid, 0)
    assert gone(map(int, said.read_text().split()), 5.0)


class Mute(BaseException):
    """It has no words."""

    def __str__(self):
        raise SystemExit

    __repr__ = __str__


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda: raising(Mute())(), "without words"),
        (lambda: os.closerange(3, 60), "its process ended"),
    ],
)
def test_no_traceback_of_ours_is_shown_as_what_an_answer_prints(harm, words):
    with keep_prints() as prints:
        (outcome,) = call(harm, [()])
    assert words in outcome.problem and str(prints) == ""


def test_each_case_of_an_exercise_is_compared_with_what_was_given():
    """The judge keeps its own arguments: an answer cannot change what it is compared with."""

    def clears(numbers):
        numbers.clear()
        return 3

    rows = list(each(clears, {"three": ([1, 2, 3],)}, lambda n, v, a: equal(n, len(a), v)))
    assert rows[0].ok


def raising(error):
    def method(*_):
        raise error

    return method


def endless(*_):
    return endless()


ATTRIBUTES = ("__reduce_ex__", "__reduce__", "__getstate__", "__getattr__", "__name__", "__class__")
ATTRIBUTES += ("__len__", "__iter__", "__eq__", "__repr__", "__bool__", "__wrapped__", "as_written")
ERRORS = (SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError("x"))


class NoName(type):
    @property
    def __name__(cls):
        raise SystemExit


def lying(name, method):
    """An answer that is wrong, and does this where it is asked for an attribute."""
    own = property(method) if name in ("__name__", "__class__", "__wrapped__") else method
    return NoName("Lying", (), {name: own, "__call__": lambda self, *arguments: "wrong"})()


@pytest.mark.parametrize("method", [*map(raising, (*ERRORS, Mute())), endless])
@pytest.mark.parametrize("used", [False, True], ids=["answer", "used"])
def test_whatever_an_answer_raises_here_is_a_verdict(used, method):
    """To copy an answer runs some of its code in this process: an exit() would end the kernel."""
    for name in ATTRIBUTES:
        liar = lying(name, method)
        with suppress(LessonError):
            packed = pack((lambda n, it=liar: it) if used else liar)
            assert type(packed.__name__) is str and not uses_pipelab(packed)
    liar = lying("__reduce_ex__", method)
    verdict = check("04.2", (lambda *_: liar) if used else liar)
    assert not verdict.passed and "cannot be copied to the process" in str(verdict)
    assert progress_file.load()["checks"]["04.2"]["attempts"] == 1


def test_what_is_no_answer_is_named_whatever_its_class_says():
    assert "Word" in str(check("04.2", NoName("Word", (), {})()))


def test_stop_ends_a_check_that_copies_an_answer():
    """And an answer's own KeyboardInterrupt does not."""

    def stopped(*_):
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        pack(lying("__reduce_ex__", stopped))
    assert signal.getsignal(signal.SIGINT) is before
