"""`erg store`: a real private server, from up to down, through crashes, with nothing open and no secret shown."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from erg_rig import Erg, ended, eventually

from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import TaskSpec
from ergates.drivers.machine import boot_id, pid_start_ticks
from ergates.drivers.stores.open_cluster import client_factory, open_cluster_store
from ergates.drivers.stores.redis.store import RedisStore
from ergates.drivers.stores.store_file import store_address
from ergates.taskqueue.store import Lease, Want
from ergates.units import GIB, Bytes, MilliCpus, Nanoseconds

pytestmark = [pytest.mark.system, pytest.mark.needs("redis")]
NOW = Nanoseconds(1_700_000_000 * 10**9)


@pytest.fixture
def erg_with_store(erg: Erg) -> Iterator[Erg]:
    """Its store, if it starts one, ends with the test."""
    yield erg
    for record in erg.folder.glob("*/store/server.json"):
        pid = json.loads(record.read_bytes())["pid"]
        if pid and "redis" in Path(f"/proc/{pid}/cmdline").read_text(errors="replace") if _lives(pid) else False:
            os.kill(pid, signal.SIGKILL)


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and pid_start_ticks(pid) != 0


def up(erg: Erg, *words: str) -> dict[str, Any]:
    shown = erg("store", "up", "--json", *words)
    assert shown.code == 0, shown
    facts: dict[str, Any] = json.loads(shown.out)
    return facts


def facts_of(erg: Erg, *words: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(erg("store", "status", "--json", *words).out)
    return facts


@contextmanager
def store_of(erg: Erg, state: str = ".ergates") -> Iterator[RedisStore]:
    with closing(open_cluster_store(store_address(str(erg.folder / state / "store.toml")), host="h")) as store:
        yield store


def submit(store: RedisStore, number: int) -> str:
    return store.submit(JobSpec(key="k", name="n"), [TaskSpec(command="true")] * number, NOW).id


def lease_one(store: RedisStore) -> Lease:
    capacity = NodeCapacity(cpus_milli=MilliCpus(1000), memory_bytes=Bytes(GIB))
    store.register(WorkerInfo(id="w", host="h", capacity=capacity), NOW)
    (offer,) = store.exchange("w", (), (), NOW).offers
    want = Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=1)
    (lease,) = store.exchange("w", (), (want,), NOW).leases
    return lease


def test_up_twice_down_twice_and_nothing_is_lost(erg_with_store: Erg) -> None:
    erg = erg_with_store
    first = up(erg)
    assert first["started"]
    again = up(erg)
    assert not again.pop("started")
    assert again == {name: value for name, value in first.items() if name != "started"}
    with store_of(erg) as store:
        submit(store, 1000)
    down = erg("store", "down", "--json")
    assert json.loads(down.out) == {"stopped": True, "pid": first["pid"]}
    assert json.loads(erg("store", "down", "--json").out) == {"stopped": False, "pid": None}
    assert erg("store", "status").code == 1
    assert up(erg)["url"] == first["url"]
    with store_of(erg) as store:
        assert [job.total for job in store.jobs()] == [1000]
    facts = facts_of(erg)
    assert facts["up"]
    assert facts["durable"]
    assert facts["queues"] == [{"queue": "default", "jobs": 1, "waiting": 1000, "leased": 0, "workers": 0}]
    other = erg("store", "up", "--memory", "1GiB")
    assert other.code == 2
    assert "with other settings" in other.err


def test_a_killed_server_starts_again_with_all_it_said_it_had(erg_with_store: Erg) -> None:
    erg = erg_with_store
    first = up(erg)
    with store_of(erg) as store:
        submit(store, 10)
        os.kill(first["pid"], signal.SIGKILL)
        eventually(lambda: not facts_of(erg)["up"], "its end is noticed")
        assert "erg store up" in erg("store", "status").out.decode()
        second = up(erg)
        assert second["started"]
        assert second["pid"] != first["pid"]
        assert (second["url"], second["store_file"]) == (first["url"], first["store_file"])
        assert eventually(lambda: _jobs(store), "the same client goes on") == [10]


def _jobs(store: RedisStore) -> list[int]:
    from ergates.errors import StoreUnavailableError

    try:
        return [job.total for job in store.jobs()]
    except StoreUnavailableError:
        return []


def test_a_log_that_cannot_be_read_back_is_not_written_on(erg_with_store: Erg) -> None:
    """The server begins with what it understood; we stop it before it adds anything to that."""
    erg = erg_with_store
    up(erg)
    with store_of(erg) as store:
        submit(store, 10)
    erg("store", "down")
    (log,) = (erg.folder / ".ergates/store/data/appendonlydir").glob("*.incr.aof")
    whole = log.read_bytes()
    log.write_bytes(whole.replace(b"\r\nHSET\r\n", b"\r\nHXXX\r\n"))
    broken = log.read_bytes()
    refused = erg("store", "up")
    assert refused.code == 1
    assert not facts_of(erg)["up"]
    assert log.read_bytes() == broken
    log.write_bytes(whole)
    up(erg)
    with store_of(erg) as store:
        assert _jobs(store) == [10]


def test_many_ups_at_once_start_one_server(erg_with_store: Erg) -> None:
    erg = erg_with_store
    started = [erg.start("store", "up", "--json") for _ in range(4)]
    facts = [json.loads(ended(process).out) for process in started]
    assert sorted(each["started"] for each in facts) == [False, False, False, True]
    assert len({each["pid"] for each in facts}) == 1


def test_a_stale_record_neither_stops_a_start_nor_harms_a_stranger(erg_with_store: Erg) -> None:
    """The number in the record belongs to another process by now: to this one."""
    erg = erg_with_store
    up(erg)
    erg("store", "down")
    path = erg.folder / ".ergates/store/server.json"
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps({**record, "pid": os.getpid(), "boot_id": boot_id()}))
    assert not facts_of(erg)["up"]
    assert json.loads(erg("store", "down", "--force", "--json").out)["stopped"] is False
    assert up(erg)["started"]


def test_data_in_use_by_a_forgotten_server_is_not_touched(erg_with_store: Erg) -> None:
    erg = erg_with_store
    facts = up(erg)
    record = erg.folder / ".ergates/store/server.json"
    text = record.read_text()
    record.unlink()
    refused = erg("store", "up")
    assert refused.code == 1
    assert "a server that `erg store` does not know of uses it" in refused.err
    record.write_text(text)
    assert up(erg)["pid"] == facts["pid"]


def test_only_loopback_listens_and_no_secret_is_seen(erg_with_store: Erg) -> None:
    erg = erg_with_store
    shown = erg("store", "up", env={"ERGATES_STORE_PASSWORD": "of-another-store"})
    assert shown.code == 0, shown
    folder = erg.folder / ".ergates"
    pid = json.loads((folder / "store/server.json").read_bytes())["pid"]
    assert _listening(pid) == {"127.0.0.1"}
    passwords = [store_address(str(folder / name)).password for name in ("store.toml", "store/admin.toml")]
    assert all(len(password) > 30 for password in passwords)
    assert passwords[0] != passwords[1]
    facts_of(erg)
    private = (folder / "store.toml", folder / "store/admin.toml")
    seen = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    seen += [path.read_bytes() for path in folder.rglob("*") if path.is_file() and path not in private]
    seen += [shown.out, shown.err.encode()]
    for secret in (*passwords, "of-another-store"):
        assert not any(secret.encode() in text for text in seen)
    for path in (folder, *folder.rglob("*")):
        open_to_others = path.stat().st_mode & 0o077
        assert not open_to_others or path.is_relative_to(folder / "store/data"), path
    assert (folder / "store/data").stat().st_mode & 0o777 == 0o700


def _listening(pid: int) -> set[str]:
    """Addresses on which a process accepts connections, as the kernel knows them."""
    inodes = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                raw = bytes.fromhex(fields[1].partition(":")[0])
                words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
                found.add(socket.inet_ntop(family, words))
    return found


@pytest.mark.parametrize(
    "forbidden",
    [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "GET", "*"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("SHUTDOWN", "NOSAVE"),
        ("DEBUG", "SLEEP", "0"),
        ("ACL", "LIST"),
        ("ACL", "SETUSER", "erg", "+@all"),
        ("CLIENT", "KILL", "ID", "1"),
        ("MONITOR",),
        ("REPLICAOF", "NO", "ONE"),
        ("MODULE", "LIST"),
        ("SWAPDB", "0", "1"),
        ("SCRIPT", "FLUSH"),
        ("FUNCTION", "FLUSH"),
        ("GET", "another"),
        ("SET", "erg:x", "1"),
        ("EVAL", "return redis.call('SET', 'another', 1)", "0"),
        ("EVAL", "return redis.call('FLUSHALL')", "0"),
    ],
)
def test_the_limited_user_is_limited(forbidden: tuple[str, ...], limited: Any) -> None:
    from redis.exceptions import NoPermissionError, ResponseError

    with pytest.raises((NoPermissionError, ResponseError), match=r"(?i)permission|not allowed|can't (run|access)"):
        limited.execute_command(*forbidden)
    assert limited.ping()


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client that came in as workers do."""
    erg = Erg(tmp_path_factory.mktemp("limited"))
    facts = up(erg)
    client = client_factory(store_address(facts["store_file"]))()
    yield client
    client.close()
    erg("store", "down", "--force")
    erg.clean_up()


