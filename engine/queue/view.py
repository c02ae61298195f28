"""Reading the live state of the queues, in the shapes of `engine.api.types_jobs`. Failed jobs are in Postgres."""

from __future__ import annotations

import json
from typing import Any, Final

import redis

from engine import clock
from engine.queue import gate, scripts, totals
from engine.queue.connection import translated
from engine.queue.events import ms_iso
from engine.queue.hints import ANYBODY
from engine.queue.keys import QUEUES, Keys

LABELS: Final = {"transactions": "Transaction sync", "webhooks": "Webhooks", "notifications": "Notifications"}
# Jobs listed at most from the waiting ones of one queue: they are shown in the order in which they will run.
MOST_WAITING: Final = 10_000
ACTOR_LABELS: Final = {
    "sync_item": "Sync transactions",
    "process_webhook": "Process webhook",
    "deliver_notice": "Deliver notification",
}

# What a person reads of a start that did not end, by the reason that the scripts know.
LOST: Final = {
    "ended": (
        "WORKER_ENDED",
        "The worker ended while it ran this job",
        "Its process was killed, ran out of memory or crashed. The job came back at once; "
        "three such starts set it aside.",
    ),
    "silent": (
        "WORKER_SILENT",
        "The worker was not heard of any more",
        "It did not renew its lease: its process or machine ended, hung, or lost Redis. The job came back; "
        "three such starts set it aside.",
    ),
    "back": (
        "HANDED_BACK",
        "The worker stopped in order",
        "It could not finish the job in time and gave it back. This start does not count against the job.",
    ),
    "unheard": (
        "NOT_HEARD",
        "The worker never heard of it",
        "Redis went away while it handed the job out. The job came back, and this start does not count against it.",
    ),
}


class View:
    """What is live. ``max_attempts`` is the setting that jobs are shown with."""

    def __init__(self, client: redis.Redis, keys: Keys, max_attempts: int = 4) -> None:
        self._client = client
        self._keys = keys
        self._max_attempts = max_attempts

    def queues(self) -> list[dict[str, Any]]:
        """One dict a queue: name, label, paused, waiting, delayed, running, retrying, oldest_wait_ms, concurrency
        (None: no limit but threads), per_minute, consumers.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        workers = self.workers()
        return [self._queue(name, workers) for name in QUEUES]

    def _queue(self, name: str, workers: list[dict[str, Any]]) -> dict[str, Any]:
        with translated():
            row = scripts.run(self._client, self._keys, "counts", name)
        waiting, delayed, retrying, running, oldest, paused, concurrency, per_minute = row
        return {
            "name": name,
            "label": LABELS[name],
            "paused": paused == "1",
            "waiting": waiting,
            "delayed": delayed,
            "running": running,
            "retrying": retrying,
            "oldest_wait_ms": float(oldest) if int(oldest) >= 0 else None,
            "concurrency": int(concurrency) if concurrency else None,
            "per_minute": int(per_minute) if per_minute else None,
            "consumers": sum(name in worker["queues"] and worker["state"] == "running" for worker in workers),
        }

    def jobs(self, state: str, queue: str | None = None, after: str | None = None, limit: int = 50) -> dict[str, Any]:
        """A page ``{"jobs": [types_jobs.Job…], "next"}`` of the jobs in one live state (waiting, delayed, running,
        retrying, done). ``after`` is a page's ``next``; as the list is live, a job may be met twice.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        with translated():
            ids = [found for name in ([queue] if queue else QUEUES) for found in self._ids(state, name)]
            start = _index_after(ids, after)
            page = ids[start : start + limit]
            hashes = self._hashes(page)
        still = self._still() if state == "running" and page else {}
        jobs = []
        for offset, (job_id, fields) in enumerate(zip(page, hashes, strict=True)):
            if fields.get("state") == state:
                position = start + offset + 1 if state == "waiting" and queue else None
                jobs.append(self._job(job_id, fields, position, still.get(job_id)))
        more = start + limit < len(ids)
        return {"jobs": jobs, "next": f"{start + limit}:{page[-1]}" if more and page else None}

    def _ids(self, state: str, queue: str) -> list[str]:
        if state == "waiting":
            return list(scripts.run(self._client, self._keys, "waiting", queue, MOST_WAITING))
        if state == "done":
            return [str(found) for found in self._client.lrange(self._keys.done(queue), 0, -1)]
        names = {"delayed": self._keys.delayed, "retrying": self._keys.retrying, "running": self._keys.running}
        if state not in names:
            return []
        return [str(found) for found in self._client.zrange(names[state](queue), 0, MOST_WAITING)]

    def _hashes(self, ids: list[str]) -> list[dict[str, str]]:
        pipe = self._client.pipeline(transaction=False)
        for job_id in ids:
            pipe.hgetall(self._keys.job(job_id))
        return pipe.execute()

    def job(self, job_id: str) -> dict[str, Any] | None:
        """``{"job": types_jobs.Job, "timeline": [types_jobs.Attempt…], "arguments": {…}}`` of a live or lately
        done job.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        with translated():
            (fields,) = self._hashes([job_id])
        if not fields:
            return None
        still = self._still().get(job_id) if fields.get("state") == "running" else None
        return {
            "job": self._job(job_id, fields, None, still),
            "timeline": timeline(fields),
            "arguments": json.loads(fields.get("kwargs") or "{}"),
        }

    def _still(self) -> dict[str, float]:
        """Seconds without a step of each job that its worker calls stuck."""
        return {
            job["job_id"]: job["still_ms"] / 1000 for worker in self.workers() for job in worker["jobs"] if job["stuck"]
        }

    def _job(self, job_id: str, fields: dict[str, str], position: int | None, stuck_s: float | None) -> dict[str, Any]:
        state = fields["state"]
        starts = int(fields.get("starts") or 0)
        error = _last_error(fields, starts)
        queue = fields["queue"]
        return {
            "id": job_id,
            "queue": queue,
            "actor": fields["actor"],
            "state": state,
            "lane": fields["lane"],
            "trigger": fields.get("trigger", ""),
            "user_id": None if fields.get("user") in (ANYBODY, None) else fields["user"],
            "item_id": (fields.get("item") or None) if queue == "transactions" else None,
            "institution": fields.get("institution") or None,
            "label": ACTOR_LABELS.get(fields["actor"], fields["actor"]),
            "correlation_id": fields.get("correlation", ""),
            "queued_at": ms_iso(fields["queued"]),
            "started_at": ms_iso(fields.get("started")),
            "finished_at": ms_iso(fields.get("finished")),
            "due_at": ms_iso(fields.get("due")) if state in ("delayed", "retrying") else None,
            "attempts": starts,
            "max_attempts": self._max_attempts,
            "position": position,
            "worker": fields.get("worker") or None,
            "error_code": error.get("code") if error else None,
            "error_title": error.get("title") if error else None,
            "version": f"{state}.{starts}",
            "stuck_s": stuck_s,
        }

    def gate(self) -> str | None:
        """The code of the trouble for which work waits for the database, None while it does not.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        found = gate.read(self._client, self._keys)
        return found.code if found else None

    def totals(self) -> dict[str, list[tuple[tuple[str, ...], int]]]:
        """Counters over all processes (`engine.queue.totals`).

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        return totals.read(self._client, self._keys)

    def workers(self) -> list[dict[str, Any]]:
        """One dict a worker process that reported lately: id, host, pid, pool, queues, state, threads, busy, memory_mb,
        memory_limit_mb, started_at, heartbeat_age_s, stalled_s (since it looked for jobs although it could have), and
        jobs [{job_id, actor, label, thread, running_ms, still_ms, steps, last_step, stuck}].

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        with translated():
            ids = [str(found) for found in self._client.zrange(self._keys.workers, 0, -1)]
            pipe = self._client.pipeline(transaction=False)
            for worker_id in ids:
                pipe.hgetall(self._keys.worker(worker_id))
            seconds, micros = self._client.time()
            rows = pipe.execute()
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        return [_worker(worker_id, row, now_ms) for worker_id, row in zip(ids, rows, strict=True) if row]


