"""Texts of many requests in one run of the engine.

A thread runs the engine, so that the event loop goes on reading requests meanwhile; ctypes gives the
interpreter's lock back during a run. When the engine is idle, whatever waits is run at once: a request alone
waits for nobody, and under load the requests that came during a run make up the next.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import math
import threading
import time
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

from obert_edge.device.tokenizers.tokenizer import Encoding
from obert_edge.serve.metrics import Metrics
from obert_edge.serve.models import Model, Reader
from obert_edge.serve.refusal import RefusedError, refusal_of

log = logging.getLogger("obert_edge.serve")

#: What a retry is told to wait, in seconds, at least and at most.
_SOONEST, _LATEST = 1, 60
#: Seconds after which it is asked whether the client of a waiting request is still there.
_PATIENCE = 2.0
#: Seconds that the end of the thread is waited for: some ten times as long as a run takes to hear of it.
_LAST_WAIT = 2.0
#: The weight of a new batch in the mean of tokens per second.
_NEWEST = 0.1


class Work(NamedTuple):
    """Texts to run, and what makes answers of the results.

    Args:
        encodings: of the texts.
        reader: called with the results of some of them; work of the same reader is read together.
    """

    encodings: Sequence[Encoding]
    reader: Reader


class Job:
    """The work of one request.

    Args:
        model: that runs it.
        work: one or several lots of texts.
        whole: in place of work: a function that runs the model itself, alone.
        tokens: of all of it.
        future: gets the answers: a list for each lot of work, or what ``whole`` gave.
    """

    def __init__(
        self,
        model: Model,
        work: Sequence[Work],
        tokens: int,
        future: asyncio.Future[Any],
        whole: Optional[Callable[[], Any]] = None,
    ) -> None:
        self.model = model
        self.whole = whole
        self.tokens = tokens
        self.future = future
        self.answers: List[List[Any]] = [[None] * len(lot.encodings) for lot in work]
        self.missing = sum(len(lot.encodings) for lot in work)
        self.waiting_since = time.perf_counter()
        self.begun = False
        self.dropped = False
        #: Texts that are not run yet: lot, place within it, encoding, reader.
        self.texts: Deque[_Text] = collections.deque(
            _Text(self, number, place, encoding, lot.reader)
            for number, lot in enumerate(work)
            for place, encoding in enumerate(lot.encodings)
        )


class _Text(NamedTuple):
    """A text of a job, and where its answer goes."""

    job: Job
    lot: int
    place: int
    encoding: Encoding
    reader: Reader


class _EndedError(RefusedError):
    """Ends a run that nobody waits for any more."""

    def __init__(self) -> None:
        super().__init__(503, "the server stopped before this was answered", code="stopping")


class _Watch:
    """Cancels the future of a job that is not answered for long and whose client is gone.

    Args:
        job: to watch; the event loop is the running one.
        disconnected: a coroutine function that ends when the client is gone.
    """

    def __init__(self, job: Job, disconnected: Callable[[], Any]) -> None:
        self.is_gone = False
        self._job = job
        self._disconnected = disconnected
        self._task: Optional[asyncio.Task[None]] = None
        self._timer = job.future.get_loop().call_later(_PATIENCE, self._begin)

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        await self._disconnected()
        # An answer that is there goes out, and fails by itself.
        self.is_gone = self._job.future.cancel()

    def end(self) -> None:
        """Stop watching."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()


