"""How much the server's log tells."""

from __future__ import annotations

import logging

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
NAMES = {number: name for name, number in LEVELS.items()}
_CHATTY = ("httpx", "httpcore", "asyncio", "uvicorn", "websockets", "opentelemetry")
"""Libraries whose news is of interest only when it is bad."""


def set_level(level: str) -> None:
    """From this level on (debug, info, warn, error), in the whole process."""
    logging.getLogger().setLevel(LEVELS[level])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))
