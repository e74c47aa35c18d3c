"""What a process has beside the database file: by it others know it, wake it, and take turns.

What lives here: the order in which these files are opened, and what becomes of them at the end.
What does not: what is in them (`processes`). Owned by the session.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from embedded_tasks.processes import FileGuard, LastWords, Mailbox, ProcessFile, WritersLock

__all__ = ["Presence"]


class Presence:
    """Opens the files of one run; they are closed with the stack that they are pushed on.

    Args:
        folder: The folder of the processes.
        path: The database file.
        process_id: The id of this run.
        stack: Closes them.
        outlived: Whether functions still run, so that the process must look alive until its end.
    """

    def __init__(
        self,
        folder: Path,
        path: str,
        process_id: str,
        *,
        stack: AsyncExitStack,
        outlived: Callable[[], bool],
    ) -> None:
        self._outlived = outlived
        self.leaves_nothing: bool = True
        """Whether nothing is left for whoever finds this process gone."""
        # The mailbox first: whoever sees the process file may write to it.
        self.mailbox: Mailbox = Mailbox.create(folder, process_id)
        stack.callback(self._close_mailbox)
        self.process_file: ProcessFile = ProcessFile.create(folder, process_id)
        stack.callback(self._close_process_file)
        self.last_words: LastWords = LastWords(folder, process_id)
        stack.callback(self._close_last_words)
        self.last_words.begin()
        self.lock: WritersLock = WritersLock(folder)
        stack.callback(self.lock.close)
        self.guard: FileGuard = FileGuard(path)
        stack.callback(self.guard.close)

    def _close_process_file(self) -> None:
        # What could not be settled or released is for whoever finds this lock free: at once, or,
        # with threads that cannot be stopped, when the process has ended.
        if self._outlived():
            self.process_file.keep_until_exit()
        else:
            self.process_file.close(remove=self.leaves_nothing)

    def _close_last_words(self) -> None:
        if not self._outlived():
            self.last_words.close()

    def _close_mailbox(self) -> None:
        if self._outlived():
            self.mailbox.keep_until_exit()
        else:
            self.mailbox.close()
