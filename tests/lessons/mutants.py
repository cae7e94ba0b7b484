"""Small changes of a right answer, one at a time: what a slip of a learner's looks like."""

import ast
import copy
import inspect
import textwrap
from collections.abc import Iterator

SWAPS = {
    ast.Add: [ast.Sub, ast.Mult],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Add, ast.Div],
    ast.Div: [ast.Mult, ast.FloorDiv],
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt],
    ast.Eq: [ast.NotEq],
    ast.In: [ast.NotIn],
}
NAMES = {"min": "max", "max": "min", "sum": "max", "len": "max", "start": "end", "end": "start"}
NAMES |= {"sorted": "list", "ceil": "floor", "round": "int"}


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """What was changed, and the source with it."""
    tree = ast.parse(textwrap.dedent(source))
    for number, node in enumerate(ast.walk(tree)):
        for change in range(4):
            changed = copy.deepcopy(tree)
            target = [*ast.walk(changed)][number]
            before = ast.unparse(node) if isinstance(node, ast.expr) else ""
            if _change(target, change):
                after = ast.unparse(target) if isinstance(target, ast.expr) else ""
                line = getattr(node, "lineno", 0)
                yield f"line {line}: {before} -> {after}", ast.unparse(changed)


def _change(node: ast.AST, change: int) -> bool:
    """Make the change of this number, if there is one."""
    match node:
        case ast.BinOp():
            kinds = SWAPS.get(type(node.op), [])
            if change < len(kinds):
                node.op = kinds[change]()
                return True
            if change == 2 and isinstance(node.op, ast.Add | ast.Sub | ast.Mult):
                node.op, node.right = ast.Mult(), ast.Constant(1)  # the right side is forgotten
                return True
        case ast.Compare(ops=[op]):
            kinds = SWAPS.get(type(op), [])
            if change < len(kinds):
                node.ops = [kinds[change]()]
                return True
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if change < 2:
                node.value = value + (1 if change else -1)
                return True
        case ast.Name() | ast.Attribute():
            name = node.id if isinstance(node, ast.Name) else node.attr
            if change == 0 and name in NAMES and isinstance(node.ctx, ast.Load):
                if isinstance(node, ast.Name):
                    node.id = NAMES[name]
                else:
                    node.attr = NAMES[name]
                return True
    return False


def functions_of(source: str, scope: dict[str, object]) -> dict[str, object]:
    """What the source defines, in a copy of the names around it."""
    names = dict(scope)
    exec(source, names)
    return names


def source_of(function: object) -> str:
    """Its source."""
    return inspect.getsource(function)  # type: ignore[arg-type]
