"""HAProxy and nginx with the very files of docker/, their addresses replaced by the test's."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2

from benchmarks.processes import free_port
from tests.integration.conftest import until

HAPROXY = Path("docker/haproxy/haproxy.cfg")
NGINX = Path("docker/nginx/nginx.conf")


def binary_of(name: str, package: str) -> str:
    """Where it is; Debian keeps both where only root looks.

    Raises:
        AssertionError: it is not installed.
    """
    found = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    assert found, f"{name} is not installed: apt-get install --no-install-recommends {package}"
    return found


def addressed(config: Path, port: int, replicas: Sequence[int]) -> str:
    """The file's text with other addresses: of the balancer, and of the replicas in their order."""
    text = config.read_text()
    for listens in ("bind :8080", "listen 8080"):
        text = text.replace(listens, f"{listens.split()[0]} 127.0.0.1:{port}")
    for number, replica in enumerate(replicas, 1):
        name = f"encserve-{number}:8080"
        assert name in text
        text = text.replace(name, f"127.0.0.1:{replica}")
    return text


@contextmanager
def haproxy(replicas: Sequence[int], folder: Path) -> Iterator[str]:
    """Yields the address of a HAProxy before the replicas, once it answers."""
    binary, port, config = binary_of("haproxy", "haproxy"), free_port(), folder / "haproxy.cfg"
    config.write_text(addressed(HAPROXY, port, replicas))
    yield from _running([binary, "-db", "-f", str(config)], port, folder)


@contextmanager
def nginx(replicas: Sequence[int], folder: Path) -> Iterator[str]:
    """The same with nginx."""
    binary, port, config = binary_of("nginx", "nginx-light"), free_port(), folder / "nginx.conf"
    ours = f"pid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\n"
    temporary = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = addressed(NGINX, port, replicas).replace("http {\n", f"http {{\n{temporary}")
    config.write_text(ours + text)
    command = [binary, "-c", str(config), "-e", f"{folder}/nginx.log", "-g", "daemon off;"]
    yield from _running(command, port, folder)


def _running(command: Sequence[str], port: int, folder: Path) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    log = folder / "balancer.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: process.poll() is not None or _answers(url))
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/livez", timeout=5).status_code == 200
    except httpx2.TransportError:
        return False
