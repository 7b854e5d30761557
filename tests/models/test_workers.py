"""Threads that are used again, and can be left behind."""

from __future__ import annotations

import subprocess
import sys
import threading

from rlm_eval.models.workers import Workers


def test_work_gives_its_result_or_its_error() -> None:
    workers: Workers[int] = Workers()
    assert workers.start(lambda: 7).result(5) == 7
    assert isinstance(workers.start(lambda: 1 // 0).exception(5), ZeroDivisionError)


def test_a_free_thread_is_used_again_and_a_busy_one_is_not_waited_for() -> None:
    workers: Workers[int] = Workers()
    first = workers.start(threading.get_ident).result(5)
    assert {workers.start(threading.get_ident).result(5) for _ in range(20)} == {first}
    gate = threading.Event()

    def held() -> int:
        gate.wait(5)
        return threading.get_ident()

    busy = workers.start(held)
    other = workers.start(threading.get_ident).result(5)
    gate.set()
    assert busy.result(5) == first != other


def test_one_who_stops_waiting_goes_on_and_the_process_ends() -> None:
    """The work never ends; the interpreter does not wait for it."""
    code = (
        "import threading; from rlm_eval.models.workers import Workers\n"
        "future = Workers().start(threading.Event().wait)\n"
        "try: future.result(0.05)\n"
        "except TimeoutError: print('went on')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "went on\n"


def test_closed_workers_end_their_threads() -> None:
    workers: Workers[threading.Thread] = Workers()
    thread = workers.start(threading.current_thread).result(5)
    workers.close()
    thread.join(5)
    assert not thread.is_alive()
