import threading

import pytest
import torch
from torch.utils.data import DataLoader

from gptexp.data.prefetcher import Prefetcher

CPU = torch.device("cpu")


class Numbers(torch.utils.data.Dataset):
    def __getitem__(self, index):
        if index == 7:
            raise ValueError("seven")
        return index


def loader(count, workers=0):
    return DataLoader(Numbers(), sampler=range(count), batch_size=None, num_workers=workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_come_in_order_and_one_ahead(workers):
    prepared, is_ahead = [], threading.Event()

    def prepare(number):
        prepared.append((number, threading.current_thread() is threading.main_thread()))
        if number == 1:
            is_ahead.set()
        return 10 * number

    batches = Prefetcher(loader(4, workers), prepare, CPU)
    assert len(batches) == 4
    iterator = iter(batches)
    assert next(iterator) == 0
    assert is_ahead.wait(60)  # while the first is in use
    assert list(iterator) == [10, 20, 30]
    assert prepared == [(number, False) for number in range(4)]
    assert list(batches) == [0, 10, 20, 30]


def test_an_error_comes_with_its_batch_and_the_thread_ends():
    iterator = iter(Prefetcher(loader(9), lambda number: number, CPU))
    assert [next(iterator) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="seven"):
        next(iterator)
    iterator = iter(Prefetcher(loader(3), lambda number: number, CPU))
    next(iterator)
    iterator.close()
    assert not [thread for thread in threading.enumerate() if "prefetcher" in thread.name]