def test_without_a_password_nobody_comes_in(limited: Any) -> None:
    import redis

    where = limited.connection_pool.connection_kwargs
    with (
        closing(redis.Redis(host=where["host"], port=where["port"])) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_down_is_refused_while_tasks_are_held_and_leases_outlive_it(erg_with_store: Erg) -> None:
    erg = erg_with_store
    up(erg)
    with store_of(erg) as store:
        job = submit(store, 3)
        lease = lease_one(store)
        assert facts_of(erg)["queues"][0]["leased"] == 1
        refused = erg("store", "down")
        assert refused.code == 2
        assert "workers hold 1 task of queue default" in refused.err
        assert facts_of(erg)["up"]
        assert erg("store", "down", "--force").code == 0
        up(erg)
        assert eventually(lambda: _jobs(store), "it is back") == [3]
        (view,) = store.tasks(lease.job, ids=((lease.task, lease.task),))
        assert (view.job, view.state, view.worker) == (job, "leased", "w")


def test_a_backup_is_a_moment_of_a_store_that_goes_on(erg_with_store: Erg) -> None:
    erg = erg_with_store
    up(erg)
    with store_of(erg) as store:
        submit(store, 5000)
        lease = lease_one(store)
    copied = erg("store", "backup", "monday.rdb", "--json")
    assert copied.code == 0, copied
    file = erg.folder / "monday.rdb"
    assert json.loads(copied.out)["size_bytes"] == file.stat().st_size > 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert not list((erg.folder / ".ergates/store/data").glob("*.rdb"))
    with store_of(erg) as store:
        store.submit(JobSpec(key="later", name="n"), [TaskSpec(command="true")], NOW)
    assert "is there already" in erg("store", "backup", "monday.rdb").err

    up(erg, "--state", "other", "--from", "monday.rdb")
    with store_of(erg, "other") as restored:
        assert [job.total for job in restored.jobs()] == [5000]
        (view,) = restored.tasks(lease.job, ids=((lease.task, lease.task),))
        assert view.state == "leased"
        submit(restored, 1)  # and what comes after it is kept, too
    erg("store", "down", "--state", "other", "--force")
    up(erg, "--state", "other")
    assert facts_of(erg, "--state", "other")["queues"][0]["jobs"] == 1
    erg("store", "down", "--state", "other", "--force")
    refused = erg("store", "up", "--state", "other", "--from", "monday.rdb")
    assert refused.code == 2
    assert "there is data already" in refused.err


def test_a_damaged_backup_is_not_restored(erg_with_store: Erg) -> None:
    erg = erg_with_store
    up(erg)
    with store_of(erg) as store:
        submit(store, 100)
    assert erg("store", "backup", "good.rdb").code == 0
    data = bytearray((erg.folder / "good.rdb").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (erg.folder / "bad.rdb").write_bytes(data)
    (erg.folder / "cut.rdb").write_bytes(data[: len(data) // 3])
    for name in ("bad.rdb", "cut.rdb"):
        refused = erg("store", "up", "--state", "other", "--from", name)
        assert refused.code == 1
        assert "no whole snapshot of a store" in refused.err
        assert not (erg.folder / "other/store/data/appendonlydir").exists()
    assert erg("store", "up", "--state", "other", "--from", "none.rdb").code == 2


def test_others_come_in_by_tls_with_the_store_file_alone(erg_with_store: Erg, tmp_path: Path) -> None:
    erg = erg_with_store
    facts = up(erg, "--listen", "127.0.0.2", "--tls")
    assert facts["url"].startswith("rediss://erg@127.0.0.2:")
    assert _listening(facts["pid"]) == {"127.0.0.1", "127.0.0.2"}
    carried = tmp_path / "elsewhere.toml"
    carried.write_bytes((erg.folder / ".ergates/store.toml").read_bytes())
    carried.chmod(0o644)
    refused = erg("status", "--store", str(carried))
    assert refused.code == 2
    assert f"hint: chmod 600 {carried}" in refused.err
    carried.chmod(0o600)
    assert erg("status", "--store", str(carried)).code == 0
    assert facts_of(erg)["up"]
    plain = facts["url"].replace("rediss", "redis")
    told = erg("status", "--store", plain)
    assert told.code == 1
    assert "then rediss://" in told.err
    bare = erg("status", "--store", facts["url"])
    assert "certificate is not to be trusted" in bare.err
    erg("store", "down")
    again = up(erg)
    assert again["url"] == facts["url"]  # what was chosen is kept


def test_a_port_that_is_taken(erg_with_store: Erg) -> None:
    erg = erg_with_store
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = erg("store", "up", "--port", str(port))
        assert refused.code == 1
        assert "already in use" in refused.err
        assert "--port" in refused.err
    assert up(erg)["settings"]["port"] != port


def test_servers_that_will_not_do(erg_with_store: Erg) -> None:
    erg = erg_with_store
    old = erg.folder / "old-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=00000000:0'\n")
    old.chmod(0o755)
    refused = erg("store", "up", "--server", str(old))
    assert refused.code == 1
    assert "is 6.0.16\n  expected: Redis 7 or newer, or Valkey\n  hint: apt install redis-server" in refused.err
    assert erg("store", "up", "--server", "no-such-server").code == 2
    assert erg("store", "status").code == 2  # none was ever started


def test_without_any_server_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from ergates.drivers.stores import private_server
    from ergates.errors import StoreError

    monkeypatch.setattr(private_server, "PROGRAMS", ("no-such-server", "nor-this"))
    with pytest.raises(StoreError, match=r"neither no-such-server nor nor-this is installed here(.|\n)*apt install"):
        private_server.find_program(None)


def test_the_store_is_used_only_where_it_is_named(erg_with_store: Erg) -> None:
    erg = erg_with_store
    up(erg)
    assert "--store" in erg("status").err.partition("made a cluster's store here")[2]
    assert erg("submit", "true").code == 0  # alone, as before
    assert [job["name"] for job in erg.jobs()] == ["true"]
    named = {"ERGATES_STORE": ".ergates/store.toml"}
    assert json.loads(erg("status", "--json", env=named).out) == []
    assert erg("submit", "date", env=named).code == 0
    assert erg.jobs("--store", ".ergates/store.toml")[0]["name"] == "date"
    (erg.folder / "ergates.toml").write_text('store = ".ergates/store.toml"\n')
    assert [job["name"] for job in erg.jobs()] == ["date"]
    assert [job["name"] for job in erg.jobs("--store", "embedded")] == ["true"]
    assert facts_of(erg)["queues"][0]["jobs"] == 1
