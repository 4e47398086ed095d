"""Compiles the hot-path modules with mypyc, if ``FLASK_WSVIEWS_COMPILE`` is 1.

mypyc compiles the same Python sources that run uncompiled. Only the modules of SPEEDUPS are written
twice, in C and in Python. Everything else about the package is in setup.cfg.
"""

import os
import sys

from setuptools import Extension, setup

COMPILED = [
    "flask_wsviews/common/steps.py",
    "flask_wsviews/conversation/context.py",
    "flask_wsviews/conversation/conversation.py",
    "flask_wsviews/conversation/hooks.py",
    "flask_wsviews/engines/asyncio.py",
    "flask_wsviews/engines/asyncio_driver.py",
    "flask_wsviews/engines/asyncio_loop.py",
    "flask_wsviews/engines/asyncio_turn.py",
    "flask_wsviews/engines/base.py",
    "flask_wsviews/engines/blocking.py",
    "flask_wsviews/engines/blocking_driver.py",
    "flask_wsviews/engines/blocking_read.py",
    "flask_wsviews/engines/deadlines.py",
    "flask_wsviews/engines/driver.py",
    "flask_wsviews/engines/gevent.py",
    "flask_wsviews/engines/gevent_driver.py",
    "flask_wsviews/engines/keeper.py",
    "flask_wsviews/engines/loop.py",
    "flask_wsviews/engines/parking.py",
    "flask_wsviews/engines/sockets.py",
    "flask_wsviews/protocol/assembler.py",
    "flask_wsviews/protocol/connection.py",
    "flask_wsviews/protocol/frames.py",
    "flask_wsviews/protocol/plain_frames.py",
    "flask_wsviews/protocol/prepared.py",
    "flask_wsviews/protocol/queues.py",
    "flask_wsviews/protocol/rates.py",
    "flask_wsviews/protocol/state.py",
    "flask_wsviews/protocol/time_limits.py",
    "flask_wsviews/protocol/violations.py",
]

# Written in C. Python code beside each of them does the same where it isn't compiled.
SPEEDUPS = ["flask_wsviews/engines/_sockets.c", "flask_wsviews/protocol/_frames.c"]

# The build requirements: mypyc, which is part of mypy, and the packages whose types the modules
# import. These versions are tested on CPython 3.10 to 3.13.
COMPILER = [
    "mypy==2.4.1",
    "flask==3.1.3",
    "marshmallow==4.3.1",
    "types-gevent==26.9.0.20261006",
    "websockets==16.1.1",
]

# mypyc compiles nothing if mypy reports an error. "make lint" checks the modules strictly. Here, a
# missing optional dependency must not stop the build.
MYPY_OPTIONS = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]

# The commands that need compiled modules. Others only read the metadata.
BUILDS = {"bdist_wheel", "build", "build_ext", "develop", "editable_wheel", "install"}


def extensions() -> list[Extension]:
    """Return the modules to compile. Generating their C sources takes some seconds."""
    from mypyc.build import mypycify

    in_c = [Extension(path.removesuffix(".c").replace("/", "."), [path]) for path in SPEEDUPS]
    paths = [*MYPY_OPTIONS, *COMPILED]
    return [*in_c, *mypycify(paths, group_name="flask_wsviews", debug_level="0")]


if os.environ.get("FLASK_WSVIEWS_COMPILE") == "1":
    is_building = not BUILDS.isdisjoint(sys.argv)
    setup(ext_modules=extensions() if is_building else [], setup_requires=COMPILER)
else:
    setup()
