"""Threads work ahead by a bounded number of items; results keep the items' order."""

import itertools
import threading
import time

import pytest

from benchmark.workers import map_ordered

THREADS = [1, 2, 7]


@pytest.mark.parametrize("num_threads", THREADS)
def test_results_keep_the_order_of_the_items(num_threads):
    def slow_first(i):
        time.sleep(0.02 if i == 0 else 0)
        return i * i

    found = list(map_ordered(slow_first, range(50), num_threads))
    assert found == [i * i for i in range(50)]


@pytest.mark.parametrize("num_threads", THREADS)
def test_items_are_read_as_they_are_needed(num_threads):
    read = []
    endless = (read.append(i) or i for i in itertools.count())
    results = map_ordered(lambda i: i, endless, num_threads)
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    assert len(read) <= 3 + 4 * num_threads
    results.close()


def test_no_more_run_at_once_than_there_are_threads():
    now, most, lock = [0], [0], threading.Lock()

    def count(i):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1

    list(map_ordered(count, range(20), 3))
    assert 2 <= most[0] <= 3


@pytest.mark.parametrize("num_threads", THREADS)
def test_an_error_ends_it_and_what_waits_is_not_begun(num_threads):
    begun = []

    def fail_at_five(i):
        begun.append(i)
        time.sleep(0.005)
        if i == 5:
            raise ValueError("five")
        return i

    results = map_ordered(fail_at_five, range(10_000), num_threads)
    with pytest.raises(ValueError, match="five"):
        list(results)
    assert len(begun) <= 5 + 5 * num_threads


@pytest.mark.parametrize("num_threads", THREADS)
def test_no_items_give_no_results(num_threads):
    assert list(map_ordered(str, [], num_threads)) == []


@pytest.mark.parametrize("end", ["close", "interrupt"])
def test_what_runs_is_told_to_stop_before_it_is_waited_for(end):
    told, ended = threading.Event(), []
    results = map_ordered(
        lambda i: i and ended.append(told.wait(20)), range(9), 2, told.set
    )
    assert next(results) == 0
    if end == "close":
        results.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt)
    assert ended
    assert all(ended)
