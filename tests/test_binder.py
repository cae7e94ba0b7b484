"""What is imported is declared; Binder's two files name the same versions, within the ranges.

Binder itself is not run here: these tests compare text.
"""

import ast
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
BINDER = ROOT / "binder"
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
UNPINNED = {"pip", "python"}  # the tools that install; python is checked on its own below


def locked() -> dict[str, str]:
    """Name -> version of binder/requirements.txt."""
    lines = (BINDER / "requirements.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    bad = [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin)]
    assert not bad, f"not an exact pin of a public version: {bad}"
    return {canonicalize_name(name): version for name, version in (p.split("==") for p in pins)}


def conda() -> dict[str, str]:
    """Name -> ``version`` or ``version=build`` of binder/environment.yml, as conda spells it."""
    text = (BINDER / "environment.yml").read_text("utf-8")
    lines = text.partition("\ndependencies:\n")[2].splitlines()
    specs = [line.removeprefix("  - ") for line in lines if line.strip()]
    return {name: version for name, _, version in (spec.partition("=") for spec in specs)}


def project() -> dict[str, list[Requirement]]:
    """The ranges of pyproject.toml: ``""`` for the package itself, else by extra."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    groups = {"": data["dependencies"], **data["optional-dependencies"]}
    return {name: [Requirement(line) for line in lines] for name, lines in groups.items()}


# Declared without being imported, each for its reason.
NEEDED = {
    "furo": "the theme that notebooks/site/conf.py names",
    "myst-nb": "an extension of Sphinx, named there",
    "sphinx": "run as a program",
    "ipywidgets": "its front end shows anywidget's widgets, and older ones do not",
    "import-linter": "the command lint-imports",
    "mypy": "a command",
    "nbval": "a plugin of pytest",
    "pytest-cov": "a plugin of pytest",
    "pytest-xdist": "a plugin of pytest",
    "ruff": "a command",
}
OURS = {"pipelab", "tests", *(path.stem for path in (ROOT / "tests").iterdir())}


def imported(folder: str) -> set[str]:
    """The distributions whose modules a folder's files import."""
    modules = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module)
    names = {name.partition(".")[0] for name in modules} - OURS - set(sys.stdlib_module_names)
    return {canonicalize_name(distributions().get(name, [name])[0]) for name in names}


@cache
def distributions() -> Mapping[str, list[str]]:
    """The distributions of each top module that is installed."""
    return metadata.packages_distributions()


def declared(*extras: str) -> set[str]:
    return {canonicalize_name(r.name) for extra in extras for r in project()[extra]}


def test_what_the_package_imports_is_declared_and_what_is_declared_is_imported():
    wanted = imported("pipelab") - declared("site")  # which its own extra installs
    assert wanted - declared("") == set(), "pyproject's dependencies lack these"
    assert declared("") - imported("pipelab") - set(NEEDED) == set(), "nothing imports these"


def test_what_the_tests_import_is_declared_and_what_is_declared_is_imported():
    assert imported("tests") - declared("", "test") == set(), "pyproject's extra lacks these"
    assert declared("test") - imported("tests") - set(NEEDED) == set(), "nothing imports these"


def test_the_site_alone_imports_what_its_extra_installs():
    alone = declared("site") - declared("")
    assert alone - imported("pipelab/site") - set(NEEDED) == set(), "nothing imports these"
    for folder in {path.name for path in (ROOT / "pipelab").iterdir() if path.is_dir()} - {"site"}:
        assert not imported(f"pipelab/{folder}") & alone, f"pipelab/{folder} imports these"


def test_environment_and_requirements_name_the_same_versions():
    lock = locked()
    differ = {
        name: (spec, lock.get(canonicalize_name(CONDA_NAMES.get(name, name))))
        for name, spec in conda().items()
        if name not in UNPINNED
        and spec.split("=")[0] != lock.get(canonicalize_name(CONDA_NAMES.get(name, name)))
    }
    assert not differ, f"environment.yml against requirements.txt: {differ}"


def test_environment_names_every_dependency_of_the_package():
    named = {canonicalize_name(CONDA_NAMES.get(name, name)) for name in conda()}
    wanted = {canonicalize_name(requirement.name) for requirement in project()[""]}
    assert wanted <= named, f"environment.yml lacks {sorted(wanted - named)}"


def test_environment_takes_the_cpu_build_from_conda_forge_alone():
    text = (BINDER / "environment.yml").read_text("utf-8")
    assert "channels:\n  - conda-forge\n  - nodefaults\ndependencies:\n" in text
    assert conda()["pytorch"].endswith("=cpu*")
    assert conda()["python"] == "3.11"


@pytest.mark.parametrize("extra", ["", "test", "site"])
def test_each_dependency_is_pinned_within_its_range(extra):
    lock = locked()
    for requirement in project()[extra]:
        version = lock.get(canonicalize_name(requirement.name))
        assert version, f"requirements.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(version), f"{requirement} excludes the pin {version}"


def test_the_lock_leaves_pipelab_itself_out():
    assert "pipelab-course" not in locked()


def test_post_build_installs_the_package_and_starts_nothing():
    script = BINDER / "postBuild"
    assert os.access(script, os.X_OK)
    commands = [
        line for line in script.read_text("utf-8").splitlines() if line[:1] not in ("", "#")
    ]
    assert commands == ["set -euo pipefail", "pip install --no-deps ."]
