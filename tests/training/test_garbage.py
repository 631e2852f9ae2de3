import gc
import weakref
from contextlib import suppress

import torch

from gptexp.training.garbage import freeze_garbage


class Cycle:
    def __init__(self):
        self.itself = self


def test_on_a_gpu_the_collector_leaves_alone_what_exists_until_training_ends():
    with freeze_garbage(torch.device("cpu")):
        assert gc.get_freeze_count() == 0
    old = Cycle()
    is_alive = weakref.ref(old)
    with suppress(KeyError), freeze_garbage(torch.device("cuda")):
        del old
        gc.collect()
        assert is_alive()
        raise KeyError
    gc.collect()
    assert not is_alive()
