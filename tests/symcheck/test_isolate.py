"""A candidate's process may do anything; the parent keeps what was said and tells in one line what happened."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import pytest

from symcheck.errors import CandidateFault, UsageError
from symcheck.isolate import Ended, Item, Job, run


def events(*streams: Callable[[], Iterator[object]], limit: float = 30.0, workers: int = 2) -> list[Item | Ended]:
    return list(run([Job(stream, limit) for stream in streams], workers=workers))


def ending(stream: Callable[[], Iterator[object]], limit: float = 30.0) -> tuple[list[object], Ended]:
    """What one stream yielded before it ended, and how it ended."""
    *items, last = events(stream, limit=limit)
    assert isinstance(last, Ended)
    assert "\n" not in last.text
    return [item.value for item in items], last


def after_two(action: Callable[[], object]) -> Callable[[], Iterator[object]]:
    def stream() -> Iterator[object]:
        yield "first"
        yield "second"
        action()
        yield "third"

    return stream


def allocate() -> None:
    bytearray(64 << 30)


def allocate_tensors() -> None:
    import torch

    torch.zeros(16 << 30, dtype=torch.float64)


def fail() -> None:
    raise CandidateFault("constructor raised ValueError: no")


def misuse() -> None:
    raise UsageError("not an optimizer")


def break_down() -> None:
    raise ZeroDivisionError("by design")


def print_and_exit() -> None:
    print("about to go")
    os.write(2, b"for good\n")
    os._exit(7)


@pytest.mark.parametrize(
    ("action", "end", "text"),
    [
        (lambda: sys.exit(3), "fault", "sys.exit(3)"),
        (lambda: os._exit(5), "fault", "exit code 5"),
        (lambda: os._exit(0), "fault", "exit code 0"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "fault", "SIGSEGV"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "fault", "SIGKILL"),
        (allocate, "fault", "out of memory"),
        (fail, "fault", "constructor raised ValueError: no"),
        (misuse, "unusable", "not an optimizer"),
        (break_down, "internal", "ZeroDivisionError: by design"),
        (print_and_exit, "fault", "about to go | for good"),
    ],
)
def test_what_was_said_is_kept_and_the_end_is_told(action: Callable[[], object], end: str, text: str) -> None:
    values, last = ending(after_two(action))
    assert values == ["first", "second"]
    assert last.end == end
    assert text in last.text


def test_a_tensor_too_large_is_refused() -> None:
    _, last = ending(after_two(allocate_tensors))
    assert last.end == "internal"  # torch raises RuntimeError; the probe turns that into the candidate's error
    assert "allocate" in last.text


def test_a_good_stream_ends_done() -> None:
    values, last = ending(after_two(lambda: None))
    assert (values, last.end, last.text) == (["first", "second", "third"], "done", "")


@pytest.mark.parametrize("hang", [lambda: time.sleep(60), lambda: [None for _ in iter(int, 1)]])
def test_a_hang_ends_at_the_time_limit(hang: Callable[[], object]) -> None:
    start = time.monotonic()
    values, last = ending(after_two(hang), limit=0.5)
    assert values == ["first", "second"]
    assert last.end == "fault"
    assert "time limit of 0.5 s" in last.text
    assert time.monotonic() - start < 10


def test_ignored_signals_and_children_do_not_keep_a_candidate_alive() -> None:
    def stubborn() -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            time.sleep(60)
        time.sleep(60)

    _, last = ending(after_two(stubborn), limit=0.5)
    assert "time limit" in last.text


def test_a_grandchild_that_holds_the_pipes_open_does_not_block() -> None:
    def leave_one_behind() -> None:
        if os.fork() == 0:
            time.sleep(60)
        os._exit(9)

    start = time.monotonic()
    _, last = ending(after_two(leave_one_behind))
    assert "exit code 9" in last.text
    assert time.monotonic() - start < 10


def test_endless_output_is_read_and_forgotten() -> None:
    def chatter() -> None:
        while True:
            print("x" * 1000)

    _, last = ending(after_two(chatter), limit=0.5)
    assert "time limit" in last.text
    assert len(last.text) < 500


def test_output_never_reaches_ours(capfd: pytest.CaptureFixture[str]) -> None:
    def noisy() -> None:
        print("python level")
        print("error level", file=sys.stderr)
        os.system("echo from a shell")

    ending(after_two(noisy))
    assert capfd.readouterr() == ("", "")


def test_jobs_run_side_by_side_and_keep_their_order() -> None:
    def stream(number: int) -> Callable[[], Iterator[object]]:
        def numbers() -> Iterator[object]:
            for value in range(5):
                yield (number, value)

        return numbers

    seen = events(*map(stream, range(7)), workers=3)
    for number in range(7):
        mine = [event for event in seen if event.job == number]
        assert [event.value for event in mine[:-1] if isinstance(event, Item)] == [
            (number, value) for value in range(5)
        ]
        assert isinstance(mine[-1], Ended)


def test_closing_kills_what_runs() -> None:
    def stream() -> Iterator[object]:
        yield os.getpid()
        time.sleep(60)

    running = run([Job(stream, 60.0)], workers=1)
    first = next(running)
    assert isinstance(first, Item)
    running.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(first.value, 0)


def test_the_candidate_runs_single_threaded() -> None:
    def stream() -> Iterator[object]:

        yield torch.get_num_threads()

    import torch

    assert ending(stream)[0] == [1]


def test_an_answer_that_does_not_pickle_is_an_internal_error() -> None:
    _, last = ending(lambda: iter([lambda: None]))
    assert last.end == "internal"


def test_keyboard_interrupt_stops_the_children(tmp_path: os.PathLike[str]) -> None:
    script = textwrap.dedent("""
        import os, time, sys
        from symcheck.isolate import Job, run
        def stream():
            yield os.getpid()
            time.sleep(60)
        try:
            for event in run([Job(stream, 60.0)], workers=1):
                print(event.value, flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline().strip() == "interrupted"
    assert process.wait(20) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
