"""The front end's own functions, its types and its style: run by node, without a page.

What it needs: node and npm, and the tools that ``tests/front/package.json`` names; npm installs
those into a cache folder when they are first needed.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from pipelab.schedules import dual_pipe_v, interleaved, one_f_one_b, seq1f1b, zero_bubble_v
from pipelab.schedules.communication import lower
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace
from pipelab.widgets import bundle
from pipelab.widgets.data import head, packed
from pipelab.widgets.phrases import words_module

HERE = Path(__file__).parent
CASES = sorted(HERE.glob("*.mjs"))
SETTINGS = ("package.json", "tsconfig.json", "eslint.config.js")
RUNTIME = bundle.FOLDER.parents[1] / "site" / "runtime.js"  # the playground's worker
ENTRIES = ("single", "lab", "editor", "levels", "levels_page", "playground")


def node() -> str:
    """The machine's node, or the one that playwright brings along."""
    if found := shutil.which("node"):
        return found
    from playwright._impl._driver import compute_driver_executable

    bundled = Path(compute_driver_executable()[0])
    assert bundled.is_file(), "no node here: install Node.js 20 or newer, or playwright"
    return str(bundled)


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of typescript and eslint, installed once for each content of package.json."""
    wanted = HERE.joinpath("package.json").read_bytes()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path(tempfile.gettempdir()))
    folder = caches / f"pipelab-front-{hashlib.sha256(wanted).hexdigest()[:12]}"
    if not (folder / "installed").exists():
        npm = shutil.which("npm")
        assert npm, "no npm here to install typescript and eslint: install Node.js 20 or newer"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_bytes(wanted)
        command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock"]
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
        assert result.returncode == 0, f"$ {' '.join(command)}\n{result.stderr}"
        (folder / "installed").touch()
    return folder


@pytest.fixture
def sources(tmp_path, tools) -> Path:
    """The front end as the tools read it: its files, the words from Python, the settings."""
    folder = tmp_path / "front"
    shutil.copytree(bundle.FOLDER, folder)
    (folder / "words.js").write_text(words_module(), "utf-8")
    shutil.copy(RUNTIME, folder)
    for name in SETTINGS:
        shutil.copy(HERE / name, tmp_path / name)
    (tmp_path / "node_modules").symlink_to(tools / "node_modules")
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def types(folder: Path) -> subprocess.CompletedProcess[str]:
    return run(folder, node(), "node_modules/typescript/bin/tsc", "--project", ".")


def style(folder: Path) -> subprocess.CompletedProcess[str]:
    return run(folder, node(), "node_modules/eslint/bin/eslint.js", "--max-warnings=0", "front")


def write_trace(trace: Trace, path: Path) -> None:
    data = {"head": head(trace), "data": list(packed(trace.events))}
    path.write_text(json.dumps(data), "utf-8")


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_front(case, tmp_path):
    folder = tmp_path / "front"
    shutil.copytree(bundle.FOLDER, folder)
    (folder / "words.js").write_text(words_module(), "utf-8")
    (folder / "package.json").write_text('{"type": "module"}', "utf-8")
    write_trace(simulate(one_f_one_b(4, 8), Cost(latency=0.1)), folder / "1f1b.json")
    write_trace(simulate(zero_bubble_v(2, 4), Cost(latency=0.1)), folder / "v.json")
    write_trace(simulate(seq1f1b(2, 3, 2), Cost()), folder / "slices.json")
    pairs = simulate(dual_pipe_v(2, 5), Cost(latency=0.1, overlapped=2.5))
    write_trace(pairs, folder / "pairs.json")
    averaged = simulate(lower(interleaved(2, 2), replicas=2), Cost(reduce=3.0))
    write_trace(averaged, folder / "averaged.json")
    shutil.copy(HERE / "addresses.json", folder)
    shutil.copy(case, folder / case.name)
    result = run(folder, node(), case.name)
    assert result.returncode == 0, result.stderr


def test_its_types_are_sound(sources):
    for path in sources.glob("*.js"):
        if path.name != "words.js":
            assert path.read_text("utf-8").startswith("// @ts-check\n"), path.name
    result = types(sources.parent)
    assert result.returncode == 0, result.stdout


def test_its_style_is_kept_and_no_function_is_long(sources):
    result = style(sources.parent)
    assert result.returncode == 0, result.stdout


def test_a_wrong_type_is_found(sources):
    faults = {
        'export const wrong = say("no_such_phrase");': "no_such_phrase",
        "export const fewer = clamp(1, 2);": "Expected 3 arguments",
    }
    path = sources / "input.js"
    lines = [path.read_text("utf-8"), *faults]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    result = types(sources.parent)
    assert result.returncode != 0
    for fault, found in faults.items():
        assert found in result.stdout, fault


def test_a_long_function_is_found(sources):
    path = sources / "input.js"
    long = "export function long() {\n" + "  Math.random();\n" * 61 + "}\n"
    path.write_text(path.read_text("utf-8") + long, "utf-8")
    result = style(sources.parent)
    assert result.returncode != 0 and "max-lines-per-function" in result.stdout


# ----------------------------------------------------------------------------------- the bundle


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_bundle_is_a_module_by_itself(entry, tmp_path):
    text = bundle.script(entry)
    assert text is bundle.script(entry, ""), "made once"
    assert "import " not in text and text.count("export ") == 1
    (tmp_path / "bundle.mjs").write_text(text, "utf-8")
    check = (
        'import view from "./bundle.mjs"; process.exit(typeof view.render === "function" ? 0 : 1)'
    )
    (tmp_path / "check.mjs").write_text(f"globalThis.window = globalThis; {check}", "utf-8")
    result = run(tmp_path, node(), "check.mjs")
    assert result.returncode == 0, result.stderr


def test_every_file_is_used_and_every_phrase():
    imported = {
        name
        for path in bundle.FOLDER.glob("*.js")
        for name in bundle._IMPORT.findall(path.read_text("utf-8"))
    }
    files = {path.stem for path in bundle.FOLDER.glob("*.js")}
    assert files - imported - set(ENTRIES) == {"types"}, "types.js holds comments only"
    from pipelab.widgets.phrases import PHRASES

    text = "".join(path.read_text("utf-8") for path in bundle.FOLDER.glob("*.js"))
    unused = [name for name in PHRASES if f'"{name}"' not in text]
    assert not unused, f"phrases that the front end never says: {unused}"


def test_comments_go_and_literals_stay(tmp_path):
    script = r"""
