"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import ups_data


def describe_machine() -> dict[str, str]:
    """Return processor, cores, memory, system and versions, for people."""
    import torch  # 150 MiB, which would count where the memory of a script without it is measured

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": f"{usable} usable of {os.cpu_count()}",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Python": platform.python_version(),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "ups_data": ups_data.__version__,
    }


def machine_line() -> str:
    """Return the machine in one line."""
    machine = describe_machine()
    return f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (ValueError, OSError):
        return "unknown"
