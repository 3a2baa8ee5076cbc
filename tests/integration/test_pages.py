"""What browsers are told of pages and other origins, and HTTPS."""

import base64
import datetime
import hashlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from service.api.tls import tls_context
from service.errors import KeysInvalid
from service.settings import load_settings
from tests.integration.conftest import LiveServer, Process, ServerFactory, until

ORIGIN = "https://app.example"
BODY = {"input": "the food"}
PAGES = ("/", "/docs", "/docs/oauth2-redirect")


@pytest.mark.parametrize("path", PAGES)
def test_page_runs_nothing_that_is_not_its_own_and_nobody_frames_it(
    server: LiveServer, path: str
) -> None:
    response = server.client.get(path)
    assert response.status_code == 200
    policy = dict(
        rule.strip().split(" ", 1)
        for rule in response.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    inline = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
    allowed = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in inline
    ]
    assert policy["script-src"].split() == ["'self'", *allowed]
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_every_kind_of_answer_is_taken_for_what_it_says(server: LiveServer) -> None:
    answers = [
        *(server.client.get(path) for path in ("/metrics", "/livez", "/nothing", "/openapi.json")),
        server.client.post("/v1/embeddings", json=BODY),
        server.client.post("/v1/embeddings", content=b"{"),
    ]
    assert {one.headers.get("x-content-type-options") for one in answers} == {"nosniff"}


def preflight(server: LiveServer, origin: str) -> httpx2.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return server.client.options("/v1/embeddings", headers=asked)


def test_pages_of_other_origins_may_not_ask_unless_they_are_named(
    server: LiveServer, start_server: ServerFactory
) -> None:
    closed = [preflight(server, ORIGIN), server.client.get("/livez", headers={"Origin": ORIGIN})]
    assert not any(name.startswith("access-control") for one in closed for name in one.headers)
    line = f"web:{hashlib.sha256(b'key').hexdigest()}"
    open_to_one = start_server(cors_origins=(ORIGIN,), api_keys=line)
    # A preflight comes without the key.
    allowed = preflight(open_to_one, ORIGIN)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in allowed.headers
    headers = {"Origin": ORIGIN, "Authorization": "Bearer key"}
    answer = open_to_one.client.post("/v1/embeddings", json=BODY, headers=headers)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    refused = open_to_one.client.post("/v1/embeddings", json=BODY, headers={"Origin": ORIGIN})
    # The page can read why.
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, ORIGIN)
    other = preflight(open_to_one, "https://other.example")
    assert "access-control-allow-origin" not in other.headers
    # Preflights are answers, also where they say no.
    until(lambda: outcomes(open_to_one) == {"ok": 3, "unauthorized": 1})


def outcomes(server: LiveServer) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in server.registry.collect():
        for sample in metric.samples:
            if sample.name == "encserve_requests_total" and sample.value:
                outcome = sample.labels["outcome"]
                found[outcome] = found.get(outcome, 0) + sample.value
    return found


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 for an hour, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "encserve test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


def test_with_a_certificate_the_server_speaks_https(tiny_store: Path, tmp_path: Path) -> None:
    cert_file, key_file = self_signed(tmp_path)
    tls = {"ENCSERVE_TLS_CERT_FILE": str(cert_file), "ENCSERVE_TLS_KEY_FILE": str(key_file)}
    others = {"ENCSERVE_PROBE": "false", "ENCSERVE_HEADER_TIMEOUT_S": "1"}
    process = Process(tiny_store, env=os.environ | tls | others)
    try:
        url = process.announced()[1]
        assert url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=str(cert_file))
        with httpx2.Client(base_url=url, verify=trusting) as client:
            assert client.post("/v1/embeddings", json=BODY).status_code == 200
        with httpx2.Client(base_url=url) as client, pytest.raises(httpx2.ConnectError):
            client.get("/livez")
        port = url.rsplit(":", 1)[1]
        # Who does not begin is cut off; uvloop alone would wait for a minute.
        with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as silent:
            assert silent.recv(1) == b""
        # The image's health check asks the same server, in its way.
        check = Path(__file__).parents[2] / "docker" / "healthcheck.py"
        healthy = subprocess.run(
            [sys.executable, str(check)],
            env=os.environ | tls | {"ENCSERVE_PORT": port},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (healthy.returncode, healthy.stderr) == (0, "")
        assert process.end(signal.SIGTERM) == 0
    finally:
        process.close()


@pytest.mark.parametrize(
    "written", ["no key", None, "encrypted", "another's"], ids=lambda written: str(written)
)
def test_a_certificate_that_cannot_serve_is_told_before_anything_is_loaded(
    written: str | None, tmp_path: Path
) -> None:
    cert_file, key_file = self_signed(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    closed = serialization.BestAvailableEncryption(b"password")
    encryption = closed if written == "encrypted" else serialization.NoEncryption()
    pkcs8 = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, pkcs8, encryption)
    key_file.unlink()
    if written is not None:
        key_file.write_bytes(b"no key" if written == "no key" else pem)
    settings = load_settings(tls_cert_file=cert_file, tls_key_file=key_file)
    with pytest.raises(KeysInvalid, match="must be PEM"):
        tls_context(settings)
    with pytest.raises(ValueError, match="together"):
        load_settings(tls_cert_file=cert_file)
