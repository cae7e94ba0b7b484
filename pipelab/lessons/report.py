"""``pipelab progress``: the ledger as Markdown."""

from collections.abc import Sequence

from pipelab.lessons.ledger import Ledger, Row


def markdown(ledger: Ledger) -> str:
    """Two tables: exercises with their attempts and hints, predictions beside what was measured."""
    checks = [
        (name, "passed" if row.get("passed") else "not yet", _text(row.get("attempts", 0)),
         _text(ledger["hints"].get(name, {}).get("asked", 0)), _failed(row))
        for name, row in sorted(ledger["checks"].items())
    ]  # fmt: skip
    predictions = [
        (name, _text(row.get("value", "none")), _text(row.get("measured", "not yet")))
        for name, row in sorted(ledger["predictions"].items())
    ]
    passed = sum(row[1] == "passed" for row in checks)
    parts = ["# Progress", f"{passed} of {len(checks)} exercises tried are passed."]
    if checks:
        parts.append(
            _table(("exercise", "result", "attempts", "hints", "what failed last"), checks)
        )
    if predictions:
        parts += ["## Predictions", _table(("lesson", "predicted", "measured"), predictions)]
    return "\n\n".join(parts)


def _failed(row: Row) -> str:
    failed = row.get("failed")
    return ", ".join(map(str, failed)) if isinstance(failed, list) else ""


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
