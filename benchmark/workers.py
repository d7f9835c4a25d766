"""Threads that wait for endpoints, a bounded number at a time."""

import collections
import concurrent.futures
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

_AHEAD = 4  # items in flight or done for each thread, so that a slow one holds up none

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    num_threads: int,
    stop: Callable[[], None] = lambda: None,
) -> Generator[Result]:
    """Yields `function(item)` in the order of the items, read as they are needed.

    With one thread everything runs in the caller's. The first exception in that
    order is raised; what is running then ends first, what is waiting is dropped. So
    it is with a Ctrl-C, and when the caller closes the generator early.

    Args:
      function: called from `num_threads` threads.
      items: may be endless; a few for each thread are read ahead.
      num_threads: at least 1.
      stop: called before what is running is waited for, to make it short.
    """
    if num_threads <= 1:
        yield from map(function, items)
        return
    pending: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= _AHEAD * num_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BaseException:
            for future in pending:
                future.cancel()
            stop()
            raise
