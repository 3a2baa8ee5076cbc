import os
from pathlib import Path

import pytest

from service.runtime.cpus import available_cpus

HERE = len(os.sched_getaffinity(0))


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cpus(tmp_path) == HERE
    assert available_cpus(write(tmp_path, cpu_DOT_max="max 100000\n")) == HERE


@pytest.mark.parametrize(("quota", "cores"), [(50_000, 1), (100_000, 1), (150_000, 2)])
def test_quota_of_cgroup_v2_is_rounded_up(tmp_path: Path, quota: int, cores: int) -> None:
    root = write(tmp_path, cpu_DOT_max=f"{quota} 100000\n")
    assert available_cpus(root) == min(HERE, cores)


def test_quota_of_cgroup_v1_counts_where_there_is_no_v2(tmp_path: Path) -> None:
    write(tmp_path, cpu__cpu_DOT_cfs_quota_us="100000\n", cpu__cpu_DOT_cfs_period_us="100000\n")
    assert available_cpus(tmp_path) == 1


def test_v1_without_a_limit_says_minus_one(tmp_path: Path) -> None:
    write(tmp_path, cpu__cpu_DOT_cfs_quota_us="-1\n", cpu__cpu_DOT_cfs_period_us="100000\n")
    assert available_cpus(tmp_path) == HERE
