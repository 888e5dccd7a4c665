"""An engine as its operator runs it: what it logs, TLS, and what stands in front of it; real processes throughout."""

from __future__ import annotations

import asyncio
import base64
import datetime
import http.client
import ipaddress
import json
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import traceback
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import dcengine
from dcengine.client import Client
from dcengine.errors import EngineUnreachable
from dcengine.verbs import EngineStatus
from tests.engines import end, environment, eventually

SECRET = "kQ7secret55"
LEASE = "1f-2-8a7b6c5d4e3f2a1b"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/sbin:/bin")


class Served:
    """A ``dcengine serve`` process, what it printed first, and the file that its stderr goes to."""

    def __init__(self, process: subprocess.Popen[str], told: dict[str, Any], stderr: Path) -> None:
        self.process, self.told, self.stderr = process, told, stderr
        self.bare: str = told["url"].partition("/?")[0]
        self.token: str = told["token"]
        self.port = int(self.bare.rpartition(":")[2])

    def said(self) -> str:
        """What it wrote to stderr so far."""
        return self.stderr.read_text()

    def objects(self) -> list[dict[str, Any]]:
        """The same, where each line is JSON."""
        return [json.loads(line) for line in self.said().splitlines()]


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "dcengine", "serve", "--db", str(folder / "work.db"), "--port", "0", "--json"]
    stderr = folder / "stderr.txt"
    with stderr.open("w") as log:
        process = subprocess.Popen(
            [*command, "--workers", "0", *arguments], stdout=subprocess.PIPE, stderr=log, text=True, env=environment()
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, stderr.read_text()
            yield Served(process, json.loads(line), stderr)
            assert process.poll() is None, stderr.read_text()
        finally:
            end(process)


def exchange(port: int, *sent: bytes) -> bytes:
    """What a server answers to raw bytes before it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"".join(sent))
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def ask(url: str) -> EngineStatus:
    """What the engine at *url* tells our client of itself."""

    async def asked() -> EngineStatus:
        client = Client(url)
        try:
            return await client.status()
        finally:
            await client.close()

    return asyncio.run(asked())


def get(url: str, **headers: str) -> int:
    """The status of an answer."""
    request = urllib.request.Request(url, headers={name.replace("_", "-"): said for name, said in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code


# ---- logs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def logging_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("logs")
    in_front = ("--prefix", "/farm", "--trusted-proxy", "127.0.0.1", "--allow-host", "jobs.example.org")
    with serving(folder, "--log-format", "json", "--log-level", "debug", *in_front) as served:
        yield served


def test_a_run_with_secrets_everywhere_leaves_none_in_what_it_writes(logging_engine: Served) -> None:
    bare, port, token = logging_engine.bare, logging_engine.port, logging_engine.token
    basic = base64.b64encode(f"alice:{SECRET}".encode()).decode()
    for query in (f"token={token}", f"token={SECRET}", f"x=%3Ftoken%3D{SECRET}"):
        for path in ("/", "/v1/status", "/v1/jobs/xyz", "/nowhere", f"/{SECRET}", f"/v1/projects/{LEASE}"):
            get(f"{bare}{path}?{query}", Cookie=f"token={SECRET}", Referer=f"{bare}/?token={token}")
    for credentials in (f"Bearer {SECRET}", f"token {token}", f"Basic {basic}", f"Digest {SECRET}", SECRET):
        get(f"{bare}/v1/status", Authorization=credentials, Origin=f"http://alice:{SECRET}@evil.example")
    for body in (f'[{{"token": "{LEASE}", "output": 1}}]', f'{{"token": "{SECRET}"', f"token={SECRET}"):
        request = urllib.request.Request(
            f"{bare}/v1/tasks/complete", body.encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )  # fmt: skip
        try:
            urllib.request.urlopen(request, timeout=20).read()
        except urllib.error.HTTPError as error:
            error.read()
    for line in (  # what aiohttp itself refuses, and logs with what was sent
        f"GET /\x01?token={SECRET} HTTP/1.1\r\nHost: localhost\r\n",
        f"GET /?token={SECRET} HTTP/9.9\r\nHost: localhost\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\n bad {SECRET}\x00\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}{'x' * 9000}\r\n",
        f"token={SECRET}",
    ):
        exchange(port, line.encode("latin-1"), b"\r\n")

    eventually(lambda: "/v1/tasks/complete" in logging_engine.said())
    written = logging_engine.said()
    for secret in (token, SECRET, LEASE, basic):
        assert secret not in written, next(line for line in written.splitlines() if secret in line)
    assert len(logging_engine.objects()) > 25


def test_a_request_is_one_object_with_what_operators_look_for(logging_engine: Served) -> None:
    url = f"{logging_engine.bare}/v1/projects/none?token={logging_engine.token}"
    assert get(url, X_Request_Id="op-1") == 404

    def found() -> list[dict[str, Any]]:
        return [each for each in logging_engine.objects() if each.get("request_id") == "op-1"]

    eventually(found)
    (said,) = found()
    assert (said["method"], said["path"], said["status"]) == ("GET", "/v1/projects/{name}", 404)
    assert (said["remote"], said["grant"], said["level"]) == ("127.0.0.1", "own", "INFO")
    assert 0 <= said["ms"] < 10_000
    assert "time" in said


def test_each_move_of_a_job_is_a_line(logging_engine: Served) -> None:
    dcengine.connect(logging_engine.told["url"])
    try:
        project = dcengine.Project("moves")
        project.lease_stage("label")
        project.add([1])
        project.run()
    finally:
        dcengine.connect(None)
    headers = {"Authorization": f"Bearer {logging_engine.token}", "Content-Type": "application/json"}

    def post(path: str, value: object) -> Any:
        request = urllib.request.Request(f"{logging_engine.bare}{path}", json.dumps(value).encode(), headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    (task,) = post("/v1/projects/moves/stages/label/lease", {"worker": "w1"})
    post("/v1/tasks/complete", [{"token": task["token"], "output": 2}])

    def moves() -> list[str]:
        return [each["message"] for each in logging_engine.objects() if each["message"].startswith("job ")]

    eventually(lambda: len(moves()) == 2)
    assert moves() == [f"job {task['job']}: leased by 'w1'", f"job {task['job']}: succeeded"]
    assert task["token"] not in logging_engine.said()


@pytest.mark.parametrize(
    "url",
    [
        "http://alice:{secret}@127.0.0.1:1/?token={secret}",
        "https://alice:{secret}@127.0.0.1:{port}/?token={secret}",
        "http://alice:{secret}@127.0.0.1:{port}/nothing/here/?token={secret}",
        "http://alice:{secret}@127.0.0.1:{port}/?token={secret}",
        "nonsense://alice:{secret}@127.0.0.1/?token={secret}",
    ],
)
def test_what_a_client_says_of_an_address_has_no_secret_in_it(
    logging_engine: Served, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr("dcengine.connection.PATIENCE", 0.1)
    with pytest.raises(dcengine.DcengineError) as raised:
        ask(url.format(secret=SECRET, port=logging_engine.port))

    told = traceback.format_exception(raised.value)
    assert SECRET not in repr(raised.value)
    assert SECRET not in "".join(told)


# ---- TLS -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The files of a self-signed certificate for this machine, and of its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    built = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(built.public_bytes(pem))
    files[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return str(files[0]), str(files[1])


@pytest.fixture(scope="module")
def tls_engine(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[str, str]) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with serving(folder, "--tls-cert", certificate[0], "--tls-key", certificate[1]) as served:
        yield served


def test_with_a_certificate_everything_is_https(
    tls_engine: Served, certificate: tuple[str, str], tmp_path: Path
) -> None:
    trusting = ssl.create_default_context(cafile=certificate[0])
    connection = http.client.HTTPSConnection("127.0.0.1", tls_engine.port, context=trusting, timeout=20)
    connection.request("GET", "/readyz")
    answer, version = connection.getresponse(), connection.sock.version()
    connection.close()
    ran = subprocess.run(
        [sys.executable, "-m", "dcengine", "status", "--json"], text=True, capture_output=True, timeout=60,
        env=environment(DCENGINE_URL=tls_engine.told["url"], SSL_CERT_FILE=certificate[0]), cwd=tmp_path,
    )  # fmt: skip

    assert tls_engine.bare.startswith("https://")
    assert (answer.status, version) == (200, "TLSv1.3")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["url"] == tls_engine.bare


def test_who_does_not_trust_the_certificate_or_speaks_no_tls_is_told_what_is_wrong(
    tls_engine: Served, logging_engine: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcengine.connection.PATIENCE", 0.1)
    secure, plain = tls_engine.told["url"], logging_engine.told["url"]

    for url, hint in (
        (secure, "SSL_CERT_FILE"),
        (secure.replace("https:", "http:"), "begins with https:"),
        (plain.replace("http:", "https:"), "begins with http:"),
    ):
        with pytest.raises(EngineUnreachable, match=hint):
            ask(url)


# ---- a proxy in front of it ----------------------------------------------------------------


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("cuts", [True, False])
def test_behind_nginx_with_a_prefix(logging_engine: Served, tmp_path: Path, cuts: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with nginx(tmp_path, port, logging_engine.port, cuts=cuts):
        bare = f"http://127.0.0.1:{port}/farm"
        status = ask(f"{bare}/?token={logging_engine.token}")
        foreign = get(f"{bare}/healthz", Host="evil.example")
        public = get(
            f"{bare}/healthz", Host="jobs.example.org", X_Forwarded_For="203.0.113.9", X_Request_Id=f"cuts-{cuts}"
        )

    def found() -> list[dict[str, Any]]:
        return [each for each in logging_engine.objects() if each.get("request_id") == f"cuts-{cuts}"]

    assert status.version == dcengine.__version__
    assert (foreign, public) == (403, 200)
    eventually(found)
    assert found()[0]["path"] == "/healthz"
    assert found()[0]["remote"] == "127.0.0.1", "nginx replaces what the caller says of itself"


@contextmanager
def nginx(folder: Path, port: int, upstream: int, *, cuts: bool) -> Iterator[None]:
    """An nginx with the configuration of docs/operations.md, *cuts* off the prefix or not."""
    config = folder / "nginx.conf"
    config.write_text(
        textwrap.dedent(f"""
            daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
            events {{}}
            http {{
              access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
              fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
              map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
              server {{
                listen 127.0.0.1:{port};
                location /farm/ {{
                  proxy_pass http://127.0.0.1:{upstream}{"/" if cuts else ""};
                  proxy_http_version 1.1;
                  proxy_set_header Upgrade $http_upgrade;
                  proxy_set_header Connection $connection_upgrade;
                  proxy_set_header X-Forwarded-For $remote_addr;
                  proxy_set_header X-Forwarded-Proto $scheme;
                  proxy_set_header X-Forwarded-Host $http_host;
                  proxy_set_header X-Forwarded-Prefix /farm;
                  proxy_read_timeout 75s; proxy_buffering off; proxy_request_buffering off; client_max_body_size 1g;
                }}
              }}
            }}
        """)
    )
    assert NGINX is not None
    process = subprocess.Popen([NGINX, "-c", str(config)], text=True, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: process.poll() is None and _takes_connections(port))
        yield
    finally:
        end(process)


def _takes_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
