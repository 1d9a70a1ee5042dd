"""What a user meets who names the wrong server, or the right one wrongly: each says what to do, none shows a password."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hiredis
import pytest
from click.testing import CliRunner
from redis_server import Server, free_port, serving

from ergates.cli.main import cli
from ergates.drivers.stores.first_contact import check_server
from ergates.drivers.stores.open_cluster import client_factory
from ergates.drivers.stores.store_file import store_address, write_private
from ergates.errors import ErgatesError, StoreError, StoreUnavailableError

pytestmark = pytest.mark.needs("redis")
SECRET = "hush-hush"


def meet(text: str, password: str = "") -> str:
    """Version of the server there."""
    address = store_address(text, env={"ERGATES_STORE_PASSWORD": password})
    client = client_factory(address)()
    try:
        return str(check_server(client, address)["redis_version"])
    finally:
        client.close()


def refused(text: str, kind: type[ErgatesError], *said: str, password: str = "") -> None:
    with pytest.raises(kind) as caught:
        meet(text, password)
    assert type(caught.value) is kind
    for each in said:
        assert each in str(caught.value)
    assert not password or password not in str(caught.value)


@contextmanager
def answering(answer: bytes, *, speaks_first: bool = False) -> Iterator[int]:
    """Something else listens: it answers the first request with these bytes, and hangs up. Its port."""

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.settimeout(20)
            if not speaks_first:
                connection.recv(65536)
            connection.sendall(answer)

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    thread.join()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("plain")) as server:
        yield server


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Passwords, and a user who may nothing."""
    with serving(
        tmp_path_factory.mktemp("locked"), f"requirepass {SECRET}", f"user poor on >{SECRET} ~* +ping +client"
    ) as server:
        yield server


def test_a_good_server(plain: Server) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", meet(plain.url))


def test_a_unix_socket(tmp_path: Path) -> None:
    with serving(tmp_path, "port 0", f"unixsocket {tmp_path}/s", port=0, mark="accept connections at"):
        assert meet(f"unix://{tmp_path}/s")
    refused(f"unix://{tmp_path}/other", StoreUnavailableError, "no server there")


def test_nobody_there() -> None:
    refused(f"redis://127.0.0.1:{free_port()}", StoreUnavailableError, "no server there", "erg store up")


def test_unknown_host() -> None:
    refused("redis://no-such-host.invalid", StoreUnavailableError, "no such host", "check the name in --store")


def test_passwords(locked: Server) -> None:
    assert meet(locked.url, SECRET)
    refused(locked.url, StoreError, "wants a password", "ERGATES_STORE_PASSWORD")
    refused(locked.url, StoreError, "wrong password for the user 'default'", password="guess")
    named = locked.url.replace("//", "//nobody@")
    refused(named, StoreError, "wrong password for the user 'nobody', or no such user", password=SECRET)


def test_a_password_nobody_asked_for_is_accepted_or_explained(plain: Server) -> None:
    refused(plain.url, StoreError, "it has no password, but one was given", password=SECRET)


def test_a_user_without_rights(locked: Server) -> None:
    named = locked.url.replace("//", "//poor@")
    refused(named, StoreError, "the user 'poor' may not", "ACL SETUSER poor on ~{erg:*", password=SECRET)


@pytest.mark.parametrize(
    ("answer", "speaks_first"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", False),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", True),
    ],
)
def test_something_else_is_there(answer: bytes, speaks_first: bool) -> None:
    with answering(answer, speaks_first=speaks_first) as port:
        refused(f"redis://127.0.0.1:{port}", StoreError, "what answers there is no Redis")


def test_something_that_hangs_up() -> None:
    with answering(b"") as port:
        refused(f"redis://127.0.0.1:{port}", StoreUnavailableError, "expected: Redis or Valkey", "then rediss://")


@contextmanager
def pretending(answer: bytes) -> Iterator[int]:
    """A server of our own making that answers INFO with these bytes, everything else with OK. Its port."""

    def serve() -> None:
        requests = hiredis.Reader()
        with listener, listener.accept()[0] as connection:
            connection.settimeout(20)
            while data := connection.recv(65536):
                requests.feed(data)
                while command := requests.gets():
                    connection.sendall(answer if command[0] == b"INFO" else b"+OK\r\n")

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    thread.join()


def test_an_old_server() -> None:
    text = "# Server\r\nredis_version:6.0.16\r\nredis_mode:standalone\r\n"
    with pretending(f"${len(text)}\r\n{text}\r\n".encode()) as port:
        refused(f"redis://127.0.0.1:{port}", StoreError, "version 6.0.16", "Redis 7 or newer")


def test_a_server_that_is_loading() -> None:
    with pretending(b"-LOADING Redis is loading the dataset in memory\r\n") as port:
        refused(f"redis://127.0.0.1:{port}", StoreUnavailableError, "still loading")