// a comment
const a = "// no comment"; // a comment "with" quotes
/* one
 * that continues */
const product = (x, y) => x
  * y;
const b = `/* no comment ${a + `${1 / 2} // inner`} */`;
const c = /\/\/[/"]*/g.test(b) / 2; /** @type {number} */
const d = { e: 4 / 2 / 1, f: '//' };
const seen = [];
for (const each of [1, 2]) seen.push(each);
const last = seen.length;
console.log(JSON.stringify([a, b, c, d, product(6, 7), last]));
"""
    outputs = []
    for name, text in (("plain", script), ("short", bundle.without_comments(script))):
        (tmp_path / f"{name}.mjs").write_text(text, "utf-8")
        result = run(tmp_path, node(), f"{name}.mjs")
        assert result.returncode == 0, result.stderr
        outputs.append(result.stdout)
    assert outputs[0] == outputs[1] and "42" in outputs[0]
    short = bundle.without_comments(script)
    assert "comment" not in short.replace("no comment", "") and "continues" not in short


def test_files_that_import_each_other_or_share_a_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "FOLDER", tmp_path)
    (tmp_path / "a.js").write_text('import { b } from "./b.js";\nexport const a = b;\n')
    (tmp_path / "b.js").write_text('import { a } from "./a.js";\nexport const b = a;\n')
    with pytest.raises(ValueError, match="a > b > a"):
        bundle._script.__wrapped__("a", "")
    (tmp_path / "b.js").write_text("const a = 1;\nexport const b = a;\n")
    with pytest.raises(ValueError, match="declare a: rename one"):
        bundle._script.__wrapped__("a", "")
