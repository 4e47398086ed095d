"""The Autobahn test suite against every engine: ``make autobahn``.

``python tests/conformance/autobahn.py [-c CASES] [-x CASES] [--no-router] [--markdown FILE] [MODE
…]`` starts uWSGI for each mode, lets the suite's fuzzing client at it, and prints a table. It ends
with 1 unless every case is OK, in what was said and in how it was closed; cases that the suite
calls informational may differ. A crash of a worker is a failure, however the suite takes it.

The suite needs a CPython 2.7, on PATH, by pyenv, or named by AUTOBAHN_PYTHON, and is installed
below the virtual environment once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from support import servers, uwsgi_asyncio  # noqa: E402
from support.kept import alone  # noqa: E402

REQUIREMENTS = HERE / "autobahn-requirements.txt"
SUITE = Path(sys.prefix) / "autobahn"
VIRTUALENV = "virtualenv==20.15.1"

CATEGORIES = (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 13)
QUICK = ["1.1.*", "1.2.*", "2.*", "3.*", "4.*", "5.*", "6.2.*", "6.4.*", "7.*", "10.*"]
GOOD = {"OK", "INFORMATIONAL"}

# A category that says nothing for so long is taken for hanging, in seconds.
STALLED = 300.0

GEVENT = {"ENGINE": "GeventWebSocket"}
BLOCKING = {"ENGINE": "WebSocket"}
ASYNCIO = {"ENGINE": "AsyncioWebSocket"}
COROUTINES = {**ASYNCIO, "HOOKS": "async"}


@dataclass
class Mode:
    """How uWSGI is started."""

    options: tuple[str, ...]
    env: dict[str, str]
    router: bool = False
    own_loop: bool = False


MODES = {
    "blocking": Mode(("--threads", "8"), BLOCKING),
    "gevent": Mode(("--gevent", "50"), GEVENT),
    "asyncio": Mode(("--threads", "8"), COROUTINES),
    "asyncio-plain-hooks": Mode(("--threads", "8"), ASYNCIO),
    "uwsgi-asyncio-loop": Mode((), COROUTINES, own_loop=True),
    "blocking-router": Mode(("--threads", "8"), BLOCKING, router=True),
    "gevent-router": Mode(("--gevent", "50"), GEVENT, router=True),
    "asyncio-router": Mode(("--threads", "8"), COROUTINES, router=True),
    "uwsgi-asyncio-loop-router": Mode((), COROUTINES, router=True, own_loop=True),
}


@dataclass
class Verdict:
    """What came of one mode."""

    wanted: int = 0
    said: Counter[str] = field(default_factory=Counter)
    closed: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.bad and not self.troubles and self.said.total() == self.wanted > 0


def find_python() -> str | None:
    """A CPython 2.7 that works: a version manager's shim may be on PATH with nothing behind it."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [os.environ.get("AUTOBAHN_PYTHON"), shutil.which("python2.7")]
    candidates += map(str, sorted(root.glob("versions/2.7.*/bin/python2.7")))
    check = "import sys, ssl, zlib; sys.exit(sys.version_info[:2] != (2, 7))"
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "-c", check], capture_output=True).returncode == 0:
            return candidate
    return None


def install() -> Path:
    """Install the suite, unless that has been done; returns the folder of its programs."""
    with alone(SUITE):
        stamp = SUITE / "installed"
        if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
            _install()
            stamp.write_text(REQUIREMENTS.read_text())
    return SUITE / "venv" / "bin"


