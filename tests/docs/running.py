"""Python blocks, run as a user would run them: as modules in files, in a folder of their own.

What lives here: one session, which is one or more blocks that share what they define. What does
not: finding blocks (`pages.py`). Used by the tests of this folder.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import linecache
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import CodeType, ModuleType

from embedded_tasks import TaskRunner
from tests.docs.pages import Block
from tests.support.process_state import putting_back

__all__ = ["Session", "run_session", "statements_of"]


def run_session(page: Path, session: list[Block], folder: Path) -> None:
    """Run blocks that share a module; what they set up for all of the process is put back."""
    with putting_back():
        # The loop runs in a context of its own, so context variables are not changed here.
        asyncio.run(Session(page, folder).run(session))


def statements_of(block: Block, name: str) -> Iterator[CodeType]:
    """Compile a block statement by statement; `await` may stand at its top, as in a shell."""
    # The line numbers are those of the page.
    tree = ast.parse("\n" * block.line + block.text, name)
    for statement in tree.body:
        module = ast.Module([statement], [])
        yield compile(module, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


class Session:
    """Runs blocks that share a module; a block with a title is a module of that name.

    Args:
        page: Where the blocks are from, for tracebacks.
        folder: An empty folder, which is on `sys.path` meanwhile.
    """

    def __init__(self, page: Path, folder: Path) -> None:
        self._page = page
        self._folder = folder
        self._modules: dict[str, ModuleType] = {}
        self._present: ModuleType | None = None
        self._stack = AsyncExitStack()

    async def run(self, blocks: list[Block]) -> None:
        """Run blocks, one after the other; a runner is opened when one awaits."""
        sys.path.insert(0, str(self._folder))
        try:
            async with self._stack:
                for block in blocks:
                    await self._run(block)
        finally:
            sys.path.remove(str(self._folder))
            self._forget()

    async def _run(self, block: Block) -> None:
        module = self._module_of(block)
        for code in statements_of(block, str(self._page)):
            if code.co_flags & inspect.CO_COROUTINE:
                await self._open_runners()
                await eval(code, module.__dict__)
            else:
                exec(code, module.__dict__)

    def _module_of(self, block: Block) -> ModuleType:
        if block.title is None and self._present is not None:
            return self._present
        name = f"shown_{block.line}" if block.title is None else Path(block.title).stem
        # The file is there so that a name leads back to it; its text is what is run below.
        path = self._folder / (block.title or f"{name}.py")
        path.write_text(block.text)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = self._modules[name] = self._present = module
        return module

    async def _open_runners(self) -> None:
        assert self._present is not None
        for value in list(vars(self._present).values()):
            if isinstance(value, TaskRunner) and not value.is_running:
                for name in self._modules:
                    value.references.add_package(name)
                await self._stack.enter_async_context(value.open(run_jobs=True))

    def _forget(self) -> None:
        for name in self._modules:
            sys.modules.pop(name, None)
        linecache.checkcache()
