"""What every IPython of a workspace begins with, kernels too, also one in an environment of the user's. What a user
configures in ~/.ipython is read later and wins."""

import contextlib
import fcntl
import os

with contextlib.suppress(ImportError):
    import sqlite3

    class HistoryConnection(sqlite3.Connection):
        """To the history, which is written without waiting for the disk: a home's is slow, and every start would wait
        for a dozen of writes. A crash of the whole machine may damage it: it is put aside then, by IPython or here."""

        def __init__(self, database, *arguments, **named):
            super().__init__(database, *arguments, **named)
            self.database = database
            # Another kernel may hold it for long.
            with contextlib.suppress(sqlite3.Error):
                super().execute("PRAGMA synchronous=OFF")

        def execute(self, *arguments):
            try:
                return super().execute(*arguments)
            except sqlite3.DatabaseError as error:
                # Of this very class are those of a damaged file, and at a start IPython ends with one; without a
                # history it goes on.
                if type(error) is not sqlite3.DatabaseError:
                    raise
                with contextlib.suppress(OSError):
                    os.replace(self.database, f"{self.database}-damaged")
                raise sqlite3.OperationalError(str(error)) from error

    c.HistoryManager.connection_options = {"check_same_thread": False, "factory": HistoryConnection}  # noqa: F821

# Room for descriptors as long as there is one thread: the table begins with 64, and to make it larger later a process of
# several threads waits until every processor has seen it (Linux, expand_fdtable in fs/file.c), in the middle of the first cell.
with contextlib.suppress(OSError), open("/dev/null", "rb") as nothing:
    os.close(fcntl.fcntl(nothing, fcntl.F_DUPFD_CLOEXEC, 255))
