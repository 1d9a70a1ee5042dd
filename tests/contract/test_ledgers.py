"""Both ledgers keep the contract; and what is special about each: who gets in, whose file it is, a server that goes away."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ledger_contract import LedgerContract, LedgerRig, batch, row
from postgres_rig import PASSWORD, PostgresCluster

from ergates.cluster.attempt import Kept
from ergates.drivers.ledgers.address import ledger_address
from ergates.drivers.ledgers.open_ledger import OpenLedger, open_ledger
from ergates.drivers.ledgers.postgres import PostgresLedger
from ergates.drivers.ledgers.sqlite_ledger import SqliteLedger
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.errors import StoreError, StoreFullError, StoreUnavailableError


class TestSqliteLedger(LedgerContract):
    """In one file."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[LedgerRig]:
        opened: list[OpenLedger] = []

        def open_another() -> OpenLedger:
            opened.append(open_ledger(ledger_address(f"sqlite://{tmp_path}/l.db")))
            return opened[-1]

        def query(sql: str) -> list[tuple[Any, ...]]:
            with closing(sqlite3.connect(tmp_path / "l.db")) as connection, connection:
                return connection.execute(sql).fetchall()

        yield LedgerRig(open=open_another, query=query, tables="")
        for ledger in opened:
            ledger.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    cluster = PostgresCluster()
    yield cluster
    cluster.close()


@pytest.mark.needs("postgresql")
class TestPostgresLedger(LedgerContract):
    """In a database of its own for each test."""

    @pytest.fixture
    def rig(self, cluster: PostgresCluster) -> Iterator[LedgerRig]:
        database, opened = cluster.database(), []

        def open_another() -> OpenLedger:
            opened.append(open_ledger(cluster.address(database)))
            return opened[-1]

        def query(sql: str) -> list[tuple[Any, ...]]:
            with cluster.connect(database) as connection:
                return connection.execute(sql.encode()).fetchall()

        yield LedgerRig(open=open_another, query=query, tables="ergates.")
        for ledger in opened:
            ledger.close()


# --- SQLite: whose file is it? --------------------------------------------------------------------


def test_a_ledger_file_is_private(tmp_path: Path) -> None:
    SqliteLedger(tmp_path / "l.db").close()
    assert stat.S_IMODE((tmp_path / "l.db").stat().st_mode) == 0o600


def test_other_files_are_refused_and_stay_as_they_are(tmp_path: Path) -> None:
    store, other, text = tmp_path / "store.db", tmp_path / "other.db", tmp_path / "text"
    SqliteStore(store).close()
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE cheese(x)")
    text.write_text("no database at all, but a text that is long enough\n" * 100)
    for path, words in ((store, "not a ledger"), (other, "not a ledger"), (text, "not even a database")):
        before = path.read_bytes()
        with pytest.raises(StoreError, match=f"{path}.*{words}"):
            SqliteLedger(path)
        assert path.read_bytes() == before


def test_a_file_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be opened for writing: No such file or directory.*\n.*hint"):
        SqliteLedger(tmp_path / "missing" / "l.db")


# --- PostgreSQL: who gets in, and a server that goes away -----------------------------------------


