"""Host files and host names: what can be read, and that what cannot is named with its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.drivers.placers.hosts import Host, named_hosts, read_hosts
from ergates.errors import InputError, UsageError
from ergates.units import Bytes, MilliCpus


def names(text: str) -> list[str]:
    return [host.name for host in read_hosts(text.splitlines(), "hosts.txt")]


def test_plain_lines_comments_and_ranges() -> None:
    text = "# mine\nnode[01-03]\n\nalice@big:2222   # the large one\nrack[1,3]n[9-10]\n"
    assert names(text) == ["node01", "node02", "node03", "alice@big:2222", "rack1n9", "rack1n10", "rack3n9", "rack3n10"]


def test_what_is_told_of_a_host() -> None:
    (host,) = read_hosts(["a.b@gpu-1:22 cpus=7.5 memory=60GiB kind=gpu site=x=y"], "f")
    assert host == Host(
        name="a.b@gpu-1:22",
        address="gpu-1",
        user="a.b",
        port=22,
        cpus_milli=MilliCpus(7500),
        memory_bytes=Bytes(60 << 30),
        labels={"kind": "gpu", "site": "x=y"},
    )


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [("[fe80::1%eth0]:22", "fe80::1%eth0", 22), ("2001:db8::7", "2001:db8::7", 0), ("[::1]", "::1", 0)],
)
def test_addresses_of_ipv6(text: str, address: str, port: int) -> None:
    (host,) = read_hosts([text], "f")
    assert (host.address, host.port) == (address, port)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("-oProxyCommand=x", "cannot read the host"),
        ("user@-x", "cannot read the host"),
        ("-l@host", "cannot read the host"),
        ("host:0", "cannot read the host"),
        ("host:99999", "cannot read the host"),
        ("host;reboot", "cannot read the host"),
        ("$(reboot)", "cannot read the host"),
        ("node[5-1]", "runs backwards"),
        ("node[a-c]", "cannot read the host"),
        ("node[1-]", "cannot read the range"),
        ("node[1-99999999]", "more than 10,000"),
        ("host cpus=many", "number of cores"),
        ("host memory=lots", "size such as"),
        ("host gpu", "cannot read 'gpu'"),
        ("host a=1 a=2", "a= is there twice"),
        ("host cpus=1 cpus=2", "cpus= is there twice"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(line: str, what: str) -> None:
    with pytest.raises(InputError, match=r"hosts\.txt:2: ") as caught:
        read_hosts(["good", line], "hosts.txt")
    assert what in str(caught.value)
    assert "expected: [user@]host[:port]" in str(caught.value)


def test_no_host_twice() -> None:
    with pytest.raises(InputError, match=r"f:3: host node2 was named before, in line 1"):
        read_hosts(["node[1-3]", "other", "node2"], "f")
    with pytest.raises(UsageError, match="a is named twice"):
        named_hosts("a,b,a")


def test_a_file_without_hosts() -> None:
    with pytest.raises(InputError, match="f: names no hosts"):
        read_hosts(["# nothing"], "f")


def test_names_of_the_command_line() -> None:
    assert [host.name for host in named_hosts("a, u@b:1,n[1,3],[::1]:22")] == ["a", "u@b:1", "n1", "n3", "[::1]:22"]


@given(st.text(max_size=20))
def test_whatever_is_read_can_be_no_option_and_no_second_word(text: str) -> None:
    try:
        hosts = read_hosts([text], "f")
    except InputError:
        return
    for host in hosts:
        for word in (host.address, host.user):
            assert not word.startswith("-")
            assert not set(word) & set(" \t\n;&|$`'\"<>(){}*?!")
