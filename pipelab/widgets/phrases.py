"""The words of the browser: the front end fills in numbers and names, and writes no sentence.

They travel in the front end itself, as the module ``words.js`` that ``bundle`` adds to it. What
depends on a trace as a whole is written by ``data``.
"""

import json
import re
from collections.abc import Container

from pipelab.story import STORIES, reworded
from pipelab.words import BYTE_UNITS, KINDS, REASONS, TIME_UNITS

PHRASES = {
    # what a rank does at a time, after its name
    "doing": "{token}: {kind}, microbatch {microbatch}",
    "doing_stage": "{token}: {kind}",
    "finished": "has finished",
    "not_begun": "has not begun",
    "waits": "waits",
    "waits_for": "waits for {token} of rank {rank}",
    "about_to_start": "is about to start {token}",
    "all_computed": "has computed all its actions",
    # one action, line by line
    "action": "{token} on rank {rank}: {kind} of microbatch {microbatch}, stage {stage}",
    "action_stage": "{token} on rank {rank}: {kind}, stage {stage}",
    "times": "{duration}, from {start} to {end}",
    "bytes": "{bytes} {what}",
    "to_rank": "to rank {rank}",
    "from_rank": "from rank {rank}",
    "idle_before": "idle for {duration} before it: {idle}",
    "later": "starts {time} later than {other}",
    "earlier": "starts {time} earlier than {other}",
    "longer": "takes {time} more than {other}",
    "shorter": "takes {time} less than {other}",
    "than_predicted": "predicted",
    "than_recorded": "in the other run",
    # one piece of idle time, and memory
    "idle": "rank {rank} is idle for {duration}, {percent} % of the step ({phase})",
    "idle_why": "it {idle}",
    "holds": "rank {rank} holds {held} at {time}, at most {peak}",
    "activations": "{count} activations",
    "kept": "{count} kept",
    "budget": "budget: {bytes}",
    # around the picture
    "rank": "rank {rank}",
    "memory": "memory",
    "ghost_predicted": "predicted",
    "ghost_recorded": "other",
    "ghost_former": "before",
    "export": "Export",
    "export_help": "Save as one HTML file, which plays anywhere",
    "export_silent": "Export: no answer from the kernel, or no run yet",
    "zoomed": "{factor} times closer",
    "step_choice": "Steps to show",
    "all_steps": "All {count} steps",
    "one_step": "Step {step}",
    "in_step": "In step {step}.",
    "zoom_map": "The part that is shown; a click goes there",
    "help_rows": "Each row is a rank; time goes to the right. A box is an action: its letter says "
    "what is done, its number the microbatch.",
    "help_idle": "Grey is idle time. Point at it: it says why, and which rank holds it up.",
    "help_follow": "A click on a box follows its microbatch through all stages.",
    "help_choose": "Click an action, or choose one with the arrow keys and Enter, to follow its "
    "microbatch.",
    "help_keys": "Arrow keys move from action to action, Enter follows its microbatch, Escape "
    "deselects, Space plays, plus and minus zoom, Shift with arrow keys moves the window, 0 shows "
    "all. Ctrl with the wheel zooms, dragging moves.",
    "rank_does": "rank {rank} {does}",
    "idle_share": "{share} idle",
    "following": "following microbatch {microbatch}: {count} messages between ranks, "
    "from {start} to {end}",
    "at": "At {time}: {ranks}.",
    "end": "End of the step, {time}.",
    "real_time": "real time",
    "faster": "{factor} times as fast",
    "slower": "1/{factor} of real time",
    # the legend
    "idle_because": "idle: {reason}",
    "or": "{one}, or {other}",
    "lighter": "lighter: a later stage of the rank",
    "dashed": "dashed: memory budget, {bytes}",
    # the table of all actions
    "all_actions": "all {count} actions",
    "first_actions": "the first {shown} of {count} actions",
    # the editor
    "token_for": "Token to add to rank {rank}",
    # the chart of all runs
    "theory": "line: {name} in theory, {fixed}",
    "mark": "{mark}: {name}",
    "prediction_mark": "×: your prediction",
    "hollow_mark": "hollow: the machine was busy",
    "pale_mark": "pale: of another {letter}",
    "percent": "{value} %",
    "microbatches_axis": "microbatches m",
    "ranks_axis": "ranks p",
    "chart_m": "The bubble of {count} runs against microbatches",
    "chart_p": "The bubble of {count} runs against ranks",
}

# Of idle time, where its box is too narrow for the sentence; {token} is awaited. The longest is
# first, and the reason's name follows.
_WAITS = ["waits for {token}"]
IDLE_LABELS = {"waiting": _WAITS, "imbalance": _WAITS, "message": ["{token} in transit"]}


def words_module(used: Container[str] = PHRASES, story: str = "") -> str:
    """The source of ``words.js``; of the phrases only those whose names are in ``used``.

    ``story``: in whose words, a name in story.py.
    """
    units = [(STORIES[story].seconds, STORIES[story].unit)] if story else TIME_UNITS
    words = {
        "phrases": {n: reworded(text, story) for n, text in PHRASES.items() if n in used},
        "kinds": {kind: {"name": own.name, "bytes": own.bytes} for kind, own in KINDS.items()},
        "reasons": {
            reason: [reworded(own.name, story), own.short] for reason, own in REASONS.items()
        },
        "idleLabels": {reason: IDLE_LABELS.get(reason, []) for reason in REASONS},
        "timeUnits": units,
        "byteUnits": BYTE_UNITS,
    }
    text = re.sub(r'"([a-zA-Z_]\w*)":', r"\1:", json.dumps(words, ensure_ascii=False))
    return f"export const WORDS = {text};\n"
