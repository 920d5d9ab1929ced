"""Progress on stderr for work that reports what it does, how far it is, and how far it goes.

A terminal shows a bar. A log, which is no terminal, gets a line every half minute: what is done, how far it
is, how long it has taken and about how long it will take.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Deque, Dict, Iterator, List, NamedTuple, Optional, TextIO

if TYPE_CHECKING:
    import rich.progress

#: Called as ``progress(what, done, total)``; a total of 0: nobody knows how much there is, and where nothing
#: is counted as done either, no count is shown.
Progress = Callable[[str, int, int], None]

#: Seconds between two lines of a log.
EVERY = 30.0

#: How many of the last stretches of work the pace is taken of.
_STRETCHES = 50
#: Seconds that a stretch takes at least: the pace of shorter ones says more of the clock than of the work.
_SHORTEST = 0.1
#: A stretch that takes so many times what most of them take has a pause in it, such as a pruning step.
_PAUSE = 8.0
#: Stretches without which the pace is not known yet, where they are less than this share of the work.
_FEWEST, _MUCH = 3, 0.05


class _Stretch(NamedTuple):
    """Work between two moments.

    Attributes:
        end: how much was done at its end.
        units: how much was done in it.
        seconds: how long it took.
    """

    end: int
    units: int
    seconds: float

    @property
    def pace(self) -> float:
        """Seconds for a unit."""
        return self.seconds / self.units


class _Pace:
    """How long work takes by how long it took of late.

    Pauses, which training has where it prunes or scores, are not spread over the steps around them. One that
    happened once says nothing about those to come; where they come again, each is expected as often as until
    then. Of pauses that are announced, as a pruning step is, it is known how many are still to come.

    Args:
        now: when the work began, in seconds.
        done: how much was done then.
    """

    def __init__(self, now: float, done: int) -> None:
        self._time, self._done, self._first = now, done, done
        self._recent: Deque[_Stretch] = deque()
        self._pauses: List[_Stretch] = []  # those that are not among the recent stretches any more
        self._rested: Optional[float] = None  # how long the last announced pause took
        self._rests_since: Optional[float] = None  # when the one that goes on now began
        self._rests_to_come = 0

    def tell(self, now: float, done: int) -> None:
        """Take note of how much is done now."""
        if done <= self._done or now - self._time < _SHORTEST:
            return
        self._recent.append(_Stretch(done, done - self._done, now - self._time))
        self._time, self._done = now, done
        if len(self._recent) > _STRETCHES:
            usual = self._usual()
            oldest = self._recent.popleft()
            if oldest.pace > _PAUSE * usual:
                self._pauses.append(oldest)

    def rest(self, now: float) -> None:
        """An announced pause begins, where none goes on."""
        if self._rests_since is None:
            self._rests_since = now
            self._rests_to_come = max(0, self._rests_to_come - 1)

    def go_on(self, now: float, to_come: int) -> None:
        """The announced pause is over, where one went on, and so many are still to come."""
        if self._rests_since is not None:
            self._rested = now - self._rests_since
            self._time += self._rested
            self._rests_since = None
        elif to_come < self._rests_to_come and self._rested is None:
            self._rested = 0.0  # it was over before anybody could tell
        self._rests_to_come = to_come

    def left(self, now: float, total: int) -> Optional[float]:
        """Seconds until all is done; ``None``: too little is known to tell."""
        if self._rests_since is None and not self._rests_to_come:
            return self._left(now, total)
        if self._rested is None:  # how long the pauses to come take is not known yet
            return None
        passed = 0.0 if self._rests_since is None else now - self._rests_since
        left = self._left(now - passed, total)
        if left is None:
            return None
        each = max(self._rested, passed)
        return left + self._rests_to_come * each + (each - passed if self._rests_since is not None else 0.0)

    def _left(self, now: float, total: int) -> Optional[float]:
        """The same without announced pauses."""
        known = self._done - self._first
        few = len(self._recent) < _FEWEST and known < _MUCH * (total - self._first)
        if not self._recent or few:
            return None
        usual = self._usual()
        steady = [one for one in self._recent if one.pace <= _PAUSE * usual]
        pace = sum(one.seconds for one in steady) / sum(one.units for one in steady)
        pauses = [*self._pauses, *(one for one in self._recent if one.pace > _PAUSE * usual)]
        if len(pauses) > 1:
            begin, end = pauses[0].end, pauses[-1].end
            every = (end - begin) / (len(pauses) - 1)
            # Where the next one is overdue they become rarer, little by little.
            passed = max(end - begin, self._done - begin - every)
            pace += sum(one.seconds - pace * one.units for one in pauses[1:]) / passed
        return max(0.0, pace * (total - self._done) - min(now - self._time, pace))

    def _usual(self) -> float:
        """The pace of most of the recent stretches."""
        return statistics.median_low(one.pace for one in self._recent)


@dataclass
class _Row:
    """One kind of work.

    Args:
        began: when it was first told of, in seconds of the clock.
        pace: how long it takes.
        done: how much is done.
        total: how much there is; 0: nobody knows.
        note: what else to say of it.
    """

    began: float
    pace: _Pace
    done: int
    total: int
    note: str = ""


class Lines:
    """Progress as lines of a log; a context manager.

    Work that takes less than :data:`EVERY` says nothing. A thread sees to it that a line comes even where the
    work tells nothing for long.

    Args:
        stream: where to write; ``None``: stderr.
        clock: seconds that only grow.
        every: seconds between two lines.
    """

    def __init__(
        self,
        stream: Optional[TextIO] = None,
        clock: Callable[[], float] = time.monotonic,
        every: float = EVERY,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._every = every
        self._rows: Dict[str, _Row] = {}
        self._lock = threading.Lock()
        self._told = clock()
        self._ended = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def __enter__(self) -> Lines:
        """Begin to tell."""
        self._told = self._clock()
        self._ended.clear()
        thread = threading.Thread(target=self._tell_again, name="progress", daemon=True)
        with contextlib.suppress(RuntimeError):  # no memory for a thread: lines come when there is news
            thread.start()
            self._thread = thread
        return self

    def __exit__(self, *_: object) -> None:
        """Tell no more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._lock:
            self._rows.clear()

    def show(self, what: str, done: int, total: int, note: str = "") -> None:
        """Say how far a kind of work is; several kinds stand behind each other, the first with its time.

        Args:
            what: its name.
            done: how much is done.
            total: how much there is; 0: nobody knows.
            note: what else to say.
        """
        with self._lock:
            row = self._rows.get(what)
            now = self._clock()
            if row is None or done < row.done:  # it begins again
                row = self._rows[what] = _Row(now, _Pace(now, done), done, total)
            row.pace.tell(now, done)
            row.done, row.total, row.note = done, total, note or row.note
        self.tell_if_due()

    def rest(self, what: str) -> None:
        """A kind of work stands still from now on, as announced, for something that takes its time."""
        with self._lock:
            if what in self._rows:
                self._rows[what].pace.rest(self._clock())

    def go_on(self, what: str, to_come: int) -> None:
        """A kind of work goes on after such a rest, if it had one.

        Args:
            what: its name.
            to_come: how many rests are still to come.
        """
        with self._lock:
            if what in self._rows:
                self._rows[what].pace.go_on(self._clock(), to_come)

    def seconds_left(self, what: str) -> Optional[float]:
        """Seconds until a kind of work is done; ``None``: too little is known to tell."""
        with self._lock:
            row = self._rows.get(what)
            return row.pace.left(self._clock(), row.total) if row is not None and row.total else None

    def drop(self, *names: str) -> None:
        """Forget kinds of work that are over; without names all."""
        with self._lock:
            for name in names or list(self._rows):
                self._rows.pop(name, None)

    def tell_if_due(self) -> None:
        """Write a line when the last one is long enough ago."""
        with self._lock:
            now = self._clock()
            if not self._rows or now - self._told < self._every:
                return
            self._told = now
            line = self._line(now)
            stream = self._stream or sys.stderr
            if stream is None:  # a process without stderr
                return
            with contextlib.suppress(OSError, ValueError):  # a log that is full or closed stops no work
                stream.write(f"{line}\n")
                stream.flush()

    def _line(self, now: float) -> str:
        parts: List[str] = []
        for what, row in self._rows.items():
            part = f"{what}: {row.done} of {row.total}" if row.total else what
            if row.done and not row.total:
                part += f": {row.done}"
            if row.note:
                part += f", {row.note}"
            if not parts:  # the whole work comes first
                part += f", {_duration(now - row.began)}"
                left = row.pace.left(now, row.total) if row.total else None
                if left is not None:
                    part += f", about {_duration(left)} left"
            parts.append(part)
        return "; ".join(parts)

    def _tell_again(self) -> None:
        while not self._ended.wait(min(self._every, 1.0)):
            self.tell_if_due()


