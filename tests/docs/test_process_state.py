"""A block of the documentation changes nothing for the tests that run after it.

What lives here: blocks that change what a whole process shares. What does not: the real blocks. Run
by pytest.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from tests.docs.pages import Block
from tests.docs.running import run_session

_KNOWN = logging.getLogger("shop.known")

LOOKS: list[tuple[str, Callable[[], Any]]] = [
    (
        "import logging; logging.getLogger('shop.known').addHandler(logging.NullHandler())",
        lambda: list(_KNOWN.handlers),
    ),
    (
        "import logging; logging.getLogger('shop.new').addHandler(logging.NullHandler())",
        lambda: list(logging.getLogger("shop.new").handlers),
    ),
    (
        "import logging; logging.getLogger('shop.known').setLevel('DEBUG')",
        lambda: (_KNOWN.level, _KNOWN.isEnabledFor(logging.DEBUG)),
    ),
    (
        "import logging; logging.getLogger('shop.known').propagate = False",
        lambda: _KNOWN.propagate,
    ),
    (
        "import logging.config; logging.config.dictConfig({'version': 1})",
        lambda: (_KNOWN.disabled, list(logging.root.handlers)),
    ),
    (
        "import logging; logging.basicConfig(force=True, level='DEBUG')",
        lambda: (logging.root.level, list(logging.root.handlers)),
    ),
    ("import logging; logging.disable()", lambda: logging.root.manager.disable),
    (
        "import structlog; structlog.configure(processors=[])",
        lambda: (structlog.is_configured(), structlog.get_config()["processors"]),
    ),
    (
        "import structlog; structlog.contextvars.bind_contextvars(shop='x')",
        structlog.contextvars.get_contextvars,
    ),
    ("import os; os.environ['SHOP'] = 'x'; del os.environ['PATH']", lambda: dict(os.environ)),
    ("import os, time; os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()", lambda: time.tzname),
    ("import os; os.chdir('/')", Path.cwd),
    ("import warnings; warnings.simplefilter('ignore')", lambda: list(warnings.filters)),
    ("import sys; sys.path.append('/shop')", lambda: list(sys.path)),
    ("import sys; sys.modules['json'] = sys", lambda: sys.modules["json"]),
    (
        "import signal; signal.signal(signal.SIGUSR2, signal.SIG_IGN)",
        lambda: signal.getsignal(signal.SIGUSR2),
    ),
    ("import sys; sys.excepthook = print", lambda: sys.excepthook),
    ("import threading; threading.excepthook = print", lambda: threading.excepthook),
    ("import random; random.seed(7)", random.getstate),
    ("import socket; socket.setdefaulttimeout(7)", socket.getdefaulttimeout),
]


@pytest.mark.parametrize(("text", "look"), LOOKS, ids=[text for text, _ in LOOKS])
@pytest.mark.parametrize("fails", [False, True], ids=["ends", "raises"])
def test_a_block_leaves_the_process_as_it_was(
    text: str,
    look: Callable[[], Any],
    fails: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    probe = SimpleNamespace(look=lambda: seen.append(look()))
    monkeypatch.setitem(sys.modules, "probe", cast(ModuleType, probe))
    end = "raise RuntimeError" if fails else ""
    block = Block(1, "python", f"{text}\nimport probe; probe.look()\n{end}\n")
    before = look()
    with pytest.raises(RuntimeError) if fails else nullcontext():
        run_session(tmp_path / "page.md", [block], tmp_path)
    assert look() == before
    # What the block did was done.
    assert seen != [before]
