"""A cut as Megatron-LM writes it: which layers each stage has, in letters.

    E t*3 | t*4 | t*4 | t*3 L       E: the embedding, t: a transformer block, L: the output head
    E|(t|)*8L                       the same stage eight times; blanks and commas do not count

``--pipeline-model-parallel-layout`` of Megatron-LM reads the same text. There, L is the loss with
the head before it; here the loss is no layer. E and L may be several layers of ours (a dropout
after the embedding, a norm before the head): all before the first block, all after the last one.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

from torch import nn

from pipelab.errors import PartitionError
from pipelab.partition.chain import named_layers
from pipelab.words import number

_LETTERS = re.compile(r"[Etm L|*(),\d\s]+")
_GROUP = re.compile(r"\(([^()]*)\)(?:\*(\d+))?|([EtmL|])\*(\d+)")
_LONGEST = 100_000  # letters: a layout with nested repeats must not eat the memory


def is_layout(text: str) -> bool:
    """Whether a text is meant as a layout: it has no other letters.

    >>> is_layout("E t*3 | t L"), is_layout("time")
    (True, False)
    """
    return _LETTERS.fullmatch(text) is not None


def stage_letters(layout: str) -> list[str]:
    """The letters of each stage, repeats written out. Raises PartitionError for no layout.

    >>> stage_letters("E t*2 | (t|)*2 t L")
    ['Ett', 't', 't', 'tL']
    """
    if "m" in layout:
        raise _refusal(layout, "m, a layer of multi-token prediction, is not built here")
    if not is_layout(layout):
        raise _refusal(layout, "letters are E (embedding), t (block), L (head), | between stages")
    text, changed = re.sub(r"[\s,]", "", layout), 1
    while changed:
        text, changed = _GROUP.subn(lambda found: _repeated(layout, found), text)
    if strange := re.search(r"[^EtL|]", text):
        raise _refusal(layout, f"{strange[0]!r} is out of place: write t*3, or (t|)*3")
    stages = text.split("|")
    if "" in stages:
        raise _refusal(layout, f"stage {stages.index('')} is empty: every stage has a layer")
    if not re.fullmatch("E?t*L?", "".join(stages)):
        raise _refusal(layout, "E comes once, first; L comes once, last")
    return stages


def sizes_of(layout: str, model: nn.Module, num_stages: int) -> list[int]:
    """How many layers each stage has. Raises PartitionError where the layout does not fit."""
    stages = stage_letters(layout)
    if len(stages) != num_stages:
        raise _refusal(layout, f"it has {number(len(stages), 'stage')}, wanted are {num_stages}")
    layers = named_layers(model)
    first, last = _blocks(layout, stages, layers)
    blocks, wanted = last - first, sum(letters.count("t") for letters in stages)
    if blocks != wanted:
        raise _refusal(layout, f"it has {wanted} t, the model {number(blocks, 'layer')} for them")
    count = {"E": first, "t": 1, "L": len(layers) - last}
    return [sum(count[letter] for letter in letters) for letters in stages]


def layout_of(stages: Sequence[nn.Module]) -> str:
    """The layout of a model that is cut, for Megatron's option; any cut of ``split`` has one.

    Without an embedding and a head, every layer is a t.
    """
    rows = [[*named_layers(stage).values()] for stage in stages]
    layers = [layer for row in rows for layer in row]
    kind = _block(layers)
    alike = [i for i, layer in enumerate(layers) if type(layer) is kind]
    first, last = (alike[0], alike[-1] + 1) if _has_embedding(layers[0]) else (0, len(layers))
    letters = iter(["E"] * first + ["t"] * (last - first) + ["L"] * (len(layers) - last))
    return " | ".join(_shortened([next(letters) for _ in row]) for row in rows)


def _shortened(letters: Sequence[str]) -> str:
    counts = [(letter, len([*run])) for letter, run in groupby(letters)]
    return " ".join(f"t*{n}" if letter == "t" and n > 1 else letter for letter, n in counts)


def _repeated(layout: str, found: re.Match[str]) -> str:
    group, times, letter, count = found.groups()
    text, repeats = letter or group, int(count or times or 1)
    if len(text) * repeats > _LONGEST:
        raise _refusal(layout, f"it repeats more than {_LONGEST} layers")
    return text * repeats


def _blocks(layout: str, stages: Sequence[str], layers: Mapping[str, nn.Module]) -> tuple[int, int]:
    """Where the layers begin and end that t stands for."""
    row = [*layers.values()]
    has_embedding, has_head = stages[0][0] == "E", stages[-1][-1] == "L"
    if not has_embedding and _has_embedding(row[0]):
        raise _refusal(layout, "the model's first layer is an embedding: it counts, as E")
    if not has_embedding and not has_head:
        return 0, len(row)
    kind = _block(row)
    alike = [i for i, layer in enumerate(row) if type(layer) is kind]
    first, last = alike[0] if has_embedding else 0, alike[-1] + 1 if has_head else len(row)
    if has_embedding and first == 0:
        raise _refusal(layout, f"no layer stands before the blocks ({kind.__name__}) as E")
    if has_head and last == len(row):
        raise _refusal(layout, f"no layer stands after the blocks ({kind.__name__}) as L")
    for name, layer in [*layers.items()][first:last]:
        if type(layer) is not kind:
            what = f"layer {name!r} is a {type(layer).__name__}, the blocks are {kind.__name__}"
            raise _refusal(layout, f"{what}:\nt stands for a block, E and L for what is around")
    return first, last


def _block(layers: Sequence[nn.Module]) -> type[nn.Module]:
    """The class of the blocks: the one that most layers have, and the largest among equals.

    The embedding and the last layer do not count, unless there is no other.
    """
    inner = [layer for layer in layers[:-1] if not _has_embedding(layer)] or [*layers]
    count, size = Counter(map(type, inner)), Counter[type[nn.Module]]()
    for layer in inner:
        size[type(layer)] += sum(parameter.numel() for parameter in layer.parameters())
    return max(count, key=lambda kind: (count[kind], size[kind]))


def _has_embedding(layer: nn.Module) -> bool:
    return any(isinstance(part, nn.Embedding) for part in layer.modules())


def _refusal(layout: str, why: str) -> PartitionError:
    shown = layout if len(layout) <= 40 else f"{layout[:37]}..."
    return PartitionError(f"layout={shown!r}:\n{why},\nsuch as 'E t*3 | t*4 | t*3 L'")