@pytest.mark.system
def test_a_replica(plain: Server, tmp_path: Path) -> None:
    with serving(tmp_path, f"replicaof 127.0.0.1 {plain.port}", mark="Finished with success") as replica:
        refused(replica.url, StoreError, "this is a replica", f"127.0.0.1:{plain.port}")


def test_a_cluster(tmp_path: Path) -> None:
    with serving(tmp_path, "cluster-enabled yes", f"cluster-port {free_port()}") as server:
        refused(server.url, StoreError, "this is a Redis Cluster")


def test_a_cache_that_throws_tasks_away(tmp_path: Path) -> None:
    with serving(tmp_path, "maxmemory 100mb", "maxmemory-policy allkeys-lru") as server:
        refused(server.url, StoreError, "throws data away", "CONFIG SET maxmemory-policy noeviction")


@pytest.mark.needs("sentinel")
def test_sentinels_taken_for_a_server_and_the_other_way_round(plain: Server, tmp_path: Path) -> None:
    watch = f"sentinel monitor main 127.0.0.1 {plain.port} 1"
    with serving(tmp_path, watch, options=("--sentinel",), mark="+monitor master") as sentinel:
        there = f"127.0.0.1:{sentinel.port}"
        assert meet(f"redis+sentinel://{there}/main") == meet(plain.url)
        refused(f"redis://{there}", StoreError, "this is a Sentinel", "redis+sentinel://")
        refused(f"redis+sentinel://{there}/other", StoreUnavailableError, "name no master 'other'")
    refused(
        f"redis+sentinel://{there}/main", StoreUnavailableError, "name no master 'main'", "at least one Sentinel up"
    )


# --- TLS ------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str, alternative: str) -> Path:
    """A certificate that signs itself; its key lies beside it."""
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName={alternative}"),
            *("-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")),
        ],
        check=True,
        capture_output=True,
    )
    return folder / f"{name}.crt"


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("papers")
    certificate(folder, "server", "IP:127.0.0.1")
    certificate(folder, "client", "DNS:client")
    return folder


@pytest.fixture(scope="module")
def secured(papers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Speaks TLS only, and only with clients that show the client's certificate."""
    port = free_port()
    lines = (
        *("port 0", f"tls-port {port}", f"tls-cert-file {papers}/server.crt", f"tls-key-file {papers}/server.key"),
        f"tls-ca-cert-file {papers}/client.crt",
    )
    with serving(tmp_path_factory.mktemp("secured"), *lines, port=0) as server:
        server.port = port
        yield server


def store_file(folder: Path, url: str, **fields: str) -> str:
    path = folder / "store.toml"
    write_private(path, "".join(f'{name} = "{value}"\n' for name, value in {"url": url, **fields}.items()))
    return str(path)


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ergates.drivers.stores.open_cluster.READ_TIMEOUT_S", 0.2)


def test_tls_with_a_clients_certificate(secured: Server, papers: Path, tmp_path: Path) -> None:
    url = secured.url.replace("redis:", "rediss:")
    shown = {"ca": f"{papers}/server.crt", "cert": f"{papers}/client.crt", "key": f"{papers}/client.key"}
    assert meet(store_file(tmp_path, url, **shown))
    refused(store_file(tmp_path, url, ca=shown["ca"]), StoreError, "cert = FILE")
    other = url.replace("127.0.0.1", "localhost")
    refused(store_file(tmp_path, other, **shown), StoreError, "certificate is not to be trusted")


def test_a_certificate_of_nobody_we_know(secured: Server) -> None:
    refused(secured.url.replace("redis:", "rediss:"), StoreError, "not to be trusted", "ca = FILE")


def test_tls_on_one_side_only(secured: Server, plain: Server) -> None:
    refused(secured.url, StoreUnavailableError, "then rediss://")
    with answering(b"-ERR Protocol error\r\n") as port:
        refused(f"rediss://127.0.0.1:{port}", StoreError, "does not speak TLS", "redis:// instead of rediss://")


def test_tls_to_a_server_that_waits_for_more(plain: Server, short_patience: None) -> None:
    refused(plain.url.replace("redis:", "rediss:"), StoreUnavailableError, "redis:// instead of rediss://")


def test_a_server_that_does_not_answer(short_patience: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused(f"redis://127.0.0.1:{silent.getsockname()[1]}", StoreUnavailableError, "does not answer")


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(StoreError, match=r"pip install 'ergates\[cluster\]'"):
        client_factory(store_address("redis://h", env=os.environ))


def test_no_library_and_no_server_is_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    shown = CliRunner().invoke(cli, ["store", "up", "--state", str(tmp_path / "state")])
    assert isinstance(shown.exception, StoreError)
    assert "requirements/cluster.txt" in str(shown.exception)
    assert not (tmp_path / "state").exists()
