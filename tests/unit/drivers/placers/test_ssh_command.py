"""ssh's command line and configuration, and what is made of what ssh says."""

from __future__ import annotations

import shlex
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from ergates.drivers.placers.hosts import named_hosts
from ergates.drivers.placers.ssh_command import Ssh, SshOptions, config_text, remote_command
from ergates.drivers.placers.ssh_words import reason_of
from ergates.errors import UsageError

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="not installed: ssh")


@needs_ssh
def test_the_host_is_the_last_word_but_one_and_nothing_before_it_is_the_users(tmp_path: Path) -> None:
    (host,) = named_hosts("alice@big:2222")
    words = Ssh(tmp_path / "own", SshOptions(options=["Compression=yes"])).command(host)
    assert words[-3:] == ["--", "big", remote_command()]
    assert words[words.index("-l") :][:2] == ["-l", "alice"]
    assert words[words.index("-p") :][:2] == ["-p", "2222"]
    assert words[words.index("-o") :][:2] == ["-o", "Compression=yes"]
    config = Path(words[words.index("-F") + 1])
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700


@needs_ssh
def test_ssh_itself_reads_our_configuration_first_and_then_the_users(tmp_path: Path) -> None:
    users = tmp_path / "users config"
    users.write_text("Host big\n  Port 2200\n  StrictHostKeyChecking no\n  BatchMode no\n  ForwardAgent yes\n")
    own = tmp_path / "100% ours"
    words = Ssh(own, SshOptions(config=users)).command(named_hosts("big")[0])
    shown = subprocess.run(
        [*words[: words.index("--")], "-G", "big"], capture_output=True, text=True, check=True
    ).stdout
    settings = dict(line.partition(" ")[::2] for line in shown.splitlines())
    assert settings["port"] == "2200"
    assert settings["stricthostkeychecking"] == "accept-new"
    assert settings["batchmode"] == "yes"
    assert settings["forwardagent"] == "no"
    assert str(own / "known_hosts") in settings["userknownhostsfile"]


def test_only_known_keys_leaves_the_users_files(tmp_path: Path) -> None:
    text = config_text(tmp_path, SshOptions(host_keys="known"))
    assert "StrictHostKeyChecking yes" in text
    assert "UserKnownHostsFile" not in text


@pytest.mark.parametrize("option", ["ProxyJump", "A=b\nHost *", ""])
def test_settings_that_cannot_be(tmp_path: Path, option: str) -> None:
    with pytest.raises(UsageError, match="--ssh-option"):
        Ssh(tmp_path, SshOptions(options=[option]))


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "fish", "csh", "tcsh"])
def test_any_login_shell_hands_over_to_python(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"not installed: {shell}")
    program = b"print('hello', r.readline())"
    told = str(len(program)).encode() + b"\n" + program + b"and more"
    ended = subprocess.run([shell, "-c", remote_command()], input=told, capture_output=True, check=True)
    assert ended.stdout == b"hello b'and more'\n"


def test_a_path_with_anything_in_it_is_one_word(tmp_path: Path) -> None:
    odd = tmp_path / "a $(touch boom) 'b' \"c\""
    odd.mkdir()
    (odd / "python").symlink_to(shutil.which("python3") or "")
    program = b"print('hello')"
    told = str(len(program)).encode() + b"\n" + program
    command = ["sh", "-c", remote_command(str(odd / "python"))]
    ended = subprocess.run(command, input=told, capture_output=True, check=True, cwd=tmp_path)
    assert ended.stdout == b"hello\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [odd.name]


def test_no_python_is_told_apart(tmp_path: Path) -> None:
    ended = subprocess.run(
        ["sh", "-c", remote_command(str(tmp_path / "none"))], capture_output=True, text=True, check=False
    )
    reason = reason_of(ended.returncode, ended.stderr)
    assert "no Python >= 3.11 found" in reason.what
    assert shlex.quote(str(tmp_path / "none")) in reason.what
    assert "--python" in reason.hint


CHANGED = """@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
Offending ED25519 key in /home/u/known_hosts:7
Host key verification failed."""


@pytest.mark.parametrize(
    ("code", "stderr", "what", "hint", "may_pass"),
    [
        (255, "ssh: connect to host a port 22: Connection refused\r\n", "Connection refused", "--wait", True),
        (255, "ssh: connect to host a port 22: No route to host", "No route", "--wait", True),
        (255, "ssh: Could not resolve hostname a: Name or service not known", "resolve", "--wait", True),
        (255, "kex_exchange_identification: Connection closed by remote host", "kex", "--wait", True),
        (255, "a: Permission denied (publickey).", "Permission denied", "authorized_keys", False),
        (255, CHANGED, "another than before", "/home/u/known_hosts:7", False),
        (255, "No ED25519 host key is known for a and you have requested strict checking.\nHost key verification failed.",
         "not known", "accept-new", False),
        (255, "", "without a word", "by hand", False),
        (None, "", "in time", "by hand", True),
        (127, "bash: /bin/sh: not found", "could not be started", "python3 -V", False),
        (1, "This account is currently not available.", "not available", "by hand", False),
    ],
)  # fmt: skip
def test_what_ssh_says_in_words(code: int | None, stderr: str, what: str, hint: str, may_pass: bool) -> None:
    reason = reason_of(code, stderr)
    assert what in reason.what
    assert hint in reason.hint
    assert reason.may_pass is may_pass
