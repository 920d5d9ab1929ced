"""A thread beside the event loop, for work that would keep other requests waiting."""

from __future__ import annotations

import concurrent.futures
import queue
import threading
from typing import Any, Callable, Optional, Tuple

#: A call, and where its result goes.
_Task = Tuple["concurrent.futures.Future[Any]", Callable[[], Any]]


class Helper(concurrent.futures.Executor):
    """Calls functions one after another on a thread of its own.

    The end of the process does not wait for it, as it would for the threads of ``ThreadPoolExecutor``.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._tasks: queue.SimpleQueue[Optional[_Task]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Call a function when those before it are done; one whose future was canceled is not called."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._tasks.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread, after the calls that were submitted, or after the one under way."""
        while cancel_futures:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                break
            if task is not None:
                task[0].cancel()
        self._tasks.put(None)
        if wait:
            self._thread.join()

    def _work(self) -> None:
        while _call(self._tasks.get()):
            pass


def _call(task: Optional[_Task]) -> bool:
    """Do a task, unless it is the last: a function of its own, so that nothing of a task outlives it here."""
    if task is None:
        return False
    future, call = task
    if future.set_running_or_notify_cancel():
        try:
            result = call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
    return True
