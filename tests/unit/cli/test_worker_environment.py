"""What tasks of a worker may not see of its environment: passwords. A store's name without one stays."""

from __future__ import annotations

import os

import pytest

from ergates.cli.worker_start import _hide_secrets_from_tasks


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
