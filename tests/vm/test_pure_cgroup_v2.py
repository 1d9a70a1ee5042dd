"""The launchers, the control groups and the memory limits where the kernel has cgroup v2 and nothing else."""

from __future__ import annotations

import guest
import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

SUITES = "tests/contract/test_process_launcher.py tests/system/launchers"


def script(command: str) -> str:
    return f"""
cd {guest.ROOT} || exit 99
export HOME=/root PATH={guest.ROOT}/.venv/bin:$PATH ERGATES_REQUIRE=cgroups PYTHONDONTWRITEBYTECODE=1
{command}
"""


def test_the_memory_controller_is_found() -> None:
    answer = guest.run(script("erg doctor; erg doctor --json"))
    assert "v2" in answer.output
    assert "without memory" not in answer.output, answer.output


def test_the_launchers_keep_their_contract() -> None:
    options = "-q -p no:cacheprovider -o timeout=900 -m 'not soak'"
    answer = guest.run(script(f"pytest {options} {SUITES}"), memory_mib=3072)
    assert answer.exit_code == 0, answer.output[-6000:]


def test_a_task_is_confined_and_its_death_is_named() -> None:
    """The hard limit of `--memory` lies on all tasks together; the kernel's kill is told in words."""
    eat = "python3 -c 'import mmap; m = mmap.mmap(-1, 10**9); m.write(bytes(10**9))'"
    answer = guest.run(
        script(
            f'mkdir /tmp/w && cd /tmp/w && echo "{eat}" > tasks && erg run --memory 200M --retries 0 tasks; erg explain 1'
        )
    )
    assert "memory" in answer.output or "needs" in answer.output, answer.output
