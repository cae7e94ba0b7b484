"""Whether lessons work in *this* Jupyter: widgets' front ends, their settings, the kernel.

A widget has two halves. Python's half lives in the kernel's environment; the browser's half, a
"labextension", must be where the JupyterLab that is started looks for it. Two environments, or
one shadowed by an older folder of the user, and the lesson shows text instead of controls.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from pipelab.cli.machine import Finding

FRONT_ENDS = {"anywidget": "anywidget", "@jupyter-widgets/jupyterlab-manager": "jupyterlab_widgets"}
_RESTART = "then start JupyterLab again and reload its page"
_SETTING = "@jupyterlab/apputils-extension:kernels-settings"


def front_ends() -> Iterator[Finding]:
    """Both halves of the widgets: installed where this JupyterLab looks, and switched on."""
    from jupyter_core.paths import jupyter_path
    from jupyterlab_server.config import get_federated_extensions, get_page_config

    paths = jupyter_path("labextensions")
    installed = get_federated_extensions(paths)
    disabled = {name.partition(":")[0] for name in get_page_config(paths)["disabledExtensions"]}
    found = []
    for name, distribution in FRONT_ENDS.items():
        if name not in installed:
            text = f"the front end of {distribution} is missing: looked in {', '.join(paths)}"
            yield Finding("FAIL", "widgets", text, f"{_reinstall(distribution)}, {_RESTART}")
        elif name in disabled:
            enable = f"{sys.executable} -m jupyter labextension enable {name}"
            yield Finding("FAIL", "widgets", f"{name} is switched off", f"{enable}, {_RESTART}")
        elif stale := _stale(installed[name], distribution):
            yield Finding("FAIL", "widgets", stale, f"remove that folder, {_RESTART}")
        else:
            found.append(f"{name} {installed[name]['version']}")
    if found:
        yield Finding("ok", "widgets", f"front ends in this Jupyter: {', '.join(found)}")


def settings() -> Iterator[Finding]:
    """JupyterLab's setting that keeps callbacks of widgets on one thread."""
    from jupyter_core.paths import jupyter_config_path

    for folder in jupyter_config_path():
        path = Path(folder) / "labconfig" / "default_setting_overrides.json"
        if path.is_file() and _SETTING in json.loads(path.read_text("utf-8")):
            return
    text = "JupyterLab's setting of pipelab is missing: widgets answer later while a cell runs"
    yield Finding("warn", "widgets", text, f"{_reinstall('pipelab-course')}, {_RESTART}")


def kernel() -> Iterator[Finding]:
    """The kernel named python3, which lessons ask for, is this very Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        yield Finding("FAIL", "kernel", "there is no kernel named python3", _reinstall("ipykernel"))
        return
    if find_spec("ipykernel") is None:
        yield Finding("FAIL", "kernel", "ipykernel is missing here", _reinstall("ipykernel"))
    elif _is_this_python(spec.argv[0] if spec.argv else ""):
        yield Finding("ok", "kernel", "python3 is this Python")
    else:
        text = f"python3 is another Python, {spec.argv[:1]}, by {spec.resource_dir}"
        remedy = f"remove it: {sys.executable} -m jupyter kernelspec remove python3"
        yield Finding("FAIL", "kernel", text, remedy)


def command() -> Iterator[Finding]:
    """A jupyter of another environment on the PATH opens lessons that do not find pipelab."""
    path = shutil.which("jupyter")
    if path and Path(path).parent != Path(sys.executable).parent:
        text = f"`jupyter` on your PATH is another one, {path}"
        yield Finding("warn", "command", text, "open lessons with `pipelab lab`, which is right")


def _is_this_python(executable: str) -> bool:
    """Environments share binaries through links, so folders are compared, links not followed."""
    version = sys.version_info
    if executable in ("python", "python3", f"python3.{version.minor}"):
        return True  # jupyter_client takes such a name for the Python that it runs in
    ours = Path(os.path.abspath(sys.executable)).parent
    return Path(os.path.abspath(executable)).parent == ours and os.access(executable, os.X_OK)


def _stale(extension: dict[str, str], distribution: str) -> str:
    """What is wrong if an older folder shadows the front end of what is installed, or ""."""
    if extension["name"] != distribution:  # the two halves count their versions apart
        return ""
    version = metadata.version(distribution)
    if version == extension["version"]:
        return ""
    return (
        f"{distribution} {version} is installed, but {extension['ext_path']} holds the front end "
        f"of {extension['version']}"
    )


def _reinstall(distribution: str) -> str:
    return f"{sys.executable} -m pip install --force-reinstall --no-deps {distribution}"
