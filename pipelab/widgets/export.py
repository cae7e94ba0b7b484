"""Widgets whose picture can be saved as one HTML file, by a button of the front end."""

from abc import ABCMeta, abstractmethod

import anywidget
from traitlets import List, MetaHasTraits, Unicode

from pipelab.trace import Trace


class _AbstractWidget(ABCMeta, MetaHasTraits):
    """The metaclass of widgets with abstract methods: that of all widgets ignores them."""


class ExportedWidget(anywidget.AnyWidget, metaclass=_AbstractWidget):
    """A widget that answers the button: the page travels in a message, so no notebook stores it."""

    show: List[str] = List(Unicode()).tag(sync=True)  # what is drawn beside the boxes, at first

    def __init__(self, **traits: object):
        super().__init__(**traits)
        self.on_msg(self._answer)

    @abstractmethod
    def _exported(self) -> tuple[Trace, str] | None:
        """The trace, and the text of a page that plays it; None where there is none yet."""

    def _answer(self, widget: object, content: dict[str, object], buffers: object) -> None:
        if content.get("ask") != "page":
            return
        if (found := self._exported()) is None:
            return
        s = found[0].setting
        name = f"{s.schedule}-{s.ranks}-ranks-{s.microbatches}-microbatches.html"
        self.send({"page": name}, [found[1].encode()])