def _install() -> None:
    python = find_python()
    if python is None:
        raise SystemExit("the suite needs a CPython 2.7: pyenv install 2.7, or AUTOBAHN_PYTHON=…")
    print("Installing the suite.", flush=True)
    shutil.rmtree(SUITE, ignore_errors=True)
    SUITE.mkdir(parents=True)
    bootstrap = str(SUITE / "bootstrap")
    suite_python = str(SUITE / "venv" / "bin" / "python")
    pip = ("-m", "pip", "--disable-pip-version-check", "install", "-q")
    steps: list[tuple[list[str], dict[str, str]]] = [
        ([python, *pip, "--target", bootstrap, VIRTUALENV], {}),
        (
            [python, "-m", "virtualenv", "-q", str(SUITE / "venv")],
            {"PYTHONPATH": bootstrap},
        ),
        ([suite_python, *pip, "-r", str(REQUIREMENTS)], {}),
    ]
    for command, env in steps:
        done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def all_cases(programs: Path) -> list[str]:
    """The ids of the suite's cases, in their order."""
    script = (
        "from autobahntestsuite.case import Cases, CaseCategories, CaseSubCategories\n"
        "from autobahntestsuite.case import CaseSetname, CaseBasename\n"
        "from autobahntestsuite.caseset import CaseSet\n"
        "s = CaseSet(CaseSetname, CaseBasename, Cases, CaseCategories, CaseSubCategories)\n"
        "print(' '.join(s.CasesIndices))"
    )
    command = [str(programs / "python"), "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return sorted(done.stdout.split(), key=lambda case: [int(part) for part in case.split(".")])


def matching(cases: Iterable[str], patterns: list[str]) -> list[str]:
    """Those of *cases* that match one of the patterns, as ``1.*``."""
    regexes = [re.escape(pattern).replace(r"\*", ".*") for pattern in patterns]
    return [case for case in cases if any(re.fullmatch(regex, case) for regex in regexes)]


def run_client(programs: Path, url: str, cases: list[str], folder: Path) -> str | None:
    """Let the client at *url*; returns what went wrong, besides the cases."""
    specification = {
        "outdir": str(folder),
        "servers": [{"agent": "ours", "url": url}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(specification))
    log = folder / "wstest.log"
    with log.open("wb") as output:
        client = subprocess.Popen(
            [str(programs / "wstest"), "-m", "fuzzingclient", "-s", "spec.json"],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        size, heard = -1, time.monotonic()
        while client.poll() is None:
            if log.stat().st_size != size:
                size, heard = log.stat().st_size, time.monotonic()
            if time.monotonic() - heard > STALLED:
                last = re.findall(rb"Running test case ID ([0-9.]+)", log.read_bytes())
                return f"nothing happened for {STALLED:g} s, at {(last or [b'?'])[-1].decode()}"
            time.sleep(0.1)
    finally:
        client.kill()
        client.wait()
    return f"the client ended with {client.returncode}" if client.returncode else None


def judge(programs: Path, mode: Mode, cases: list[str], folder: Path) -> Verdict:
    """Run the cases, a process of the client for each category."""
    verdict = Verdict(wanted=len(cases))
    binary = {"binary": uwsgi_asyncio.binary} if mode.own_loop else {}
    options = (*mode.options, *(uwsgi_asyncio.OPTIONS if mode.own_loop else ()))
    command = servers.uwsgi("app:app", *options, router=mode.router, **binary)
    began = time.monotonic()
    with servers.running(command, folder / "uwsgi.log", mode.env, cwd=HERE) as server:
        pid = server.process.pid
        for category in CATEGORIES:
            own = matching(cases, [f"{category}.*"])
            if not own:
                continue
            reports = folder / str(category)
            reports.mkdir()
            trouble = run_client(programs, server.ws("/echo"), own, reports)
            if trouble:
                verdict.troubles.append(f"{category}.*: {trouble}")
            index = reports / "index.json"
            found = json.loads(index.read_text())["ours"] if index.exists() else {}
            for case, result in found.items():
                said, closed = result["behavior"], result["behaviorClose"]
                verdict.said[said] += 1
                verdict.closed[closed] += 1
                if not {said, closed} <= GOOD:
                    verdict.bad.append(f"{case} ({said}, closing {closed})")
            verdict.troubles += [f"{case} is missing" for case in own if case not in found]
        # A crash fails here, too: the server's log is looked through when it ends.
        if "spawned uWSGI worker 1" not in server.log or "Respawned" in server.log:
            verdict.troubles.append("a worker ended meanwhile")
        assert server.process.pid == pid
    verdict.seconds = time.monotonic() - began
    return verdict


def row(name: str, verdict: Verdict) -> str:
    counts = (verdict.said, "OK"), (verdict.said, "INFORMATIONAL"), (verdict.closed, "OK")
    told = " | ".join(str(counter[key]) for counter, key in counts)
    result = "passed" if verdict.passed else "**failed**"
    return f"| {name} | {verdict.wanted} | {told} | {verdict.seconds:.0f} | {result} |"


HEAD = """\
| mode | cases | OK | informational | closed OK | seconds | |
|---|---|---|---|---|---|---|"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("-c", "--cases", nargs="+", default=["*"], metavar="CASES")
    parser.add_argument("-x", "--exclude", nargs="+", default=[], metavar="CASES")
    parser.add_argument("--quick", action="store_true", help=f"only {' '.join(QUICK)}")
    parser.add_argument("--no-router", action="store_true")
    parser.add_argument("--keep", type=Path, help="keep the suite's reports in this folder")
    parser.add_argument("--markdown", type=Path, help="write the table here, too")
    parser.add_argument("modes", nargs="*", metavar="MODE", help=", ".join(MODES))
    options = parser.parse_args()
    if unknown := set(options.modes) - set(MODES):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(MODES)}")
    programs = install()
    cases = matching(all_cases(programs), QUICK if options.quick else options.cases)
    cases = [case for case in cases if case not in matching(cases, options.exclude)]
    if not cases:
        parser.error("no case is left to run")
    lines, passed = [HEAD], True
    with tempfile.TemporaryDirectory() as temporary:
        print(HEAD, flush=True)
        for name, mode in MODES.items():
            if (options.modes and name not in options.modes) or (options.no_router and mode.router):
                continue
            if mode.own_loop and (reason := uwsgi_asyncio.why_not()):
                print(f"(without {name}: {reason})")
                continue
            folder = (options.keep or Path(temporary)) / name
            folder.mkdir(parents=True)
            verdict = judge(programs, mode, cases, folder)
            passed = passed and verdict.passed
            lines.append(row(name, verdict))
            print(lines[-1], flush=True)
            for trouble in [*verdict.bad, *verdict.troubles]:
                print(f"    {trouble}", flush=True)
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
