"""Judge a Chrome trace file by what Perfetto's importer takes, since no importer is at hand.

From ``trace_processor/importers/json``: X events on one thread form a stack; an arrow needs its
``flow_out`` before its ``flow_in`` in order of time, or it is dropped without a word; of the
metadata, four names are read.
"""

import re
from collections import defaultdict

METADATA = {
    "process_name": "name",
    "thread_name": "name",
    "process_sort_index": "sort_index",
    "thread_sort_index": "sort_index",
}
THREADS = {"compute", "messages", "idle"}
OPERATORS = re.compile(r"operators \d+|GPU stream \d+|messages under way")  # rows of a profiler's
NAME = re.compile(r"(F|B|I|W|SEND_F|RECV_F|SEND_B|RECV_B|WAIT) \d+|STEP|REDUCE_GRAD|idle")


def check_chrome(data: dict, profiled: bool = False) -> list[str]:
    """All that is wrong with the file, in words; an empty list if it is sound.

    Only a ``profiled`` file has rows of operators, whose names are PyTorch's.
    """
    events = data.get("traceEvents")
    if not isinstance(events, list) or not all(isinstance(e, dict) for e in events):
        return ["traceEvents is no list of objects"]
    wrong = [f"{e}: {what}" for e in events for what in _event(e, profiled)]
    if wrong:  # what follows leans on sound events
        return wrong
    return [*_names(events, profiled), *_stacks(events), *_arrows(events), *_counters(events)]


def _event(e, profiled):
    """What is wrong with one event by itself."""
    for key in ("pid", "tid"):
        if type(e.get(key)) is not int or e[key] < 1:
            yield f"{key} is not a whole number from 1"
    match e.get("ph"):
        case "M":
            key = METADATA.get(e.get("name"))
            kind = str if key == "name" else int
            if key is None or type(e.get("args", {}).get(key)) is not kind:
                yield "metadata that nobody reads"
        case "C":
            yield from _time(e, "ts")
            values = e.get("args", {}).values()
            if not values or not all(type(v) in (int, float) and v >= 0 for v in values):
                yield "a counter without numbers from 0"
        case "X":
            yield from _time(e, "ts")
            yield from _time(e, "dur")
            if profiled and e.get("cat") == "operators":
                if not isinstance(e.get("name"), str) or e["tid"] < 1000:
                    yield "an operator without a name, or among our rows"
            elif not NAME.fullmatch(str(e.get("name"))):
                yield "a name that gives no colour by its kind"
        case _:
            yield "neither X, C nor M"


def _time(e, key):
    value = e.get(key)
    if type(value) not in (int, float) or not 0 <= value < 1e15:
        yield f"{key} is no time"
    elif round(value, 3) != value:
        yield f"{key} has more than three decimals"


def _names(events, profiled):
    """Each process and thread in use has one name; idle boxes and messages keep to themselves."""
    given = defaultdict(list)
    for e in events:
        if e["ph"] == "M":
            given[e["name"], e["pid"], 0 if "process" in e["name"] else e["tid"]].append(e["args"])
    yield from (f"{key} is given {len(rows)} times" for key, rows in given.items() if len(rows) > 1)
    for pid in {e["pid"] for e in events}:
        if ("process_name", pid, 0) not in given or ("process_sort_index", pid, 0) not in given:
            yield f"process {pid} has no name or place"
    for e in events:
        if e["ph"] == "X":
            names = given.get(("thread_name", e["pid"], e["tid"]), [{"name": None}])
            if profiled and e.get("cat") == "operators":
                if not OPERATORS.fullmatch(str(names[0]["name"])):
                    yield f"{e['name']} is on the thread {names[0]['name']}"
            elif names[0]["name"] not in THREADS:
                yield f"thread {e['pid']}/{e['tid']} has no name"
            elif names[0]["name"] != _thread(e["name"]):
                yield f"{e['name']} is on the thread {names[0]['name']}"
            if ("thread_sort_index", e["pid"], e["tid"]) not in given:
                yield f"thread {e['pid']}/{e['tid']} has no place"


def _thread(name):
    if name.startswith(("SEND", "RECV")):
        return "messages"
    return "idle" if name.startswith(("WAIT", "idle")) else "compute"


def _ns(microseconds):
    return round(microseconds * 1000)


def _slices(events):
    """The X events as Perfetto sorts them: by time, else as they stand in the file."""
    return sorted((e for e in events if e["ph"] == "X"), key=lambda e: _ns(e["ts"]))


def _stacks(events):
    """On one thread, an event is apart from another or within it."""
    stacks = defaultdict(list)
    for e in _slices(events):
        start = _ns(e["ts"])
        end = start + _ns(e["dur"])
        stack = stacks[e["pid"], e["tid"]]
        while stack and stack[-1] <= start:
            stack.pop()
        if stack and end > stack[-1]:
            yield f"{e['name']} at {start} ns on {e['pid']}/{e['tid']} sticks out of its parent"
        stack.append(end)


def _arrows(events):
    """Each number has one start, then one end, on different processes."""
    started, ended = {}, set()
    for e in _slices(events):
        arrow = e.get("bind_id")
        if arrow is None:
            continue
        out, into = e.get("flow_out", False), e.get("flow_in", False)
        if not re.fullmatch("0x[0-9a-f]+", str(arrow)) or out == into:
            yield f"arrow {arrow} is no hexadecimal number with one direction"
        elif out and arrow in started:
            yield f"arrow {arrow} starts twice"
        elif out:
            started[arrow] = e["pid"]
        elif arrow not in started:
            yield f"arrow {arrow} ends before it starts: Perfetto drops it"
        elif arrow in ended or started[arrow] == e["pid"]:
            yield f"arrow {arrow} ends twice, or where it starts"
        else:
            ended.add(arrow)
    yield from (f"arrow {arrow} never ends" for arrow in started if arrow not in ended)


def _counters(events):
    """Each counter's times do not run backwards in the file."""
    last = defaultdict(int)
    for e in (e for e in events if e["ph"] == "C"):
        if _ns(e["ts"]) < last[e["pid"], e["name"]]:
            yield f"counter {e['name']} of {e['pid']} runs backwards"
        last[e["pid"], e["name"]] = _ns(e["ts"])
