"""The progress page: a reader sees an entry whole, however far its writer is."""

from pipelab.action import Action, Kind
from pipelab.engine.protocol.progress import Begun, Progress, Wanted

FIRST = Action(3, Kind.F, 7)
WANTED = Wanted(Action(2, Kind.SEND_F, 70_000), 1)
NEXT = Action(300, Kind.RECV_F, 70_000)


class Page:
    """A page that is looked at after each change."""

    def __init__(self, page, look):
        self.page, self.look = page, look

    def __setitem__(self, place, value):
        self.page[place] = value
        self.look()


def test_each_read_is_an_entry_from_before_or_after_and_never_a_mixture(tmp_path):
    writer, reader = Progress(tmp_path, 2), Progress(tmp_path, 2)
    assert reader.read(1) == Begun()
    writer.write(1, FIRST, since=1.0)
    old, new = Begun(1, FIRST, 1.0), Begun(2, NEXT, 2.0, WANTED)
    seen = []
    page, writer._page = writer._page, Page(writer._page, lambda: seen.append(reader.read(1)))
    writer.write(1, NEXT, WANTED, since=2.0)
    assert len(seen) > 1 and seen[-1] == new and set(seen[:-1]) == {old}
    assert reader.read(0) == Begun()
    page.close()
    reader.close()
    assert reader.begun() == ()


def test_an_entry_that_its_rank_left_half_written_is_not_taken(tmp_path):
    """A rank that is killed in the middle of it; each byte may be the last one written."""
    rank, reader = Progress(tmp_path, 1), Progress(tmp_path, 1)
    rank.write(0, FIRST, since=1.0)
    whole = bytes(reader._page)
    rank.write(0, NEXT, WANTED, since=2.0)
    new = bytes(reader._page)
    count, rest = new[:8], new[8:]
    for written in range(len(rest)):
        reader._page[:] = whole[:8] + rest[:written] + whole[8 + written :]
        assert reader.read(0) == Begun(1, FIRST, 1.0)
    reader._page[:] = count + rest
    assert reader.read(0) == Begun(2, NEXT, 2.0, WANTED)
    rank.close()
    reader.close()
