"""What tasks of a worker see of its environment: the name of its store, and no password."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ergates.cli.worker_start import _hide_secrets_from_tasks, _tell_tasks_of
from ergates.drivers.stores.store_file import store_address


def test_passwords_go_and_names_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "ERGATES_STORE": "redis://u:secret@h", "ERGATES_STORE_PASSWORD": "secret", "ERGATES_LEDGER_PASSWORD": "secret",
        "ERGATES_LEDGER": "postgresql://h/db?password=secret", "ERGATES_STATE": "/x",
    }  # fmt: skip
    for name, text in given.items():
        monkeypatch.setenv(name, text)
    _hide_secrets_from_tasks()
    assert given.keys() & os.environ.keys() == {"ERGATES_STATE"}
    monkeypatch.setenv("ERGATES_STORE", "rediss://u@h:1/2?queue=a:b")
    monkeypatch.setenv("ERGATES_LEDGER", "/var/ledger.db")
    _hide_secrets_from_tasks()
    assert {"ERGATES_STORE", "ERGATES_LEDGER"} <= os.environ.keys()


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is put into the environment is taken out again."""
    monkeypatch.setenv("ERGATES_STORE", "")


@pytest.mark.usefixtures("unnamed")
def test_the_store_is_named_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store.toml").touch(0o600)
    (tmp_path / "store.toml").write_text('url = "redis://erg@h:1"\npassword = "secret"\n')
    monkeypatch.chdir(tmp_path)
    _tell_tasks_of(store_address("store.toml"))
    assert os.environ["ERGATES_STORE"] == str(tmp_path / "store.toml")


@pytest.mark.usefixtures("unnamed")
@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("redis://me:secret@h:1/2?queue=q", "redis://me@h:1/2?queue=q"),
        ("redis://:secret@h", "redis://h"),
        ("unix:///run/r.sock", "unix:///run/r.sock"),
        ("redis+sentinel://me:secret@a,b:7/main", "redis+sentinel://me@a,b:7/main"),
    ],
)
def test_the_store_is_named_by_its_url_without_a_password(said: str, told: str) -> None:
    address = store_address(said, origin="erg.toml", in_argument=False, env={"ERGATES_STORE_PASSWORD": "secret"})
    _tell_tasks_of(address)
    assert os.environ["ERGATES_STORE"] == told
    assert store_address(told, env={}).url == address.url
