"""The cases of the Autobahn test suite that are quick; ``make autobahn`` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance import autobahn


@pytest.fixture(scope="module")
def programs() -> Path:
    try:
        return autobahn.install()
    except SystemExit as reason:
        pytest.skip(f"no Autobahn test suite: {str(reason).splitlines()[0]}")


@pytest.mark.parametrize("name", ["blocking", "gevent", "asyncio"])
def test_the_quick_cases(name: str, programs: Path, tmp_path: Path) -> None:
    cases = autobahn.matching(autobahn.all_cases(programs), [*autobahn.QUICK, "12.1.1", "13.1.1"])
    mode = autobahn.MODES[name]
    verdict = autobahn.judge(programs, mode, cases, tmp_path)
    if verdict.bad:
        # The suite waits for a second at most, which is not much on a busy machine.
        again = [case.split()[0] for case in verdict.bad]
        folder = tmp_path / "again"
        folder.mkdir()
        assert autobahn.judge(programs, mode, again, folder).bad == []
    assert verdict.troubles == []
    assert verdict.said.total() == len(cases) > 100