class Batcher:
    """Runs jobs on one thread, several of them together where they fit.

    Args:
        max_batch_tokens: of one run; a text with more is run alone.
        max_queue: jobs accepted and not answered.
        max_queue_tokens: their tokens; where there are none, a job with more is accepted all the same.
    """

    def __init__(self, max_batch_tokens: int, max_queue: int, max_queue_tokens: int) -> None:
        self._max_batch_tokens = max_batch_tokens
        self._max_queue = max_queue
        self._max_queue_tokens = max_queue_tokens
        self.metrics = Metrics(lambda: (self._places, self._tokens))
        self._condition = threading.Condition()
        self._waiting: Deque[Job] = collections.deque()
        self._places = 0
        self._tokens = 0
        #: Tokens per second, the mean of late; 0: nothing was run yet.
        self._speed = 0.0
        self._closing = False
        #: The jobs of the run under way.
        self._running: Sequence[Job] = ()
        self._thread = threading.Thread(target=self._work, name="obert-edge-engine", daemon=True)

    def start(self) -> None:
        """Begin to run jobs."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread; what is not answered yet is cut off, the run under way included."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread.ident is not None:
            self._thread.join(_LAST_WAIT)
            if self._thread.is_alive():
                log.warning("a run does not end, and the process ends without it")

    def enter(self) -> None:
        """Take a place for a request, before its body is read; :meth:`leave` gives it back.

        Raises:
            RefusedError: 429: all places are taken.
        """
        if self._places >= self._max_queue:
            raise self._full(f"{self._max_queue} requests are being answered already")
        self._places += 1

    def leave(self) -> None:
        """Give the place of an answered request back."""
        self._places -= 1

    async def run(
        self,
        model: Model,
        work: Sequence[Work] = (),
        *,
        whole: Optional[Callable[[], Any]] = None,
        tokens: Optional[int] = None,
        disconnected: Optional[Callable[[], Any]] = None,
    ) -> Any:
        """Wait for the answers of a request.

        Args:
            model: that runs it.
            work: its texts.
            whole: in place of texts, a function to run alone; it is ended in a run of the model where nobody
                waits for it any more.
            tokens: of ``whole``.
            disconnected: a coroutine function that ends when the client is gone; asked after a while.

        Returns:
            A list of answers for each lot of work; or what ``whole`` returned.

        Raises:
            RefusedError: 429: too many tokens wait. 499: the client is gone.
            Exception: what running it raised.
        """
        if tokens is None:
            tokens = sum(len(encoding) for lot in work for encoding in lot.encodings)
        if self._tokens and self._tokens + tokens > self._max_queue_tokens:
            raise self._full(f"{self._tokens} tokens wait already")
        job = Job(model, work, tokens, asyncio.get_running_loop().create_future(), whole)
        if not job.texts and whole is None:
            return job.answers
        with self._condition:
            self._tokens += tokens
            self._waiting.append(job)
            self._condition.notify()
        # Most jobs are answered before a task that listens for the client's end would be worth its making.
        watch = disconnected and _Watch(job, disconnected)
        try:
            return await job.future
        except asyncio.CancelledError:
            self._drop(job)
            if watch is None or not watch.is_gone:
                raise
            self.metrics.abandoned.inc()
            raise RefusedError(499, "the client is gone", code="client_gone") from None
        finally:
            if watch is not None:
                watch.end()

    def _drop(self, job: Job) -> None:
        with self._condition:
            job.dropped = True

    def _full(self, found: str) -> RefusedError:
        seconds = self._tokens / self._speed if self._speed else _SOONEST
        wait = min(max(math.ceil(seconds), _SOONEST), _LATEST)
        return RefusedError(429, f"{found}; try again in {wait} s", code="queue_full", retry_after=wait)

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._waiting and not self._closing:
                    self._condition.wait()
                if self._closing:
                    break
                first = self._waiting[0]
                if first.whole is not None:
                    self._waiting.popleft()
                    texts: List[_Text] = []
                else:
                    texts = self._take(first.model)
            if first.whole is not None:
                self._run_whole(first)
            elif texts:
                self._run(texts)
        self._cut_off()

    def _cut_off(self) -> None:
        """Refuse everything that waits."""
        with self._condition:
            jobs = list(self._waiting)
            self._waiting.clear()
        for job in jobs:
            job.texts.clear()
        self._finish([(job, None, _EndedError()) for job in jobs])

    def _check(self) -> None:
        """Asked by the engine: end the run under way if nobody waits for it any more."""
        if self._closing or all(job.dropped for job in self._running):
            raise _EndedError

    def _take(self, model: Model) -> List[_Text]:
        """Texts of one model for the next run: one of each job in turn, so that none waits for a long one."""
        taken: List[_Text] = []
        tokens = 0
        others: List[Job] = []
        turn = collections.deque(self._waiting)
        self._waiting.clear()
        again: Deque[Job] = collections.deque()
        full = False
        while turn and not full:
            while turn:
                job = turn.popleft()
                if job.dropped:
                    self._tokens -= job.tokens
                    continue
                if job.model is not model or job.whole is not None:
                    others.append(job)
                    continue
                size = len(job.texts[0].encoding)
                if taken and tokens + size > self._max_batch_tokens:
                    again.append(job)
                    full = True
                    break
                taken.append(job.texts.popleft())
                tokens += size
                if job.texts:
                    again.append(job)
            if not full:
                turn, again = again, collections.deque()
        left = [*again, *turn, *others]
        left.sort(key=lambda job: job.waiting_since)
        self._waiting.extend(left)
        return taken

    def _run(self, texts: List[_Text]) -> None:
        """Run texts, answer the jobs that are complete, and fail those that the model refuses."""
        began = time.perf_counter()
        for text in texts:
            if not text.job.begun:
                text.job.begun = True
                self.metrics.queue_seconds.observe(began - text.job.waiting_since)
        # By length, so that arrays of padded texts are no larger than they must be.
        texts.sort(key=lambda text: len(text.encoding))
        model = texts[0].job.model
        jobs = list({id(text.job): text.job for text in texts}.values())
        failed: Dict[int, Exception] = {}
        try:
            self._answer(model, texts)
        except _EndedError as error:
            failed = {id(job): error for job in jobs}
            for job in jobs:
                self._drop(job)
        except Exception as error:
            # One text may have made a run of many fail: each job on its own says which.
            failed = self._answer_apart(model, texts, jobs, error)
        if not any(isinstance(error, _EndedError) for error in failed.values()):
            tokens = sum(len(text.encoding) for text in texts)
            self._note(model, len(texts), tokens, time.perf_counter() - began)
        done: List[Tuple[Job, Any, Optional[Exception]]] = []
        for job in jobs:
            if id(job) in failed:
                done.append((job, None, failed[id(job)]))
            elif job.missing == 0:
                done.append((job, job.answers, None))
        self._finish(done)

    def _answer(self, model: Model, texts: Sequence[_Text]) -> None:
        """Run texts of one model, and put the answers in their places."""
        self._running = list({id(text.job): text.job for text in texts}.values())
        with model.session.polling(self._check):
            results = model.session.run_encodings([text.encoding for text in texts])
        rows_of: Dict[int, List[int]] = {}
        for row, text in enumerate(texts):
            rows_of.setdefault(id(text.reader), []).append(row)
        for rows in rows_of.values():
            own = results if len(rows) == len(texts) else results.of_rows(rows)
            answers = texts[rows[0]].reader(own, [len(texts[row].encoding) for row in rows])
            for row, answer in zip(rows, answers):
                text = texts[row]
                text.job.answers[text.lot][text.place] = answer
                text.job.missing -= 1

    def _answer_apart(
        self, model: Model, texts: Sequence[_Text], jobs: Sequence[Job], error: Exception
    ) -> Dict[int, Exception]:
        """The same for each job alone; the errors of those that fail."""
        failed = {}
        for job in jobs:
            own = [text for text in texts if text.job is job]
            # What the failed run answered already is answered again.
            missing = [text for text in own if job.answers[text.lot][text.place] is None]
            try:
                if len(jobs) == 1:
                    raise error
                if missing:
                    self._answer(model, missing)
            except Exception as one:
                failed[id(job)] = one
                log_failure(one)
                self._drop(job)
        return failed

    def _run_whole(self, job: Job) -> None:
        if job.dropped:
            self._finish([(job, None, None)])
            return
        began = time.perf_counter()
        self.metrics.queue_seconds.observe(began - job.waiting_since)
        assert job.whole is not None
        self._running = [job]
        try:
            with job.model.session.polling(self._check):
                answer, error = job.whole(), None
        except _EndedError as ended:
            self._finish([(job, None, ended)])
            return
        except Exception as found:
            answer, error = None, found
            log_failure(found)
        self._note(job.model, 1, job.tokens, time.perf_counter() - began)
        self._finish([(job, answer, error)])

    def _note(self, model: Model, texts: int, tokens: int, seconds: float) -> None:
        self.metrics.texts.labels(model.name).inc(texts)
        self.metrics.tokens.labels(model.name).inc(tokens)
        self.metrics.batch_texts.observe(texts)
        self.metrics.batch_tokens.observe(tokens)
        self.metrics.batch_seconds.observe(seconds)
        speed = tokens / max(seconds, 1e-6)
        self._speed = speed if not self._speed else self._speed + _NEWEST * (speed - self._speed)

    def _finish(self, done: Sequence[Tuple[Job, Any, Optional[Exception]]]) -> None:
        """Give answers to the event loops that wait for them, in one call for each."""
        if not done:
            return
        with self._condition:
            for job, _, error in done:
                # A failed job's other texts are still in the queue, and leave it with their tokens.
                if error is None or not job.texts:
                    self._tokens -= job.tokens
        for loop in {job.future.get_loop() for job, _, _ in done}:
            own = [one for one in done if one[0].future.get_loop() is loop]
            try:
                loop.call_soon_threadsafe(_resolve, own)
            except RuntimeError:
                awaited = sum(not job.dropped for job, _, _ in own)
                if awaited:
                    log.warning("%d answers came after the server had stopped", awaited)


def log_failure(error: Exception) -> None:
    """Log an error that a client gets as a fault of the server."""
    if isinstance(error, RefusedError):
        return
    if refusal_of(error).status >= 500:
        log.error("a run failed", exc_info=error)


def _resolve(done: Sequence[Tuple[Job, Any, Optional[Exception]]]) -> None:
    for job, answer, error in done:
        if job.future.done():
            continue
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(answer)
