"""What an answer prints, as far as it is shown below its verdict."""

from collections.abc import Sequence

_MOST_CALLS = 6
_MOST_LINES = 8  # of one call
_MOST_CHARACTERS = 100  # of one line
_MOST_BYTES = _MOST_LINES * _MOST_CHARACTERS * 4
NEXT = b"\0"  # between what two calls print


class Prints:
    """Text by call: the first lines of the first calls; the rest is counted and dropped."""

    def __init__(self) -> None:
        self._calls: list[tuple[int, str, bytearray]] = []
        self._dropped = 0

    def of(self, cases: Sequence[tuple[object, ...]]) -> "_OfCases":
        """To add what a process prints that calls the answer for these cases."""
        return _OfCases(self, cases)

    def add(self, place: int, given: str, data: bytes) -> None:
        """More that was printed by the call of a case with these arguments, perhaps cut."""
        if not self._calls or self._calls[-1][:2] != (place, given):
            if len(self._calls) == _MOST_CALLS:
                self._dropped += len(data)
                return
            self._calls.append((place, given, bytearray()))
        kept = self._calls[-1][-1]
        room = _MOST_BYTES - len(kept)
        kept += data[:room]
        self._dropped += max(0, len(data) - room)

    def __str__(self) -> str:
        r"""Below each call what it printed; "" if nothing was.

        >>> prints = Prints()
        >>> prints.of([(3, 6), (1, 2)]).add(b"three cooks\n" + NEXT)
        >>> print(prints)
        with 3, 6 your answer printed:
          three cooks
        """
        parts = []
        dropped = self._dropped
        for _, given, data in self._calls:
            lines = data.decode("utf-8", "replace").splitlines()
            dropped += sum(map(len, lines[_MOST_LINES:]))
            parts.append(f"with {given} your answer printed:")
            parts += [f"  {_cut(line)}" for line in lines[:_MOST_LINES]]
        if dropped:
            parts.append(f"  ... and {dropped:,} more characters")
        return "\n".join(parts)


class _OfCases:
    """Sorts the bytes of one process by the call that printed them."""

    def __init__(self, prints: Prints, cases: Sequence[tuple[object, ...]]):
        self._prints = prints
        self._cases = cases
        self._place = 0

    def add(self, data: bytes) -> None:
        """More that the process printed."""
        from pipelab.lessons.written import written  # knows torch, which most answers do without

        first, *others = data.split(NEXT)
        for place, part in enumerate([first, *others], self._place):
            if part and place < len(self._cases):
                given = _cut(", ".join(map(written, self._cases[place])))
                self._prints.add(place, given, part)
        self._place += len(others)


def _cut(line: str) -> str:
    return line if len(line) <= _MOST_CHARACTERS else line[: _MOST_CHARACTERS - 1] + "…"
