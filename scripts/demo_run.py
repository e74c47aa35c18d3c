"""The demo's entry: the sample app for a browser, or the story that checks itself.

What lives here: the command line, and serving. What does not: the story (`demo_check.py`). Called
by `scripts/demo`.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from scripts.demo_check import check
from scripts.mail_server import mail_server
from scripts.sample_process import SampleApp, free_port, is_taken

__all__ = ["main"]

_DATA = Path("sample_app", "data").absolute()


def main() -> int:
    """Do what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description="Run the sample app in a browser, or its story by itself."
    )
    parser.add_argument("--port", type=int, default=8000, help="where the app listens (8000)")
    parser.add_argument(
        "--check", action="store_true", help="work, SIGKILL, start again; exit 1 if any is lost"
    )
    options = parser.parse_args()
    # So that `finally` is reached, and nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return check() if options.check else _serve(options.port)
    except KeyboardInterrupt:
        return 130


def _serve(port: int) -> int:
    """Serve until the app ends by itself; after a SIGKILL it is started again."""
    if is_taken(port):
        print(f"Port {port} is in use. Choose another one: ./scripts/demo --port {port + 1}")
        return 1
    server = mail_server(_DATA / "mail", free_port())
    server.start()
    app = SampleApp(_DATA, port, server.port)
    try:
        while True:
            app.start()
            print(f"\n  Open http://127.0.0.1:{port}/   (process {app.pid}; Ctrl+C ends it)\n")
            code = app.wait()
            if code != -signal.SIGKILL:
                return code
            print("\n  The app was killed. It starts again, and finishes what it had accepted.")
    finally:
        app.stop()
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
