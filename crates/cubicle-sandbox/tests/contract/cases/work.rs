//! What people do in notebooks.

use crate::outside::World;

pub(super) fn real_work(world: &World) {
    let mut spec = world.spec();
    spec.limits.memory = cubicle_core::quantity::Bytes(1 << 30);
    spec.limits.pids = 256;
    spec.environment = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/home/user"), ("LANG", "C.UTF-8")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec();
    let sandbox = world.open(spec);
    let mut wrong = Vec::new();
    for (what, program) in PROGRAMS {
        let ran = sandbox.run(&["python3", "-c", program], "");
        if ran.code != 0 {
            wrong.push(format!("{what}: {ran:?}"));
        }
    }
    let bash = sandbox.run(
        &["bash", "-c", "set -e; (sleep 0.1; echo inner) | cat; mkfifo p; echo x > p & cat p; ls -la > /dev/null"],
        "",
    );
    if bash.out != "inner\nx\n" {
        wrong.push(format!("bash: {bash:?}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    sandbox.stop();
}

/// What people do, and a program that does it.
const PROGRAMS: &[(&str, &str)] = &[
    ("numbers", "import numpy as n; assert n.linalg.inv(n.eye(200)).sum() == 200"),
    ("tables", "import pandas as p; p.DataFrame({'a': [1, 2]}).to_csv('t.csv'); assert len(p.read_csv('t.csv')) == 2"),
    (
        "plots",
        "import matplotlib; matplotlib.use('Agg'); import matplotlib.pyplot as p; p.plot([1, 2]); p.savefig('/tmp/p.png')",
    ),
    ("threads", "import concurrent.futures as c; assert sum(c.ThreadPoolExecutor(8).map(abs, range(9))) == 36"),
    ("processes", "import multiprocessing as m; assert sum(m.get_context('fork').Pool(4).map(abs, range(9))) == 36"),
    (
        "shared memory",
        "from multiprocessing import shared_memory as s; m = s.SharedMemory(create=True, size=4096); m.close(); m.unlink()",
    ),
    ("programs", "import subprocess as s; assert s.run(['ls', '/'], capture_output=True, check=True).stdout"),
    (
        "a terminal",
        "import os, pty; p, f = pty.fork()\nif not p: os.execlp('bash', 'bash', '-ic', 'tty && echo ready')\n\
         t = b''\ntry:\n  while b'ready' not in t: t += os.read(f, 999)\nexcept OSError: pass\nassert b'/dev/pts' in t and b'ready' in t, t",
    ),
    (
        "servers",
        "import asyncio\nasync def m():\n  s = await asyncio.start_server(lambda r, w: w.close(), '127.0.0.1', 0)\n\
         \x20 r, w = await asyncio.open_connection(*s.sockets[0].getsockname())\n  assert await r.read() == b''\nasyncio.run(m())",
    ),
    (
        "names and interfaces",
        "import socket as s; s.getaddrinfo('localhost', 80); assert s.if_nameindex() == [(1, 'lo')]",
    ),
    (
        "databases",
        "import sqlite3; c = sqlite3.connect('d.db'); c.execute('pragma journal_mode=wal'); c.execute('create table t(a)')",
    ),
    (
        "file watching",
        "import select, os; e = select.epoll(); r, w = os.pipe(); e.register(r); os.write(w, b'x'); assert e.poll(1)",
    ),
    ("anonymous files and random numbers", "import os; os.memfd_create('x'); os.getrandom(9); os.sched_getaffinity(0)"),
    (
        "a kernel",
        "from jupyter_client.manager import start_new_kernel as s\nm, c = s()\nc.execute('print(6*7)')\n\
         while True:\n  g = c.get_iopub_msg(timeout=20)\n  if g['msg_type'] == 'stream': break\n\
         m.shutdown_kernel(now=True)\nassert g['content']['text'] == '42\\n'",
    ),
    (
        "packages",
        "import venv, subprocess as s; s.run(['python3', '-m', 'pip', '--version'], check=True); import ssl; ssl.create_default_context()",
    ),
];
