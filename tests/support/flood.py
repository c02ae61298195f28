"""A listener as a process of its own, and a caller that sends on time whether answers come or not."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.engines import ROOT, clean_environment
from tests.support.wait import until

CONNECTIONS = 64


@dataclass
class Answers:
    """What came back. ``accepted`` counts the answers 200, ``accepted_forged`` those of them to forged requests."""

    times_ms: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    accepted: int = 0
    accepted_forged: int = 0


@contextmanager
def api_process(folder: Path, **environment: str) -> Iterator[tuple[int, psutil.Process]]:
    """``syncdeskctl api`` on a profile folder: the public port, and the process."""
    environ = clean_environment(SYNCDESK_PROFILE=str(folder), **environment)
    with open(folder / "api.out", "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "scheduler.command", "api"],
            cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        port = until(lambda: _port(folder / "api.out", process), 60, "a listener")
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _port(output: Path, process: subprocess.Popen[bytes]) -> int | None:
    """The port that it says it listens on."""
    said = output.read_text()
    assert process.poll() is None, said
    found = re.search(r"Ready: webhooks at http://127\.0\.0\.1:(\d+),", said)
    return int(found[1]) if found else None


async def send(port: int, requests: Sequence[tuple[bytes, bool]], a_second: float) -> Answers:
    """Send each request (its bytes, whether it is forged) at its time over connections that are kept.

    An answer's time begins when the request should have been sent; one that finds no free connection waits.
    """
    answers = Answers()
    free: asyncio.Queue[Any] = asyncio.Queue()
    for _ in range(min(CONNECTIONS, len(requests))):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    begun = time.perf_counter()
    tasks = []
    for number, (data, forged) in enumerate(requests):
        due = begun + number / a_second
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(_one(port, free, due, data, forged, answers)))
    await asyncio.gather(*tasks)
    while not free.empty():
        free.get_nowait()[1].close()
    return answers


async def _one(port: int, free: asyncio.Queue[Any], due: float, data: bytes, forged: bool, answers: Answers) -> None:
    reader, writer = await free.get()
    status = 0
    try:
        writer.write(data)
        status, closes = await _answer(reader)
    except (OSError, asyncio.IncompleteReadError):
        closes = True
    if closes:
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    free.put_nowait((reader, writer))
    answers.times_ms.append((time.perf_counter() - due) * 1000)
    answers.statuses[status] = answers.statuses.get(status, 0) + 1
    answers.accepted += status == 200
    answers.accepted_forged += forged and status == 200


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Status, and whether the server closes."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    lines = head.split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(lines[0].split()[1]), b"connection: close" in lines
