"""What the machine has: cores, memory, GPUs, versions; and what a finding of the doctor is."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import pipelab
from pipelab.words import bytes_text

DISTRIBUTION = "pipelab-course"
ENOUGH = 1_500_000_000  # bytes: torch, four ranks and a notebook
_CGROUPS = Path("/sys/fs/cgroup")


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
    found, wrong = [f"pipelab {pipelab.__version__}"], []
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        text = f"pipelab {pipelab.__version__} runs from {Path(pipelab.__file__).parent}"
        remedy = f"install it, from the clone's folder: {sys.executable} -m pip install -e ."
        yield Finding("warn", "versions", f"{text} without being installed", remedy)
        return
    for name, version, wanted in _compared(requirements):
        if version is None or wanted:
            wrong.append(f"{name}: want {wanted or 'any'}, found {version or 'none'}")
        else:
            found.append(f"{name} {version}")
    yield Finding("ok", "versions", ", ".join(found))
    for text in wrong:
        name = text.partition(":")[0]
        remedy = f"{sys.executable} -m pip install -c binder/requirements.txt {name}"
        yield Finding("FAIL", "versions", text, remedy)


def _compared(requirements: list[str]) -> Iterator[tuple[str, str | None, str]]:
    """Name, version found, and the range where the version is outside of it or missing."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield requirement.name, None, str(requirement.specifier)
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
