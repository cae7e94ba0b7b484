"""What is wrong with the pages of a built site: dead links, requests that leave it, heavy pages."""

from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

LARGEST = 1_000_000  # bytes of a page
_LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
_FETCHED = {"stylesheet", "icon", "preload", "modulepreload", "manifest"}  # kinds of <link>


class _Page(NamedTuple):
    """What a page refers to, and the places in it that others can refer to."""

    links: list[str]
    loads: list[str]
    ids: set[str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = _Page([], [], set())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.page.ids.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.page.links.append(values["href"])
        if tag in _LOADS and _LOADS[tag] in values:
            kinds = set(values.get("rel", "stylesheet").split())
            target = self.page.loads if tag != "link" or kinds & _FETCHED else self.page.links
            target.append(values[_LOADS[tag]])


@cache
def _read(path: Path) -> _Page:
    reader = _Reader()
    reader.feed(path.read_text("utf-8"))
    return reader.page


def problems(site: Path) -> list[str]:
    """A line for each thing that is wrong; links to other sites are not followed."""
    _read.cache_clear()
    found: list[str] = []
    for path in sorted(site.resolve().rglob("*.html")):
        name = path.relative_to(site.resolve()).as_posix()
        found += [f"{name}: {words}" for words in _of_page(path, site.resolve())]
    return found


def _of_page(path: Path, site: Path) -> Iterator[str]:
    if (size := path.stat().st_size) > LARGEST:
        yield f"the page has {size:,} bytes, at most {LARGEST:,}"
    page = _read(path)
    for address in page.loads:
        if urlsplit(address).netloc:
            yield f"loads {address}, which is not of this site"
    for address in dict.fromkeys([*page.loads, *page.links]):
        if words := _dead(address, path, site):
            yield f"{words}: {address}"


def _dead(address: str, path: Path, site: Path) -> str:
    """Why a link of a page leads nowhere in this site, or ""."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return ""
    if parts.path.startswith("/"):
        return "the link starts at the host's root, where the site may not be"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_relative_to(site) or not target.is_file():
        return "dead link"
    if parts.fragment and target.suffix == ".html":
        wanted = unquote(parts.fragment)
        if wanted not in _read(target).ids:
            return "no such place on the page"
    return ""
