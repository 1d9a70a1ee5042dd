"""URLs of ledgers, and where their passwords may stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ergates.drivers.ledgers.address import ledger_address
from ergates.errors import UsageError

SECRET = "s3cret"


def server(url: str, **env: str) -> dict[str, str]:
    return dict(ledger_address(url, env=env).server)


def test_servers() -> None:
    assert server("postgresql://erg@db1:5433/ergates") == {
        "user": "erg", "host": "db1", "port": "5433", "dbname": "ergates",
    }  # fmt: skip
    assert server("postgres:///x?host=/run/pg&sslmode=require")["host"] == "/run/pg"
    assert server("postgresql://a:1,b:2/x?target_session_attrs=read-write")["host"] == "a,b"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:///var/lib/l.db", "/var/lib/l.db"),
        ("sqlite:////var/lib/l.db", "/var/lib/l.db"),
        ("sqlite:///with%20blank/l.db", "/with blank/l.db"),
        ("/var/lib/l.db", "/var/lib/l.db"),
    ],
)
def test_files(text: str, path: str) -> None:
    address = ledger_address(text, env={})
    assert (address.path, str(address)) == (Path(path), path)


def test_a_relative_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ledger_address("l.db", env={}).path == tmp_path / "l.db"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://erg:{SECRET}@db1/x",
        f"postgresql://erg:{SECRET}/with/slashes@db1/x",
        f"postgresql://erg@db1/x?password={SECRET}",
        f"postgresql://erg@db1/x?sslpassword={SECRET}&sslmode=require",
    ],
)
def test_a_password_in_an_argument_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        ledger_address(text, env={})
    assert SECRET not in str(caught.value) and SECRET not in repr(caught.value.__cause__)


def test_a_password_in_the_environment() -> None:
    for url, env in (
        (f"postgresql://erg:{SECRET}@db1/x", {}),
        ("postgresql://erg@db1/x", {"ERGATES_LEDGER_PASSWORD": SECRET}),
        (f"postgresql://erg:{SECRET}@db1/x", {"ERGATES_LEDGER_PASSWORD": "other"}),
    ):
        address = ledger_address(url, in_argument=False, origin="ERGATES_LEDGER", env=env)
        assert address.password == SECRET
        assert SECRET not in repr(address) and SECRET not in str(address)
        assert str(address) == "postgresql://erg@db1/x"
    assert ledger_address("postgresql://erg@db1/x", env={"ERGATES_LEDGER_PASSWORD": SECRET}).password == SECRET


def test_a_password_file_is_named_not_read() -> None:
    address = ledger_address("postgresql://erg@db1/x?passfile=/home/me/pass", env={})
    assert address.password == "" and dict(address.server)["passfile"] == "/home/me/pass"
    assert str(address) == "postgresql://erg@db1/x?passfile=/home/me/pass"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no ledger is named"),
        (f"mysql://u:{SECRET}@h/x", "no ledger is reached by mysql://"),
        ("sqlite://relative.db", "needs an absolute path"),
        ("sqlite:///", "needs an absolute path"),
        (f"postgresql://u:{SECRET}%zz@h/x", "PostgreSQL cannot read this URL"),
        (f"postgresql://u:a/{SECRET}@h/x", "PostgreSQL cannot read this URL"),
        (f"postgresql://u@h/x?colour=red&password={SECRET}", "PostgreSQL cannot read this URL"),
    ],
)
def test_what_is_no_ledger(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"--ledger.*{words}") as caught:
        ledger_address(text, env={})
    assert "expected:" in str(caught.value) and SECRET not in str(caught.value)
