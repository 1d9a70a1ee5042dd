"""Where a store is: what URLs and store files mean, and that no password is ever shown or taken from an argument."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.drivers.stores.address import StoreAddress, parse_url
from ergates.drivers.stores.store_file import read_store_file, store_address, store_file_text, write_private
from ergates.errors import UsageError

SECRET = "s3cr:t/@?#"
QUOTED = "s3cr%3At%2F%40%3F%23"
NOTHING: Mapping[str, str] = {}


def read(text: str, *, in_argument: bool = True, env: Mapping[str, str] = NOTHING) -> StoreAddress:
    return store_address(text, in_argument=in_argument, env=env)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", {"hosts": (("h", 6379),)}),
        ("redis://h:1/2", {"hosts": (("h", 1),), "db": 2}),
        ("redis://ann@h?queue=night", {"hosts": (("h", 6379),), "username": "ann", "queue": "night"}),
        ("redis://[::1]:7", {"hosts": (("::1", 7),)}),
        ("rediss://h", {"hosts": (("h", 6379),), "tls": True}),
        ("unix:///run/r.sock", {"socket": "/run/r.sock"}),
        ("unix://ann@/run/r.sock?db=3&queue=q", {"socket": "/run/r.sock", "db": 3, "queue": "q", "username": "ann"}),
        ("redis+sentinel://a,b:1/main", {"hosts": (("a", 26379), ("b", 1)), "service": "main"}),
        (
            "rediss+sentinel://ann@a/main/4?queue=q",
            {"hosts": (("a", 26379),), "service": "main", "tls": True, "db": 4, "username": "ann", "queue": "q"},
        ),
    ],
)
def test_url_means_and_is_written_again(url: str, expected: Mapping[str, object]) -> None:
    address = read(url)
    assert address == dataclasses.replace(StoreAddress(), **expected)  # type: ignore[arg-type]
    assert read(address.url) == address


@given(
    host=st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True),
    port=st.integers(1, 65535),
    db=st.integers(0, 15),
    user=st.text(min_size=1, max_size=10).filter(lambda text: text.isprintable()),
    queue=st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    tls=st.booleans(),
)
def test_every_address_can_be_written_as_a_url(host: str, port: int, db: int, user: str, queue: str, tls: bool) -> None:
    address = StoreAddress(hosts=((host, port),), db=db, username=user, queue=queue, tls=tls)
    assert parse_url(address.url, origin="--store", may_hold_password=False) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://h", "no store is reached by http://"),
        ("redis://", "the host is missing"),
        ("redis://h:0", "is no host"),
        ("redis://h:70000", "is no host"),
        ("redis://a,b", "several hosts are for Sentinels"),
        ("redis://h/x", "no number of a database"),
        ("redis://h/1/2", "no number of a database"),
        ("redis://h?que=x", "'que'"),
        ("redis://h#x", "after #"),
        ("redis://h?queue=a}b", "no name of a queue"),
        ("unix://run/r.sock", "absolute path"),
        ("redis+sentinel://a,b", "name that the Sentinels give"),
        ("no/such.toml", "erg store up"),
    ],
)
def test_bad_ones_say_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text)
    assert said in str(caught.value)
    assert caught.value.exit_code == 2
    assert "--store" in str(caught.value)


@pytest.mark.parametrize("password", [QUOTED, SECRET, "x", "a@b", ""])
def test_password_in_an_argument_is_refused_and_not_repeated(password: str) -> None:
    with pytest.raises(UsageError, match="ERGATES_STORE_PASSWORD") as caught:
        read(f"redis://ann:{password}@host/1")
    assert not password or password not in str(caught.value)
    assert "redis://ann@host/1" in str(caught.value)


def test_password_in_the_environment_is_taken_and_never_shown() -> None:
    address = read(f"redis://ann:{QUOTED}@host", in_argument=False)
    assert address.password == SECRET
    assert SECRET not in repr(address)
    assert QUOTED not in address.url
    assert SECRET not in str(address)


def test_password_comes_from_url_then_variable_then_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("of the file\nmore\n")
    file.chmod(0o600)
    env = {"ERGATES_STORE_PASSWORD_FILE": str(file)}
    assert read("redis://h", env=env).password == "of the file"
    env["ERGATES_STORE_PASSWORD"] = "of the variable"
    assert read("redis://h", env=env).password == "of the variable"
    assert read("redis://:mine@h", in_argument=False, env=env).password == "mine"


def test_password_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("x")
    file.chmod(0o640)
    with pytest.raises(UsageError, match=r"others can read this password file .rights 0640.\n  hint: chmod 600"):
        read("redis://h", env={"ERGATES_STORE_PASSWORD_FILE": str(file)})


def test_store_file_says_it_all(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nx\n")
    file = tmp_path / "store.toml"
    address = StoreAddress(
        hosts=(("h", 7),),
        tls=True,
        ca=str(tmp_path / "ca.pem"),
        username="erg",
        password=SECRET + '"\\\x7f',
        queue="night",
        origin=str(file),
    )
    write_private(file, store_file_text(address))
    assert file.stat().st_mode & 0o777 == 0o600
    found = read(str(file))
    # The certificate is carried in the file, so that the file alone is enough on another machine.
    assert found == dataclasses.replace(address, ca="-----BEGIN CERTIFICATE-----\nx\n")


def test_files_named_in_a_store_file_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    write_private(tmp_path / "s.toml", 'url = "rediss://h"\nca = "ca.pem"\n')
    assert read_store_file(tmp_path / "s.toml").ca == str(tmp_path / "ca.pem")
    write_private(tmp_path / "s.toml", 'url = "rediss://h"\nca = "other.pem"\n')
    with pytest.raises(UsageError, match=r"other\.pem: no such file"):
        read_store_file(tmp_path / "s.toml")


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o666])
def test_store_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "store.toml"
    file.write_text('url = "redis://h"\npassword = "hush"\n')
    file.chmod(mode)
    with pytest.raises(UsageError, match=f"others can read.*{mode:04o}.*\n  hint: chmod 600") as caught:
        read(str(file))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("url = ", "store.toml: "),
        ('urls = "redis://h"', "has no 'urls'"),
        ("url = 3", "url is not text"),
        ('password = "hush"', "names no url"),
        ('url = "ftp://h"', "no store is reached by ftp://"),
        ('url = "redis://h"\nqueue = "a b"', "no name of a queue"),
        ('url = "redis://h"\npassword = "hush', "store.toml: "),
    ],
)
def test_bad_store_files_say_so_without_the_password(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "store.toml"
    write_private(file, text)
    with pytest.raises(UsageError) as caught:
        read(str(file))
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)
