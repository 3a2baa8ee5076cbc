"""Which processor this is, and how many of its cores this process may really use."""

import math
import os
import platform
from pathlib import Path

INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")


def available_cpus(cgroup_root: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores of the affinity mask, or of the cgroup quota (v2, then v1) if that is less."""
    allowed = len(os.sched_getaffinity(0))
    quota = _quota_v2(cgroup_root) or _quota_v1(cgroup_root)
    return max(1, min(allowed, math.ceil(quota))) if quota else allowed


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, and which of the instructions that decide the speed it has."""
    lines = [line.partition(":") for line in _read(cpuinfo).splitlines()]
    fields = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    flags = fields.get("flags", "").split()
    known = [flag for flag in INSTRUCTIONS if flag in flags]
    return f"{fields.get('model name') or platform.machine()} ({' '.join(known)})"


def _quota_v2(root: Path) -> float | None:
    quota, _, period = _read(root / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() else None


def _quota_v1(root: Path) -> float | None:
    quota = _read(root / "cpu" / "cpu.cfs_quota_us")
    period = _read(root / "cpu" / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
