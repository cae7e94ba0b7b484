"""What the doctor looks at: cores, memory, GPUs, versions, and whether lessons work in Jupyter.

A widget has two halves. Python's half is in the kernel's environment; the browser's half, a
"labextension", must be where the JupyterLab that is started looks for it. Two environments, or
one shadowed by an older folder of the user, and the lesson shows text instead of controls.
"""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import pipelab
from pipelab.words import bytes_text

DISTRIBUTION = "pipelab-course"
ENOUGH = 1_500_000_000  # bytes: torch, four ranks and a notebook
_CGROUPS = Path("/sys/fs/cgroup")
FRONT_ENDS = {"anywidget": "anywidget", "@jupyter-widgets/jupyterlab-manager": "jupyterlab_widgets"}
_RESTART = "then start JupyterLab again and reload its page"
_SETTING = "@jupyterlab/apputils-extension:kernels-settings"


class Finding(NamedTuple):
    """``FAIL`` makes the doctor's exit code 1; ``warn`` leaves it 0."""

    level: Literal["ok", "warn", "FAIL"]
    name: str
    text: str
    remedy: str = ""


def cores() -> Iterator[Finding]:
    """Cores that this process may use, of how many."""
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    text = f"{usable} usable of {total}"
    if quota := cpu_quota():
        text += f", limited to {quota:g} by this container"
    if min(usable, quota or usable) < 2:
        hint = "record paced steps: those stay true, unpaced ones mostly show the sharing"
        yield Finding("warn", "cores", f"{text}: all ranks share it", hint)
    else:
        yield Finding("ok", "cores", text)


def memory() -> Iterator[Finding]:
    """Bytes in all, free, and what a container leaves of them."""
    total, free = _memory()
    text = f"{bytes_text(total)} in all, {bytes_text(free)} free"
    limit, used = memory_limit()
    if limit < total:
        text += f"; this container may take {bytes_text(limit)}, {bytes_text(used)} are taken"
        free = min(free, limit - used)
    if free < ENOUGH:
        remedy = f"close other programs: four ranks and a notebook want {bytes_text(ENOUGH)}"
        yield Finding("warn", "memory", text, remedy)
    else:
        yield Finding("ok", "memory", text)


def gpus() -> Iterator[Finding]:
    """GPUs that torch sees, and NCCL."""
    import torch

    nccl = "NCCL is not in this build of torch"
    if torch.distributed.is_nccl_available():
        with suppress(Exception):  # a CUDA build of torch on a machine without a driver
            version = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
            nccl = f"NCCL {'.'.join(map(str, version))}"
    if not torch.cuda.is_available():
        yield Finding("ok", "GPUs", f"none, and none is needed: ranks run on the CPU; {nccl}")
        return
    count = torch.cuda.device_count()
    names = {torch.cuda.get_device_name(i) for i in range(count)}
    text = f"{count} ({', '.join(sorted(names))}), CUDA {torch.version.cuda}, {nccl}"
    yield Finding("ok", "GPUs", f"{text}; device='cpu' keeps ranks off them")


def versions() -> Iterator[Finding]:
    """Python, pipelab, and each requirement of pipelab beside what is installed."""
    system = f"{platform.system()} {platform.machine()}"
    python = f"Python {platform.python_version()} at {sys.executable}, {system}"
    yield Finding("ok", "python", python)
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        text = f"pipelab {pipelab.__version__} runs from {Path(pipelab.__file__).parent}"
        remedy = f"install it, from the clone's folder: {sys.executable} -m pip install -e ."
        yield Finding("warn", "versions", f"{text} without being installed", remedy)
        return
    compared = list(_compared(requirements))
    right = [f"{name} {version}" for name, version, wanted in compared if not wanted]
    yield Finding("ok", "versions", ", ".join([f"pipelab {pipelab.__version__}", *right]))
    for name, version, wanted in compared:
        if wanted:
            text = f"{name}: want {wanted}, found {version}"
            remedy = f"{sys.executable} -m pip install -c binder/requirements.txt {name}"
            yield Finding("FAIL", "versions", text, remedy)


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


def jupyter_settings() -> Iterator[Finding]:
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


def jupyter_command() -> Iterator[Finding]:
    """A jupyter of another environment on the PATH opens lessons that do not find pipelab."""
    path = shutil.which("jupyter")
    if path and Path(path).parent != Path(sys.executable).parent:
        text = f"`jupyter` on your PATH is another one, {path}"
        yield Finding("warn", "command", text, "open lessons with `pipelab lab`, which is right")


def _compared(requirements: list[str]) -> Iterator[tuple[str, str, str]]:
    """Name, version found or "none", and the range if that is not in it, else ""."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield requirement.name, "none", str(requirement.specifier) or "any"
            continue
        fits = requirement.specifier.contains(version, prereleases=True)
        yield requirement.name, version, "" if fits else str(requirement.specifier)


def _memory() -> tuple[int, int]:
    """Bytes in all and free; where the system does not say, free is all."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return total, int(line.split()[1]) * 1024
    return total, total


def memory_limit() -> tuple[int, int]:
    """The tightest limit of the control groups above this process, and what is taken of it."""
    limits = [(sys.maxsize, 0)]
    for folder in _groups("memory"):
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            if (allowed := _figure(folder / limit)) is not None:
                limits.append((allowed, _figure(folder / used) or 0))
    return min(limits)


def cpu_quota() -> float | None:
    """Cores' worth of time that control groups allow, or None."""
    quotas = []
    for folder in _groups("cpu"):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text("ascii").split()
            quotas += [int(quota) / int(period)] if quota != "max" else []
        quota_us = _figure(folder / "cpu.cfs_quota_us")
        period_us = _figure(folder / "cpu.cfs_period_us")
        if quota_us and period_us and quota_us > 0:
            quotas.append(quota_us / period_us)
    return min(quotas, default=None)


def _groups(controller: str) -> list[Path]:
    """Folders of the control groups that hold this process, of version 1 or 2, up to the root."""
    folders = [_CGROUPS, _CGROUPS / controller]  # in a container the root may be our own
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text("utf-8").splitlines():
            version, controllers, path = line.split(":", 2)
            if version == "0" or controller in controllers.split(","):
                base = _CGROUPS if version == "0" else _CGROUPS / controller
                group = base / path.lstrip("/")
                folders += [group, *(p for p in group.parents if base in p.parents)]
    return folders


def _figure(path: Path) -> int | None:
    """The number in a file, if there is one."""
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


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
