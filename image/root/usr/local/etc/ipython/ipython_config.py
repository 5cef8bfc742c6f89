"""What every IPython of a workspace begins with, kernels too. What a user configures in ~/.ipython is read later and wins."""

import os
import sqlite3


class HistoryConnection(sqlite3.Connection):
    """To the history, which is written without waiting for the disk: a home's is slow, and every start would wait for a
    dozen of writes. What a crash of the whole machine damages IPython finds and puts aside."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.execute("PRAGMA synchronous=OFF")


c.HistoryManager.connection_options = {"check_same_thread": False, "factory": HistoryConnection}  # noqa: F821

# Room for descriptors as long as there is one thread: the table begins with 64, and to make it larger later a process of
# several threads waits until every processor has seen it (Linux, expand_fdtable in fs/file.c), in the middle of the first cell.
os.close(os.dup2(0, 255))
