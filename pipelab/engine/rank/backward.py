"""A backward in two halves: first the input's gradient, for which a rank waits; weights later.

    input ──▶ N1 ──▶ N2 ──▶ output        nodes of autograd's graph, in forward direction
              ▲      ▲
              w1     w2                   weights, each joining the path at a node

I runs backward along the path from output to input only, and saves the gradient that arrives at
each node where a weight joins. W starts from these saved gradients, and runs to the weights only.
Nothing is computed twice, so I + W costs as much as a full backward, plus the saving. Where a graph
holds what must run once (see ``run_once``), I runs the whole backward and W is empty.

The idea is that of the zero-bubble paper (arXiv 2401.10241); torch.distributed.pipelining splits
at the level of autograd's nodes too.
"""

from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from pipelab.engine.rank.run_once import python_functions

Gradients = tuple[Tensor | None, ...]


def run_backward(
    outputs: Sequence[Tensor | GradientEdge], gradients: Sequence[Tensor],
    keep_graph: bool = False, inputs: Sequence[Tensor] = (),
) -> None:  # fmt: skip
    """torch.autograd.backward without its checks in Python, which cost 50 µs a call.

    What they check holds here: every output has a graph, and a gradient of the same shape.
    With ``inputs``, to these alone.
    """
    torch.autograd.Variable._execution_engine.run_backward(
        tuple(outputs), tuple(gradients), keep_graph, False, tuple(inputs),
        allow_unreachable=True, accumulate_grad=True,
    )  # fmt: skip


@dataclass(eq=False)
class WeightsLater:
    """What I leaves for W: for each node that weights join, the gradient that arrived there.

    Attributes:
        outputs: of one microbatch, each with a graph, and ``gradients``, one for each of them.
        entry: the node at the input, or None on a first stage.
        earlier: other leaves of the graph that gradients are wanted of at once: what a slice of a
            sequence used of the slices before it.
        run_once: what was seen in the forward that must run once, such as hooks. Then I runs the
            whole backward and leaves nothing for W; the same holds for functions in Python.
    """

    outputs: Sequence[Tensor]
    gradients: Sequence[Tensor]
    entry: Node | None
    run_once: Sequence[str] = ()
    earlier: Sequence[Tensor] = ()
    saved: list[tuple[Node, list[Tensor], Gradients]] = field(default_factory=list)
    shared: list[Tensor] = field(default_factory=list)

    def add(self, outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Begin at these outputs, too."""
        self.outputs, self.gradients = [*self.outputs, *outputs], [*self.gradients, *gradients]

    def backward_input(self, anchor: Tensor) -> None:
        """I: run the graph from the outputs to the entry alone."""
        if self.entry is None or not self.outputs:
            return  # a first stage: nobody waits for its input's gradient, W does everything
        roots = [output.grad_fn for output in self.outputs if output.grad_fn is not None]
        children = children_first(roots)
        ends = {self.entry}
        if self.earlier:
            ends.update(n for n in children if _is_one_of(_leaf(n), self.earlier))
        functions = python_functions(node for node in children if node is not self.entry)
        self.run_once = [*self.run_once, *functions]
        if self.run_once:
            run_backward(self.outputs, self.gradients)
            return
        junctions, aside = _junctions(children, roots, ends)
        aside += [output for output in self.outputs if output.is_leaf]
        uses = Counter(weight for _, weights in junctions for weight in weights)
        # A weight that joins twice is reached from both nodes, and would count too often; one that
        # reaches an output past the way is reached from none. They get a backward of their own.
        twice = [weight for weight, number in uses.items() if number > 1]
        shared = dict.fromkeys([*twice, *aside])
        self.shared, hooks = list(shared), []
        for node, weights in junctions:
            if own := [weight for weight in weights if weight not in shared]:
                hooks.append(node.register_prehook(self._save(node, own)))
        self._run(inputs=[anchor, *self.earlier])
        for hook in hooks:
            hook.remove()

    def backward_weight(self) -> None:
        """W: from each saved gradient to the weights that join there."""
        if self.entry is None:
            if self.outputs:
                run_backward(self.outputs, self.gradients)
            return
        if self.run_once:
            return
        for node, weights, gradients in self.saved:
            there = [(i, g) for i, g in enumerate(gradients) if g is not None]
            edges = [GradientEdge(node, i) for i, _ in there]
            run_backward(edges, [g for _, g in there], keep_graph=True, inputs=weights)
        self.saved.clear()
        if self.shared:
            self._run(inputs=self.shared)

    def _run(self, inputs: list[Tensor]) -> None:
        run_backward(self.outputs, self.gradients, keep_graph=True, inputs=inputs)

    def _save(self, node: Node, weights: list[Tensor]) -> Callable[[Gradients], None]:
        def hook(gradients: Gradients) -> None:
            self.saved.append((node, weights, gradients))

        return hook


def _junctions(
    children: dict[Node, list[Node]], roots: Sequence[Node], ends: Set[Node]
) -> tuple[list[tuple[Node, list[Tensor]]], list[Tensor]]:
    """The nodes on a path from the roots to an end that weights join, with these weights.

    And the weights below roots beside the path: of outputs made only of weights.
    """
    on_path = set(ends)
    for node, below in children.items():
        if not on_path.isdisjoint(below):
            on_path.add(node)
    leaves: dict[Node, list[Tensor]] = {}
    for node, below in children.items():
        if node in on_path:
            continue
        leaf = _leaf(node)
        found = [] if leaf is None else [leaf]
        leaves[node] = found + [leaf for child in below for leaf in leaves[child]]
    out = []
    for node, below in children.items():
        if node in on_path and node not in ends:
            joined = [leaf for child in below for leaf in leaves.get(child, ())]
            if joined:
                out.append((node, list(dict.fromkeys(joined))))
    return out, [leaf for root in roots for leaf in leaves.get(root, [])]


def _leaf(node: Node) -> Tensor | None:
    """The leaf of the graph whose gradient a node adds up: AccumulateGrad."""
    variable: Tensor | None = getattr(node, "variable", None)
    return variable


def _is_one_of(tensor: Tensor | None, others: Sequence[Tensor]) -> bool:
    return any(tensor is other for other in others)


def children_first(roots: Sequence[Node]) -> dict[Node, list[Node]]:
    """All nodes below the roots, each after its children, with these.

    Without recursion, since graphs are deep; and each node is asked once, since that takes long.
    """
    order: dict[Node, list[Node]] = {}
    seen: dict[Node, list[Node]] = {}
    for root in roots:
        stack = [] if root in seen else [(root, iter(_look(root, seen)))]
        while stack:
            node, children = stack[-1]
            child = next(children, None)
            if child is None:
                order[node] = seen[node]
                stack.pop()
            elif child not in seen:
                stack.append((child, iter(_look(child, seen))))
    return order


def _look(node: Node, seen: dict[Node, list[Node]]) -> list[Node]:
    """A node's children; from now on it is seen."""
    found = seen[node] = [child for child, _ in node.next_functions if child is not None]
    return found
