"""One connection to one host: send the far side's program, then ask and be answered, line by line (see far_side.py).

Everything goes over standard input, so nothing that a user wrote is ever part of a remote command line, and no secret is
in an argument. The ssh runs in a session of its own: a Ctrl-C in the terminal reaches us alone, and we end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from ergates.drivers.placers import far_side
from ergates.drivers.placers.ssh_words import HostError, Reason, reason_of

GREETING_TIMEOUT_S = 40.0
"""From starting ssh to the far side's greeting, beyond ssh's own time for connecting: slow logins, a cold disk."""
_STDERR_MAX = 16_384
_NOISE_LINES = 20
_LINE_MAX = 4 * 1024 * 1024


class Conversation:
    """Opened by `open_conversation`; `facts` is what the far side greeted with."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout and process.stderr
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self._stderr = bytearray()
        self._noise: list[str] = []
        self._errors = asyncio.create_task(self._keep_errors(process.stderr))
        self.facts: dict[str, Any] = {}
        self.sent_bytes = 0
        """Payloads only."""

    async def greet(self, timeout_s: float) -> None:
        """Send the program and wait until it answers. Raises HostError."""
        program = Path(far_side.__file__).read_bytes()
        try:
            async with asyncio.timeout(timeout_s):
                self.facts = await self._exchanged(f"{len(program)}\n".encode() + program)
        except TimeoutError:
            raise HostError(reason_of(None, self._said(), "\n".join(self._noise))) from None

    async def ask(
        self, what: str, payload: bytes = b"", *, timeout_s: float | None = None, **details: Any
    ) -> dict[str, Any]:
        """One request and its answer.

        Args:
            what: one of the far side's ANSWERS.
            payload: bytes that follow the request.
            timeout_s: None waits as long as the connection lives.
            details: the request's fields.

        Raises:
            HostError: the far side could not, or the connection ended.
        """
        request = json.dumps({"do": what, "bytes": len(payload), **details})
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._exchanged(request.encode() + b"\n" + payload)
        except TimeoutError:
            raise HostError(Reason(f"no answer within {timeout_s:.0f} s (asked to {what})")) from None
        self.sent_bytes += len(payload)
        if not answer.pop("ok"):
            raise HostError(Reason(str(answer["trouble"])))
        return answer

    async def close(self) -> None:
        """End the connection; what was started on the far side to stay, stays."""
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            async with asyncio.timeout(2.0):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            await self._end()

    async def _end(self) -> None:
        """Whatever happens: no ssh of ours, nor that of a jump host, is left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.shield(self._process.wait())
        self._errors.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._errors

    async def _exchanged(self, data: bytes) -> dict[str, Any]:
        try:
            self._stdin.write(data)
            await self._stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # why is on standard error, and reading finds the end
        while line := await self._stdout.readline():
            text = line.decode(errors="replace").rstrip("\n")
            if text.startswith(far_side.MARK):
                found: dict[str, Any] = json.loads(text.removeprefix(far_side.MARK))
                return found
            if text.strip():
                self._noise = [*self._noise, text][-_NOISE_LINES:]
        code = await self._process.wait()
        await asyncio.wait([self._errors], timeout=1.0)
        if self.facts:
            last = self._said().strip().splitlines()
            raise HostError(Reason(f"the connection ended: {last[-1] if last else f'exit code {code}'}", may_pass=True))
        raise HostError(reason_of(code, self._said(), "\n".join(self._noise)))

    def _said(self) -> str:
        return self._stderr.decode(errors="replace")

    async def _keep_errors(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(4096):
            self._stderr += data
            del self._stderr[:-_STDERR_MAX]


@contextlib.asynccontextmanager
async def open_conversation(
    command: Sequence[str], *, timeout_s: float = GREETING_TIMEOUT_S
) -> AsyncIterator[Conversation]:
    """Run `command` (an ssh, or anything that gives the far side a standard input) and talk to what it starts.

    Raises:
        HostError: no greeting came; the error says why, and whether waiting could help.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LINE_MAX,
        start_new_session=True,
    )
    conversation = Conversation(process)
    try:
        await conversation.greet(timeout_s)
        yield conversation
    finally:
        await conversation.close()
