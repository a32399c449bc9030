"""Continuous batching: which jobs run, which rows are fed next, and what becomes of the outputs.

A finished job leaves the running batch and a waiting one joins at the next token. Rows of jobs that generate
go first; prompts take what is left of the batch, piece by piece, so that they hold nobody up.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.engine.cache import Cache, Held
from rlm_agent.models.gguf.engine.calls import Call, Queue
from rlm_agent.models.gguf.engine.cells import Row
from rlm_agent.models.gguf.engine.context import Computed
from rlm_agent.models.gguf.engine.jobs import Job, Result
from rlm_agent.models.gguf.engine.nodes import Output
from rlm_agent.models.gguf.engine.pieces import Pieces
from rlm_agent.models.gguf.engine.streams import Stream
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.models.gguf.sampling.draw import draw
from rlm_agent.models.gguf.sampling.grammar import Grammar
from rlm_agent.models.gguf.sampling.measures import measure
from rlm_agent.structure.errors import InputError


class Scheduler:
    """Runs jobs over a cache, up to `parallel` at once; for one thread, that calls `step` while it is `busy`.

    `longest` bounds the tokens of a prompt and its continuation.
    """

    def __init__(self, file: ModelFile, cache: Cache, *, parallel: int, longest: int) -> None:
        self._file = file
        self._cache = cache
        self._parallel = parallel
        self._longest = longest
        self._pieces = Pieces(file)
        self._queue = Queue()
        self._parked: deque[Stream] = deque()
        self._live: list[Stream] = []
        cache.live = self._held

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._queue or self._parked or self._live)

    def submit(self, call: Call) -> None:
        """Let the jobs of a call wait for their turns."""
        self._queue.add(call)

    def step(self) -> None:
        """Admit what fits, feed one batch, draw a token for each job that got an output."""
        self._leave_out_cancelled()
        ready = self._admit()
        self._cache.tidy()
        rows, fed = self._rows()
        computed = self._cache.decode(rows, hidden=any(s.job.hidden for s in fed if s.prefilling))
        wanting = [stream for stream in fed if not stream.missing]
        self._note_prompts(wanting, computed)
        self._draw(wanting, [stream for stream in ready if stream in self._live], computed.logits)
        for stream in [stream for stream in self._live if stream.finish is not None]:
            self._leave(stream)
            stream.call.finish(stream.index, stream.result())

    def reset(self) -> None:
        """Forget all jobs and all that is cached; whoever waits has to be told."""
        for stream in [*self._live, *self._parked]:
            stream.close()
        self._live, self._parked = [], deque()
        self._queue.drain()
        self._cache.clear()

    def _leave_out_cancelled(self) -> None:
        for stream in [stream for stream in self._live if stream.call.future.done()]:
            self._leave(stream)
        for stream in [stream for stream in self._parked if stream.call.future.done()]:
            self._parked.remove(stream)
            stream.close()

    def _leave(self, stream: Stream) -> None:
        """A job ends."""
        self._give_up_place(stream)
        stream.close()

    def _admit(self) -> list[Stream]:
        """Start waiting jobs as far as there is place; those whose first output is known already."""
        while self._parked and self._start(self._parked[0]):
            self._parked.popleft()
        if self._parked:
            return []
        for call, index in self._queue.turns():
            job = call.jobs[index]
            full = len(self._live) >= self._parallel
            if full or not self._cache.use_adapter(job.adapter, bool(self._live)):
                break
            if self._is_coming(job):
                continue
            stream = self._stream(call, index)
            if stream is not None and not self._start(stream):
                break
            self._queue.take((call, index))
        return [stream for stream in self._live if stream.missing == 0]

    def _is_coming(self, job: Job) -> bool:
        """Whether a job under way is computing more of this one's prompt than is known yet."""
        known = self._cache.known(job.prompt, job.adapter) + 1
        beginning = job.prompt[:known]
        return known <= len(job.prompt) and any(
            stream.prefilling and stream.job.prompt[:known] == beginning for stream in self._live
        )

    def _stream(self, call: Call, index: int) -> Stream | None:
        """The job as a stream, or None, and its call told, where it cannot run at all."""
        job = call.jobs[index]
        room = self._longest - len(job.prompt)
        if room < min(1, job.max_tokens) or not job.prompt:
            error = f"the prompt has {len(job.prompt)} tokens, {1 - room} too many for the model's context"
            error = error if job.prompt else "the prompt is empty"
            call.finish(index, Result(finish="error", error=error))
            return None
        try:
            grammar = job.decoding.grammar
            running = None if grammar is None else Grammar(self._file, grammar)
        except InputError as fault:
            call.finish(index, Result(finish="error", error=str(fault)))
            return None
        return Stream(call, index, job, min(job.max_tokens, room), running)

    def _start(self, stream: Stream) -> bool:
        """Give a stream a sequence that holds what is known of it; False where there is no place now."""
        tokens, adapter = stream.tokens, stream.job.adapter
        claimed = sum(self._cache.cost(other.fed, other.missing) for other in self._live)
        looks, hidden = stream.prefilling, stream.job.hidden
        found = self._cache.fork(tokens, adapter, claimed=claimed, looks=looks, hidden=hidden)
        if found is None:
            return False
        stream.sequence, stream.fed, output = found
        if stream.prefilling:
            stream.computed = len(stream.job.prompt) - stream.fed
            stream.after_prompt = output
        self._live.append(stream)
        return True

    def _rows(self) -> tuple[list[Row], list[Stream]]:
        """The next batch, and whose rows it holds. Streams without a place are parked, the latest first."""
        while not self._cache.make_room(self._wanted()):
            self._park(self._live[-1])
        most, room, rows, fed = self._cache.batch, self._cache.room, list[Row](), list[Stream]()
        for stream in sorted(self._live, key=lambda stream: stream.prefilling):
            count = min(stream.missing, most - len(rows), self._cache.fit(stream.fed, room))
            if count > 0:
                room -= self._cache.cost(stream.fed, count)
                rows += stream.feed(count)
                fed.append(stream)
        return rows, fed

    def _wanted(self) -> int:
        """Cells for a row of each stream that generates, and one more."""
        generating = [stream for stream in self._live if not stream.prefilling]
        return sum(self._cache.cost(stream.fed, 1) for stream in generating) + self._cache.cost(0, 1)

    def _held(self) -> list[Held]:
        return [(stream.sequence, stream.held, stream.job.adapter) for stream in self._live]

    def _park(self, stream: Stream) -> None:
        """A job has to wait; it goes on from what is cached of it."""
        self._give_up_place(stream)
        self._parked.appendleft(stream)

    def _give_up_place(self, stream: Stream) -> None:
        """What the stream's sequence holds stays cached."""
        self._live.remove(stream)
        self._cache.settle(stream.sequence, stream.held, stream.job.adapter)

    def _note_prompts(self, wanting: list[Stream], computed: Computed) -> None:
        for row, stream in enumerate(wanting):
            if stream.prefilling:
                hidden = None if computed.hidden is None else computed.hidden[row].copy()
                stream.after_prompt = Output(computed.logits[row].copy(), hidden)
                self._cache.remember(stream.sequence, stream.held, stream.job.adapter, stream.after_prompt)

    def _draw(self, wanting: list[Stream], ready: list[Stream], logits: NDArray[np.float32]) -> None:
        """One token for each stream that has an output; a job of no tokens ends here."""
        known = [stream.after_prompt.logits for stream in ready if stream.after_prompt is not None]
        logits = np.concatenate([logits, np.stack(known)]) if known else logits
        streams = [*wanting, *ready]
        drawing = [row for row, stream in enumerate(streams) if stream.limit]
        for stream in streams:
            stream.finish = None if stream.limit else "length"
        if drawing:
            whole = len(drawing) == len(streams)
            self._draw_all([streams[row] for row in drawing], logits if whole else logits[drawing])

    def _draw_all(self, streams: list[Stream], logits: NDArray[np.float32]) -> None:
        drawn = draw(logits, [stream.draw() for stream in streams])
        traced = [row for row, stream in enumerate(streams) if stream.job.alternatives is not None]
        if traced:
            most = max(streams[row].job.alternatives or 0 for row in traced)
            measured = measure(logits[traced], drawn.tokens[traced], most)
            for at, row in enumerate(traced):
                streams[row].note(measured, at)
        columns = (drawn.tokens, drawn.logprobs, drawn.rest, drawn.width)
        for stream, *taken in zip(streams, *(column.tolist() for column in columns), strict=True):
            stream.take(*taken, pieces=self._pieces)