def _worker(worker_id: str, row: dict[str, str], now_ms: int) -> dict[str, Any]:
    age_s = max(0, now_ms - int(row["beat"])) / 1000
    jobs = json.loads(row["jobs"])
    for job in jobs:
        job["running_ms"] += age_s * 1000
        job["still_ms"] = job.get("still_ms", 0) + age_s * 1000
        job["stuck"] = job["still_ms"] > float(row.get("stuck_after_s") or "inf") * 1000
        job["label"] = ACTOR_LABELS.get(job["actor"], job["actor"])
    return {
        "id": worker_id,
        "host": row["host"],
        "pid": int(row["pid"]),
        "pool": row["pool"],
        "queues": row["queues"].split(","),
        "state": row["state"],
        "threads": int(row["threads"]),
        "busy": len(jobs),
        "memory_mb": float(row["memory_mb"]),
        "memory_limit_mb": float(row["memory_limit_mb"]),
        "started_at": row["started_at"],
        "heartbeat_age_s": age_s,
        "stalled_s": float(row.get("stalled_s") or 0),
        "jobs": jobs,
    }


def _index_after(ids: list[str], after: str | None) -> int:
    """Where the page after ``after`` begins: behind its last job if that is still there, else at its old place."""
    if not after:
        return 0
    place, _, job_id = after.partition(":")
    try:
        return ids.index(job_id) + 1
    except ValueError:
        return min(int(place) if place.isdigit() else 0, len(ids))


def _last_error(fields: dict[str, str], starts: int) -> dict[str, Any] | None:
    for number in range(starts, 0, -1):
        if fields.get(f"x{number}"):
            error: dict[str, Any] = json.loads(fields[f"x{number}"])
            return error
    return None


def timeline(fields: dict[str, str]) -> list[dict[str, Any]]:
    """The numbered starts of a job (`types_jobs.Attempt`), from its hash."""
    found = []
    for number in range(1, int(fields.get("starts") or 0) + 1):
        started, ended = fields.get(f"s{number}"), fields.get(f"e{number}")
        error = fields.get(f"x{number}")
        ready = fields.get(f"r{number}")
        found.append(
            {
                "number": number,
                "started_at": ms_iso(started) or clock.iso(clock.now()),
                "duration_ms": float(int(ended) - int(started)) if ended and started else None,
                "outcome": fields.get(f"o{number}", "running"),
                "error": json.loads(error) if error else _lost(fields.get(f"y{number}")),
                "waited_ms": float(int(started) - int(ready)) if started and ready else None,
                "worker": fields.get(f"w{number}"),
            }
        )
    return found


def _lost(why: str | None) -> dict[str, Any] | None:
    if why not in LOST:
        return None
    code, title, sentence = LOST[why]
    return {"kind": "engine", "code": code, "title": title, "sentence": sentence, "detail": {}, "traceback": ""}
