"""``syncdeskctl sandbox``: the bank as a process of its own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from engine import child


def register(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser("sandbox", help="a simulated bank that answers like Plaid")
    parser.add_argument("--port", type=_port, default=8400, help="0: a free one (8400)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same households (1)")
    parser.add_argument("--speed", type=_positive, default=1.0, help="1440: a day of purchases in a minute (1)")
    parser.add_argument("--still", action="store_true", help="nothing happens by itself")
    parser.add_argument("--state", type=Path, metavar="FILE", help="keep items and transactions here over restarts")
    parser.add_argument("--webhook-delay", type=float, default=0.0, metavar="S", help="seconds before a webhook (0)")
    parser.add_argument("--webhook-retry", type=_positive, default=30.0, metavar="S", help="before the second try (30)")
    parser.add_argument("--older-webhooks", action="store_true", help="send DEFAULT_UPDATE too, as Plaid does")
    parser.add_argument("--ready-after", type=float, nargs=2, default=(0.3, 1.0), metavar=("S", "S"),
                        help="seconds until the last 30 days, and all days, are there (0.3 1)")  # fmt: skip
    parser.add_argument("--limits", action="store_true", help="Plaid's rate limits of its sandbox")
    parser.add_argument("--client-id", help="take only this client id")
    parser.add_argument("--secret", help="take only this secret")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to end."""
    from engine.sandbox.bank import Options
    from engine.sandbox.deliveries import Pace
    from engine.sandbox.serving import serve

    if not child.adopt():  # as a host's part it ends with the host
        return 0
    options = Options(
        seed=args.seed,
        speed=args.speed,
        client_id=args.client_id,
        secret=args.secret,
        initial_s=args.ready_after[0],
        historical_s=args.ready_after[1],
        item_limit=50 if args.limits else None,
        client_limit=1000 if args.limits else None,
        older_webhooks=args.older_webhooks,
        living=not args.still,
        state=args.state,
    )
    serve(args.host, args.port, options, Pace(delay_s=args.webhook_delay, first_retry_s=args.webhook_retry))
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be a port, 0 to 65535")
    return int(text)


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value
