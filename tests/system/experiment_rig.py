"""Experiments as people run them: a file, `erg experiment`, and everything of it found again by its mark or its namespaces."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from erg_rig import Ended, Erg, eventually

from ergates.drivers.hosts.local_workers import MARK, Place
from ergates.drivers.hosts.namespaces import switch_of

SERVER = """
import socket, sys, threading
def serve(link):
    with link:
        for line in link.makefile("rb"):
            link.sendall(line.upper())
with socket.create_server((sys.argv[1], 7777)) as door:
    while True:
        threading.Thread(target=serve, args=(door.accept()[0],), daemon=True).start()
"""
CLIENT = """
import json, socket, sys, time
address, load, policy, pause = sys.argv[1:]
with socket.create_connection((address, 7777)) as link:
    file = link.makefile("rb")
    for number in range(int(load)):
        link.sendall(b"%d\\n" % number)
        assert file.readline() == b"%d\\n" % number
time.sleep(float(pause))
print(json.dumps({"answered": int(load), "policy": policy}))
"""
TWO_CLIENTS = """
[experiment]
name = "meet"
repetitions = {repetitions}
time_limit = "60s"

[hosts.lab]
kind = "{kind}"
count = 3
{more}

[roles]
server = {{ hosts = "lab", count = 1 }}
client = {{ hosts = "lab", count = 2 }}

[programs.server]
role = "server"
command = "{python} -S {{here}}/server.py {{address}}"
background = true
ready = {{ port = 7777, within = "30s" }}

[programs.client]
role = "client"
order = 1
command = "{python} -S {{here}}/client.py {{server.address}} {{load}} {{policy}} {pause}"

[sweep]
load = [1, 10, 20, 30]
policy = ["a", "b", "c"]

[measure]
answered = {{ program = "client", json = "answered", combine = "sum" }}
"""


class Experiment:
    """One file in `folder`, and what `erg experiment` makes of it."""

    def __init__(self, erg: Erg, name: str, text: str) -> None:
        self.erg = erg
        self.file = erg.folder / f"{name}.toml"
        self.folder = erg.folder / f"{name}.experiment"
        self.file.write_text(textwrap.dedent(text))
        self.place = Place(folder=self.folder, here=erg.folder)

    def __call__(self, verb: str, *words: str, of: Path | None = None) -> Ended:
        return self.erg("experiment", verb, str(of or self.file), *words)

    def start(self, verb: str, *words: str) -> subprocess.Popen[bytes]:
        return self.erg.start("experiment", verb, str(self.file), *words)

    def to_its_end(self, verb: str, timeout_s: float = 500.0) -> Ended:
        """For what takes longer than other tests are patient."""
        process = self.start(verb)
        out, err = process.communicate(timeout=timeout_s)
        return Ended(process.returncode, out, err.decode(errors="replace"))

    def rows(self) -> list[dict[str, str]]:
        """Of the table."""
        with (self.folder / "table.csv").open() as file:
            return list(csv.DictReader(file))

    def status(self) -> dict[str, Any]:
        shown = self("status", "--json")
        assert shown.code in (0, 1), shown
        found: dict[str, Any] = json.loads(shown.out)
        return found

    def finished(self) -> int:
        return len(list(self.folder.glob("runs/*/manifest.json")))

    def marked(self) -> dict[int, str]:
        """Living processes that the experiment started, by its own mark."""
        needle = f"{MARK}={self.place.mark}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if needle in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue  # ended while we looked
        return found

    def kill_everything(self, conductor: subprocess.Popen[bytes]) -> int:
        """SIGKILL to the conductor, its store, its workers, their helpers and programs, in no order; returns how many."""
        victims = {conductor.pid, *self.marked(), *self.erg.processes()}
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # died with another one
        conductor.wait()
        return len(victims)

    def check_nothing_is_left(self) -> None:
        """No process, no namespace, no link."""
        eventually(lambda: not self.marked() and not self.erg.processes(), "everything ended")
        assert self.namespaces() == []
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=False).stdout
        assert switch_of(self.place).name(1).rpartition("-")[0] not in links

    def namespaces(self) -> list[str]:
        hub = switch_of(self.place).name(1).rpartition("-")[0]
        path = Path("/run/netns")
        return sorted(name for name in (os.listdir(path) if path.exists() else []) if name.startswith(hub))

    def check_table(self, points: int, repetitions: int) -> None:
        """Each run once, all of them well."""
        rows = self.rows()
        made = Counter((row["load"], row["policy"], row["repetition"]) for row in rows)
        assert len(rows) == points * repetitions and set(made.values()) == {1}, made
        assert all(row["ok"] == "true" for row in rows), [row["problem"] for row in rows]
        assert all(int(row["answered"]) == 2 * int(row["load"]) for row in rows)


def two_clients(erg: Erg, *, kind: str, repetitions: int, pause_s: float = 0.0, more: str = "") -> Experiment:
    """A server and two clients; 4 x 3 points."""
    (erg.folder / "server.py").write_text(SERVER)
    (erg.folder / "client.py").write_text(CLIENT)
    text = TWO_CLIENTS.format(kind=kind, repetitions=repetitions, python=sys.executable, pause=pause_s, more=more)
    return Experiment(erg, "meet", text)
