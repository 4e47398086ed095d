"""Threads that are used again: they last as long as the process of a test."""

from __future__ import annotations

import inspect
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from math import inf
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import pytest
from support.servers import poll

import flask_wsviews
from flask_wsviews import BrokerUnavailable
from flask_wsviews.client import WebSocketClient
from flask_wsviews.common.threads import Threads
from flask_wsviews.groups import History
from flask_wsviews.groups.brokers.memory import MemoryBroker
from flask_wsviews.groups.disconnections import Disconnections
from flask_wsviews.groups.job_thread import JobThread
from flask_wsviews.servers import gunicorn


def threads_are_made_when_needed_and_used_again() -> None:
    import threading

    from flask_wsviews.common.threads import Threads

    threads = Threads(3, "test")
    for _ in range(20):
        name = threads.submit(lambda: threading.current_thread().name).result(10)
        assert name in {"test-1", "test-2", "test-3"}, name


def there_are_never_more_than_the_limit_and_nothing_is_lost() -> None:
    import threading
    import time

    from flask_wsviews.common.threads import Threads

    threads = Threads(3, "test")
    gate = threading.Event()
    running: set[str] = set()

    def work(number: int) -> int:
        running.add(threading.current_thread().name)
        gate.wait(10)
        return number

    futures = [threads.submit(lambda number=number: work(number)) for number in range(50)]
    deadline = time.monotonic() + 10
    while len(running) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    gate.set()
    assert [future.result(10) for future in futures] == list(range(50))
    assert running == {"test-1", "test-2", "test-3"}, running
    assert threads.submit(lambda: "and on").result(10) == "and on"


def what_is_raised_arrives() -> None:
    from flask_wsviews.common.threads import Threads

    threads = Threads(1, "test")
    error = threads.submit(lambda: {}["gone"]).exception(10)
    assert isinstance(error, KeyError), error
    assert threads.submit(lambda: 1).result(10) == 1


def what_fails_unseen_is_logged_and_costs_no_thread() -> None:
    import logging

    from flask_wsviews.common.threads import Threads

    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("flask_wsviews").addHandler(handler)
    threads = Threads(1, "test")
    threads.call(lambda: {}["gone"])
    assert threads.submit(lambda: 1).result(10) == 1
    assert messages == ["a function in a thread failed"], messages


def a_waiting_handler_does_not_hold_up_the_end_of_the_process() -> None:
    import threading

    from flask_wsviews.common.threads import Threads

    Threads(1, "test").submit(threading.Event().wait)


@pytest.mark.parametrize(
    "body",
    [
        threads_are_made_when_needed_and_used_again,
        there_are_never_more_than_the_limit_and_nothing_is_lost,
        what_is_raised_arrives,
        what_fails_unseen_is_logged_and_costs_no_thread,
        a_waiting_handler_does_not_hold_up_the_end_of_the_process,
    ],
)
def test(body: Callable[[], None]) -> None:
    program = f"{inspect.getsource(body)}\n{body.__name__}()"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)


def test_closed_threads_finish_what_there_is() -> None:
    threads = Threads(2, "brief")
    futures = [threads.submit(threading.get_ident) for _ in range(5)]
    threads.close()
    assert all(future.result(10) for future in futures)
    # The leak detector sees that they end.


def test_spare_threads_are_kept_and_others_end() -> None:
    threads = Threads(inf, "spare", spare=2)
    gate = threading.Event()
    met = threading.Barrier(6)

    def work() -> threading.Thread:
        met.wait(10)
        gate.wait(10)
        return threading.current_thread()

    futures = [threads.submit(work) for _ in range(5)]
    met.wait(10)
    gate.set()
    runners = {future.result(10) for future in futures}
    assert len(runners) == 5
    assert poll(lambda: sum(runner.is_alive() for runner in runners) == 2)
    assert threads.submit(threading.current_thread).result(10) in runners
    threads.close()
    assert poll(lambda: not any(runner.is_alive() for runner in runners))


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("no thread")

    threads = Threads(1, "late")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="no thread"):
            threads.call(dict)
    assert threads.submit(lambda: 1).result(10) == 1
    threads.close()


def test_jobs_whose_thread_could_not_be_started_are_done_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("no thread")

    done: list[int] = []
    jobs = JobThread("late")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="no thread"):
            jobs.submit(lambda: done.append(1))
    jobs.submit(lambda: done.append(2)).result(10)
    jobs.close(10)
    assert done == [1, 2]


def blocked(threads: Threads) -> set[int]:
    return set(threads.submit(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ())).result(10))


@pytest.mark.parametrize("patched", [False, True], ids=["threads", "greenlets"])
def test_under_uwsgi_signals_are_left_to_the_main_thread(
    monkeypatch: pytest.MonkeyPatch, patched: bool
) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    monkeypatch.setattr("flask_wsviews.common.threads.find_uwsgi", lambda: object())
    monkeypatch.setattr("flask_wsviews.common.threads.is_patched", lambda: patched)
    threads = Threads(1, "masked")
    expected = set() if patched else {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    assert blocked(threads) == before | expected
    threads.close()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_elsewhere_no_signal_is_blocked() -> None:
    threads = Threads(1, "plain")
    assert blocked(threads) == signal.pthread_sigmask(signal.SIG_BLOCK, ())
    threads.close()


def test_every_thread_is_started_with_those_signals_blocked() -> None:
    # The second runs as the process ends, in a loop whose handlers are Python's.
    free = {"common/threads.py", "servers/uwsgi/signals.py"}
    root = Path(flask_wsviews.__file__).parent
    starts = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"\bThread\(|\bThreadPoolExecutor\(|\bTimer\(", path.read_text())
    }
    assert starts == free


def test_a_gunicorn_worker_is_watched_once_there_is_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("no thread")

    watch = gunicorn.ExitWatch()
    cfg = SimpleNamespace(graceful_timeout=0)
    worker = SimpleNamespace(alive=False, nr=0, max_requests=1, cfg=cfg, sockets=[])
    codes: SimpleQueue[int] = SimpleQueue()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="no thread"):
            watch.add(worker, codes.put)
    watch.add(worker, codes.put)
    watch.add(worker, codes.put)
    assert codes.get(timeout=10) == 1001
    assert codes.empty()


class Away(MemoryBroker):
    """It can't be reached at first."""

    is_away = True

    def subscribe(self, group: str, history: History | None) -> str | None:
        if self.is_away:
            raise BrokerUnavailable("it is away")
        return super().subscribe(group, history)


def test_disconnections_are_listened_for_once_there_is_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("no thread")

    broker = Away()
    disconnections = Disconnections(broker, {})
    client = WebSocketClient({})
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="no thread"):
            disconnections.listen(client)
    broker.is_away = False
    disconnections.listen(client)
    assert poll(lambda: disconnections._is_subscribed)
    disconnections.close()
