"""`make demo`, at a quicker pace."""

from __future__ import annotations

import subprocess
import sys

from tests.examples.loading import EXAMPLES


def test_the_texts_are_equal_after_a_cut_and_a_kill() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py", "--short"], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is cut off at" in done.stdout
    assert "was killed with signal 9" in done.stdout
    assert "hold the same" in done.stdout