@pytest.mark.needs("postgresql")
class TestTheServer:
    """Words for every way not to get in; calls that survive a restart."""

    def test_a_wrong_password(self, cluster: PostgresCluster) -> None:
        for password, words in (("wrong secret", "does not accept user or password"), ("", "no password was given")):
            with pytest.raises(StoreError, match=rf"postgresql://erg@.*{words}.*\n.*ERGATES_LEDGER_PASSWORD") as caught:
                open_ledger(cluster.address("postgres", password=password))
            assert not isinstance(caught.value, StoreUnavailableError)
            assert "wrong secret" not in str(caught.value)

    def test_a_database_that_is_not_there(self, cluster: PostgresCluster) -> None:
        with pytest.raises(StoreError, match=r'"nothing" does not exist.*\n.*createdb nothing') as caught:
            open_ledger(cluster.address("nothing"))
        assert not isinstance(caught.value, StoreUnavailableError)

    def test_a_server_that_is_not_there(self, tmp_path: Path) -> None:
        address = ledger_address(f"postgresql://erg@/x?host={tmp_path}", env={})
        with pytest.raises(StoreUnavailableError, match="cannot be reached now"):
            open_ledger(address)
        assert open_ledger(address, wait=True) is not None

    def test_a_password_file(self, cluster: PostgresCluster, tmp_path: Path) -> None:
        escaped = PASSWORD.replace(":", "\\:")
        passfile = tmp_path / "pass"
        passfile.write_text(f"*:*:*:*:{escaped}\n")
        passfile.chmod(0o600)
        address = ledger_address(f"{cluster.url(cluster.database())}&passfile={passfile}", env={})
        ledger = open_ledger(address)
        assert ledger.jobs() == ()
        ledger.close()

    def test_a_reader_without_rights_to_write(self, cluster: PostgresCluster) -> None:
        database = cluster.database()
        writer = open_ledger(cluster.address(database))
        writer.write(batch(row(1)))
        with cluster.connect(database) as connection:
            connection.execute("CREATE ROLE reader LOGIN PASSWORD 'r'")
            connection.execute("GRANT USAGE ON SCHEMA ergates TO reader")
            connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA ergates TO reader")
        reader = open_ledger(cluster.address(database, "reader", "r"))
        assert list(reader.attempts("uid-1")) == [row(1)]
        assert reader.sums("host", but=[row(1), row(2)]).missing == (row(2),)
        with pytest.raises(StoreError, match=r"may not do that.*\n.*GRANT"):
            reader.write(batch(row(2)))
        stranger = cluster.database()
        with pytest.raises(StoreError, match=r"may not do that.*\n.*CREATE SCHEMA ergates AUTHORIZATION reader"):
            open_ledger(cluster.address(stranger, "reader", "r"))
        for ledger in (reader, writer):
            ledger.close()

    def test_a_restart_is_not_noticed(self, cluster: PostgresCluster) -> None:
        ledger = open_ledger(cluster.address(cluster.database()))
        ledger.write(batch(row(1)))
        for mode in ("fast", "immediate"):
            cluster.stop(mode)
            with pytest.raises(StoreUnavailableError):
                ledger.write(batch(row(2)))
            with pytest.raises(StoreUnavailableError):
                ledger.jobs()
            cluster.start()
            ledger.write(batch(row(2)))
            cluster.stop(mode)
            cluster.start()
            assert list(ledger.attempts("uid-1")) == [row(1), row(2)]
        ledger.close()

    def test_a_server_that_takes_no_writes_now(self, cluster: PostgresCluster) -> None:
        database = cluster.database()
        open_ledger(cluster.address(database)).close()
        with cluster.connect("postgres") as connection:
            connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        ledger = open_ledger(cluster.address(database))
        with pytest.raises(StoreUnavailableError, match=r"takes no writes now.*\n.*target_session_attrs"):
            ledger.write(batch(row(1)))
        ledger.close()

    @pytest.mark.needs("root")
    def test_a_full_disk(self, cluster: PostgresCluster) -> None:
        """Of the tables; the server's log of changes is elsewhere, as it should be."""
        small = cluster.folder / "small"
        small.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700,uid=postgres", "tmpfs", str(small)]
        mounted = subprocess.run(mount, capture_output=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(f"no right to mount a small file system: {mounted.stderr.decode().strip()}")
        try:
            with cluster.connect("postgres") as connection:
                connection.execute(f"CREATE TABLESPACE small LOCATION '{small}'")
                connection.execute("CREATE DATABASE tight TABLESPACE small")
            ledger = open_ledger(cluster.address("tight"))
            ballast = small / "ballast"
            ballast.write_bytes(bytes(os.statvfs(small).f_bavail * 4096 - 500_000))
            rows = [row(number, kept=Kept(stdout=os.urandom(5000))) for number in range(1, 500)]
            with pytest.raises(StoreFullError, match="the disk of the database server is full"):
                ledger.write(batch(*rows))
            assert list(ledger.attempts("uid-1")) == []
            ballast.unlink()
            assert ledger.write(batch(*rows)) == 499
            ledger.close()
            with cluster.connect("postgres") as connection:
                connection.execute("DROP DATABASE tight")
                connection.execute("DROP TABLESPACE small")
        finally:
            subprocess.run(["umount", "-l", str(small)], check=True)

    def test_it_is_on_the_disk_even_where_the_server_is_lax(self, cluster: PostgresCluster) -> None:
        database = cluster.database()
        with cluster.connect("postgres") as connection:
            connection.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
        ledger = PostgresLedger(cluster.address(database))
        with cluster.connect(database) as looking:
            ledger.connect()
            looking.execute(
                "CREATE TABLE seen(setting text); CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS"
                " $$BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END$$;"
                "CREATE TRIGGER look AFTER INSERT ON ergates.attempt_rows EXECUTE FUNCTION look()"
            )
            ledger.write(batch(row(1)))
            assert looking.execute("SELECT DISTINCT setting FROM seen").fetchall() == [("on",)]
        ledger.close()

    def test_beside_other_tables(self, cluster: PostgresCluster) -> None:
        """A ledger may share a database; its names are in a schema of its own."""
        database = cluster.database()
        with cluster.connect(database) as connection:
            connection.execute("CREATE TABLE jobs(x integer); CREATE TABLE attempts(x integer)")
        ledger = open_ledger(cluster.address(database))
        assert ledger.write(batch(row(1))) == 1
        ledger.close()
