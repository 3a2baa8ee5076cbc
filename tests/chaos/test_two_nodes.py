"""Fine-tuning on two nodes: two launchers that meet at an address, and one published model."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.offline.test_finetune_command import command, published

# Two launchers that import torch twice each take half a minute on two cores.
WAYS = ("addresses", "namespaces")


class Node(NamedTuple):
    """Where a launcher runs: its address, its network device, and what puts a command there."""

    address: str
    device: str
    inside: tuple[str, ...] = ()


@pytest.mark.parametrize("way", WAYS)
def test_two_nodes_train_one_model(way: str, tmp_path: Path) -> None:
    arguments = command(tmp_path, "shared", "--epochs", "20")
    with ExitStack() as stack:
        nodes = ADDRESSES if way == "addresses" else stack.enter_context(namespaces())
        port = free_port(nodes[0]) if way == "addresses" else 29500
        launched = [
            stack.enter_context(launch(nodes[rank], rank, nodes[0].address, port, arguments))
            for rank in range(2)
        ]
        told = [process.communicate(timeout=300)[0] for process in launched]
    assert [process.returncode for process in launched] == [0, 0], "\n".join(told)
    model = published(tmp_path, "shared")
    assert model.manifest.version == "1"
    assert model.manifest.metrics["dev_accuracy"] > 0.9
    # The first node speaks, the other one only computes.
    assert ["train: " in one for one in told] == [True, False]


ADDRESSES = (Node("127.0.0.1", "lo"), Node("127.0.0.2", "lo"))


def free_port(node: Node) -> int:
    with socket.socket() as probe:
        probe.bind((node.address, 0))
        return int(probe.getsockname()[1])


@contextmanager
def namespaces() -> Iterator[tuple[Node, ...]]:
    """Two network namespaces with a cable between them; nothing else of the machine is reached."""
    assert os.geteuid() == 0, "network namespaces need root"
    assert shutil.which("ip"), "the command ip is missing: apt-get install iproute2"
    names = [f"encserve-{os.getpid()}-{rank}" for rank in range(2)]
    nodes = tuple(
        Node(f"10.213.0.{rank + 1}", f"node{rank}", ("ip", "netns", "exec", name))
        for rank, name in enumerate(names)
    )
    with ExitStack() as stack:
        for name in names:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
        ends = ["type", "veth", "peer", "name", nodes[1].device, "netns", names[1]]
        ip("-n", names[0], "link", "add", nodes[0].device, *ends)
        for name, node in zip(names, nodes, strict=True):
            ip("-n", name, "addr", "add", f"{node.address}/24", "dev", node.device)
            ip("-n", name, "link", "set", node.device, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield nodes


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextmanager
def launch(
    node: Node, rank: int, master: str, port: int, arguments: list[str]
) -> Iterator[subprocess.Popen[str]]:
    """What is typed on each node, as docs/training.md has it."""
    process = subprocess.Popen(
        [
            *[*node.inside, sys.executable, "-m", "torch.distributed.run"],
            *["--nnodes", "2", "--node_rank", str(rank), "--nproc_per_node", "1"],
            *["--master_addr", master, "--master_port", str(port), "--local_addr", node.address],
            *["--module", "service.cli", *arguments],
        ],
        env=os.environ | {"GLOO_SOCKET_IFNAME": node.device, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()
