"""Compiles the modules that every message goes through, if ``FLASK_WSVIEWS_COMPILE`` is 1.

The compiler is mypyc. It takes the same Python sources, so there is nothing that has to be written
twice; without it they run as they are. Only what speedups.c has is in Python as well. Everything
else about the package is in setup.cfg.
"""

import os
import sys

from setuptools import Extension, setup

COMPILED = [
    "flask_wsviews/connection.py",
    "flask_wsviews/context.py",
    "flask_wsviews/dispatcher.py",
    "flask_wsviews/engines/asyncio.py",
    "flask_wsviews/engines/base.py",
    "flask_wsviews/engines/blocking.py",
    "flask_wsviews/engines/deadlines.py",
    "flask_wsviews/engines/gevent.py",
    "flask_wsviews/engines/loop.py",
    "flask_wsviews/engines/sockets.py",
    "flask_wsviews/framing.py",
    "flask_wsviews/steps.py",
]

# Older ones can't compile some of what these modules do.
COMPILER = "mypy>=1.15"


def extensions():
    """What is to be compiled."""
    try:
        from mypyc.build import mypycify
    except ImportError:
        # Whoever builds the package asks first what that takes, which is COMPILER.
        if "egg_info" in sys.argv:
            return []
        raise
    speedups = Extension("flask_wsviews.speedups", ["flask_wsviews/speedups.c"])
    return [speedups, *mypycify(COMPILED, group_name="flask_wsviews", debug_level="0")]


if os.environ.get("FLASK_WSVIEWS_COMPILE") == "1":
    setup(ext_modules=extensions(), setup_requires=[COMPILER])
else:
    setup()
