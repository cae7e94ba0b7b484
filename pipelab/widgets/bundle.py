"""The front end as one ES module: the files that an entry imports, in their order, in one text.

    single | lab | editor     entries, one for each widget; each imports what it uses
    words.js                  no file: made of ``phrases``, so that Python writes all words

Nothing is built beforehand, and the browser fetches nothing. ``import`` lines are resolved here,
comments and most white space are left out, which would be half of what a notebook stores.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pipelab.widgets.phrases import words_module

FOLDER = Path(__file__).with_name("front")
_IMPORT = re.compile(r'^import (?:\{[^}]*\}|\w+) from "\./([\w-]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default\b)", re.MULTILINE)

# The parts of a script: text up to the next character that may begin a comment or a literal.
_CODE = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
    | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    | (?P<mark>[`/{}])
    | (?P<text>[^"'`/{}]+)""",
    re.DOTALL | re.VERBOSE,
)
_REGEX = re.compile(r"/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]*")
_TEMPLATE = re.compile(r"(?:\\.|\$(?!\{)|[^\\$`])*(?:`|\$\{)", re.DOTALL)
_OPERATOR = re.compile(r" ?([=(),;:?<>&|*!\[\]]+) ?")  # not + and -: "a + +b" needs its space
_MINUS = re.compile(r"(?<=[\w)\]]) ?([+-]) ?(?=[\w(])")
_ARROW = re.compile(r"(?<![\w$])\( ?(\w+)\)=>")
_DECLARED = re.compile(
    r"""((?<!\()\blet(?:\ |(?=[{\[]))(?:\{[\w$,:]*\})?(?:[^;{}"'`]|"[^";{}\n]*")*);
    let(?:\ |(?=[{\[]))""",
    re.VERBOSE,
)
_NAME = re.compile(r"\b[a-zA-Z_]\w*")
_MATH = re.compile(r"(?<![\w$.])Math(?=\.)")
_BEFORE_REGEX = re.compile(r"(?:^|[(,=:\[!&|?{};+\-*%<>~^]|\breturn)\s*$")


def script(entry: str, story: str = "") -> str:
    """The module of an entry, with everything that it imports; it imports nothing itself.

    ``story``: in whose words, a name in story.py.

    Raises:
        ValueError: files import each other in a circle, or two of them use one name.
    """
    return _script(entry, story)  # one entry of the cache, whether or not the story is named


@cache
def _script(entry: str, story: str) -> str:
    order: list[str] = []
    _visit(entry, (), order)
    sources = {name: _source(name) for name in order}
    if sources.pop("words", None):
        said = set(re.findall(r'"(\w+)"', "".join(sources.values())))
        sources["words"] = words_module(said, story)
    texts = [sources[name] for name in order]
    names = _check_names(texts)
    parts = [_EXPORT.sub("", _IMPORT.sub("", text)) for text in texts[:-1]]
    return _renamed(without_comments("".join([*parts, _IMPORT.sub("", texts[-1])])), names)


@cache
def style(*names: str) -> str:
    """The style sheets as one, without comments and indentation."""
    text = "\n".join(FOLDER.joinpath(f"{name}.css").read_text("utf-8") for name in names)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def _source(name: str) -> str:
    return words_module() if name == "words" else FOLDER.joinpath(f"{name}.js").read_text("utf-8")


def _visit(name: str, above: tuple[str, ...], order: list[str]) -> None:
    """Add a file to ``order``, after all that it imports."""
    if name in above:
        raise ValueError(f"files of the front end import each other: {' > '.join([*above, name])}")
    if name in order:
        return
    for imported in _IMPORT.findall(_source(name)):
        _visit(imported, (*above, name), order)
    order.append(name)


