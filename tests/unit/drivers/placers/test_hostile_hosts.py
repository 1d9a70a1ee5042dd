"""A host that answers nonsense fails alone: those beside it come up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ergates.drivers.placers.far_side import MARK
from ergates.drivers.placers.far_tags import tags_of
from ergates.drivers.placers.hosts import Host
from ergates.drivers.placers.many_hosts import HostRun, ManyHosts


class Answering:
    """Stands where ssh stands: each host is a shell line that plays the far side."""

    def __init__(self, lines: dict[str, str]) -> None:
        self._lines = lines

    def command(self, host: Host) -> list[str]:
        return ["/bin/sh", "-c", self._lines[host.name]]


async def well(run: HostRun) -> None:
    async with run.reached() as talk:
        if run.host.name == "bad":
            tags_of(talk.facts)
            answer = await talk.ask("look", cluster="c", key="k")
            answer["workers"].keys()
        run.now("up")


def saying(text: str) -> str:
    return f"printf '%s\\n' '{text}'; cat > /dev/null"


GOOD = saying(f'{MARK}{{"ok": true}}')
FACTS = (
    '{"ok": true, "implementation": "cpython", "python": "3.11.2", "missing": [], "free_threaded": false,'
    ' "machine": "x86_64", "bits": 64, "libc": "glibc", "libc_version": "2.36"}'
)


@pytest.mark.parametrize(
    "line",
    [
        saying(f"{MARK}no JSON"),
        saying(f"{MARK}[1, 2]"),
        saying(f'{MARK}{{"ok": true}}'),
        saying(f"{MARK}{FACTS.replace('3.11.2', 'three')}"),
        f"printf '%s\\n' '{MARK}{FACTS}' '{MARK}{{\"workers\": 1}}'; cat > /dev/null",
        f"printf '%s\\n' '{MARK}{FACTS}' '{MARK}{{\"ok\": true, \"workers\": 1}}'; cat > /dev/null",
        "head -c 5000000 /dev/zero; cat > /dev/null",
    ],
    ids=["no JSON", "a list", "no facts", "odd version", "no ok", "wrong type", "a line without end"],
)
def test_nonsense_is_the_trouble_of_one_host(line: str) -> None:
    many: Any = ManyHosts(Answering({"bad": line, "good": GOOD}))  # type: ignore[arg-type]
    work: Callable[[HostRun], Any] = well
    bad, good = asyncio.run(many.each([Host(name=name, address=name) for name in ("bad", "good")], work))
    assert (good.state, good.trouble) == ("up", "")
    assert bad.state == "failed"
    assert "makes no sense" in bad.trouble and "\n" not in bad.trouble
