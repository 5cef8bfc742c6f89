"""A kernel that has loaded what every kernel loads, and waits for its work.

It is started by `ahead.py`, is told once on its standard input where it works and with which variables, and goes on as
`python -m ipykernel_launcher` does. It is an ordinary interpreter, and no copy of another: what is random in it is its
own. Nothing that it loads looks at the home, which may not be there yet.
"""

import importlib.util
import json
import os
import sys


def main() -> None:
    # The folder of this script: a kernel has none.
    del sys.path[0]
    loaded = int(sys.argv[1])
    import faulthandler
    import sqlite3

    import IPython.core.completerlib
    import IPython.core.debugger
    import IPython.core.oinspect
    import IPython.extensions.storemagic
    import ipykernel.debugger
    import ipykernel.ipkernel
    import ipykernel.zmqshell
    import psutil
    import tornado.platform.asyncio  # noqa: F401
    from ipykernel import kernelapp

    # What has run once runs faster; of this one nothing is kept.
    kernelapp.IPKernelApp().parse_command_line(["-f", "nowhere"])

    os.write(loaded, b"\n")
    os.close(loaded)
    told = sys.stdin.buffer.readline()
    if not told:
        # The server has ended, or has no use for it.
        os._exit(0)
    work = json.loads(told)
    os.environ.clear()
    os.environ.update(work["environment"])
    os.chdir(work["directory"])
    sys.argv = [importlib.util.find_spec("ipykernel_launcher").origin, *work["arguments"]]
    kernelapp.launch_new_instance()


if __name__ == "__main__":
    main()