def _check_names(texts: list[str]) -> list[str]:
    """All names that files declare: they share one scope in the bundle, so each only once."""
    declared = r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)"
    names = [name for text in texts for name in re.findall(declared, text, re.MULTILINE)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two files of the front end declare {', '.join(twice)}: rename one")
    return names


def _renamed(script: str, names: list[str]) -> str:
    """The script with short names for CONSTANTS, and functions that are only declared and called.

    A name that is used in any other way stays: it may be a property's, or a local one's, too.
    One walk over the script for all names: one for each would take a second.
    """
    short = {name: f"${count}" for count, name in enumerate(names)}
    for use in _NAME.finditer(script):
        before, after = script[use.start() - 1 : use.start()], script[use.end() : use.end() + 1]
        if (before and before in "$.\"'-") or not (after == "(" or use[0].isupper()):
            short.pop(use[0], None)
    script = _NAME.sub(lambda use: short.get(use[0], use[0]), script)
    return f"const $M=Math;{_MATH.sub('$M', script)}"


def without_comments(text: str) -> str:
    """A script without comments and most white space; strings and templates stay as they are.

    >>> without_comments('const a = "// no"; // yes')
    'let a="// no";'
    """
    kept: list[str] = []
    before = ""  # the kind of the last token that was kept
    for kind, token in _tokens(text):
        if kind == "comment":
            continue
        if token in ("{", "}", "/") and before == "text":
            kept[-1] = kept[-1].rstrip()
        if token == "}" and before == "text":
            kept[-1] = kept[-1].removesuffix(";")
        kept.append(_unspaced(token, kept) if kind == "text" else token)
        before = kind
    return _joined(_ARROW.sub(r"\1=>", "".join(kept).strip()))


def _joined(script: str) -> str:
    """Declarations that follow each other as one, where the first holds no bracket or text."""
    before = ""
    while script != before:
        before, script = script, _DECLARED.sub(r"\1,", script)
    return script


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """A script cut into comments, literals, brackets and other text, each with its kind."""
    open_braces = [0]  # of the code, and of each ${...} around the place
    place, before = 0, ""
    while place < len(text):
        match = _CODE.match(text, place)
        if match is None:
            raise ValueError(f"cannot read the script at {text[place : place + 30]!r}")
        kind, token = str(match.lastgroup), match[0]
        ends_placeholder = token == "}" and open_braces[-1] == 0 and len(open_braces) > 1
        if token == "/" and _BEFORE_REGEX.search(before) and (literal := _REGEX.match(text, place)):
            kind, token = "regex", literal[0]
        elif token == "`" or ends_placeholder:
            if ends_placeholder:
                open_braces.pop()
            kind, token = "template", _template(text, place)
            if token.endswith("${"):
                open_braces.append(0)
        elif kind == "mark" and token in "{}":
            open_braces[-1] += 1 if token == "{" else -1
        place += len(token)
        if kind != "comment":
            before = (before + token)[-40:]
        yield kind, token


def _template(text: str, place: int) -> str:
    """From a backquote, or the end of a placeholder, to the next of either."""
    rest = _TEMPLATE.match(text, place + 1)
    if rest is None:
        raise ValueError(f"a template has no end: {text[place : place + 30]!r}")
    return text[place : rest.end()]


def _unspaced(token: str, kept: list[str]) -> str:
    """Code between literals: no indentation, no line ends and spaces that nothing depends on."""
    token = re.sub(r"\s*\n\s*", "\n", token)
    token = _OPERATOR.sub(r"\1", token)
    token = _MINUS.sub(r"\1", token)
    token = re.sub(r"\bconst\b", "let", token)  # eslint has seen that it is never set again
    token = re.sub(r"\btrue\b", "!0", re.sub(r"\bfalse\b", "!1", token))
    token = re.sub(r"(?<=[;,=(>?:&|)])\n|\n(?=[.?:&|])", "", token)
    if not kept or kept[-1].endswith(("\n", "{", ";", ",")):
        return token.lstrip()
    return token.lstrip() if kept[-1] in ("}", "/") else token
