"""What `erg worker up` shows: its line while it goes on, and its table."""

from __future__ import annotations

from ergates.cli.placing import progress_text, report_lines, sum_of
from ergates.drivers.placers.hosts import read_hosts
from ergates.drivers.placers.many_hosts import HostReport
from ergates.drivers.placers.ssh_worker import start_command

REPORTS = [
    HostReport(host="node1", state="up", seconds=3.21),
    HostReport(host="node2", state="failed", seconds=10.0, trouble="Connection refused", hint="is it up?"),
    HostReport(host="node3", state="failed", seconds=10.0, trouble="Connection\x1b[31m refused", hint="is it up?"),
    HostReport(host="node4", state="already up", seconds=0.5, note="runs another version"),
]


def test_the_table_says_each_hint_once() -> None:
    assert report_lines(REPORTS) == [
        "host   state         time  what",
        "node1  up          3.21 s",
        "node2  failed        10 s  Connection refused",
        "node3  failed        10 s  Connection\\x1b[31m refused",
        "node4  already up  500 ms  runs another version",
        "  hint (node2, node3): is it up?",
    ]
    assert sum_of(REPORTS, "up") == "2 of 4 hosts up, 2 failed"


def test_the_line_while_it_goes_on() -> None:
    going = [
        *REPORTS,
        HostReport(host="node5", state="installing"),
        HostReport(host="node6", state="trying again: Connection refused"),
    ]
    assert progress_text(going) == (
        "4 of 6 hosts done, 2 failed; 1 installing, 1 trying again; node6: Connection refused"
    )


def test_what_is_started_on_a_host() -> None:
    (host,) = read_hosts(["alice@big cpus=7.5 memory=1GiB kind=a;b"], "f")
    assert start_command(host, ["--idle", "30m"]) == [
        "python", "-I", "-m", "ergates", "worker", "start", "--store", "{home}/store.toml", "--placed-by", "ssh:alice@big",
        "--cpus", "7.5", "--memory", "1073741824", "--label", "kind=a;b", "--idle", "30m",
    ]  # fmt: skip