def _duration(seconds: float) -> str:
    """``40 s``, ``5 min`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Bar:
    """Progress of one kind of work at a time: a bar that goes away when it is done, or lines of a log.

    Where there is no memory or thread left for a bar, it shows nothing: no work fails for it.
    """

    def __enter__(self) -> Bar:
        """Show the bar."""
        self._lines: Optional[Lines] = None
        self._progress: Optional[rich.progress.Progress] = None
        with contextlib.suppress(MemoryError, OSError):
            self._begin()
        return self

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        console = Console(file=sys.stderr)
        if not console.is_terminal:
            self._what = ""
            self._lines = Lines().__enter__()
            return
        self._moves_itself = _threads_start()
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            auto_refresh=self._moves_itself,
        )
        self._row = bar.add_task("", total=None)
        bar.start()
        self._progress = bar

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        if self._lines is not None:
            self._lines.__exit__()
        elif self._progress is not None:
            self._progress.stop()

    def show(self, what: str, done: int, total: int) -> None:
        """Move the bar."""
        bar = self._progress
        if bar is not None:
            if not total and bar.tasks[0].total is not None:  # a total cannot be taken back
                bar.remove_task(self._row)
                self._row = bar.add_task(what, total=None)
            by_hand = not self._moves_itself
            bar.update(self._row, description=what, completed=done, total=total or None, refresh=by_hand)
        if self._lines is None:
            return
        if what != self._what:
            self._lines.drop()
            self._what = what
        self._lines.show(what, done, total)


def _threads_start() -> bool:
    """Whether there is memory for another thread, and this process may have one."""
    thread = threading.Thread(target=bool)
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True


@contextlib.contextmanager
def shown(wanted: bool) -> Iterator[Optional[Progress]]:
    """Show progress while a block runs.

    Args:
        wanted: whether anything is to be shown.

    Yields:
        What to call, or ``None``.
    """
    if not wanted:
        yield None
        return
    with Bar() as bar:
        yield bar.show
