"""HAProxy and nginx before replicas on this machine: by open requests, connections kept."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import Server, Usage, child, free_port, wait_until_listening

HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
    http-reuse always
listen encserve
    bind 127.0.0.1:{port}
    balance leastconn
{servers}
"""
NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 4m;
    client_body_buffer_size 256k;
    upstream encserve {{
        least_conn;
{servers}
        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        location / {{
            proxy_pass http://encserve;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffers 16 64k;
            proxy_buffer_size 64k;
            proxy_busy_buffers_size 128k;
        }}
    }}
}}
"""


@contextmanager
def balancer(name: str, replicas: Sequence[Server]) -> Iterator[Server]:
    """`haproxy` or `nginx` as one process before the replicas."""
    command = shutil.which(name)
    if command is None:
        raise SystemExit(f"{name} is missing: apt-get install haproxy nginx-light")
    addresses = [replica.url.removeprefix("http://") for replica in replicas]
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "balancer.conf"
        if name == "haproxy":
            servers = [f"    server replica{at} {one}" for at, one in enumerate(addresses)]
            file.write_text(HAPROXY.format(port=port, servers="\n".join(servers)))
            arguments = ["-db", "-f", str(file)]
        else:
            servers = [f"        server {one};" for one in addresses]
            file.write_text(NGINX.format(port=port, folder=folder, servers="\n".join(servers)))
            arguments = ["-p", folder, "-c", str(file)]
        with child([command, *arguments], {}, stdout=subprocess.DEVNULL) as process:
            wait_until_listening(process, port)
            yield Server(f"http://127.0.0.1:{port}", Usage(process.pid))
