from types import SimpleNamespace

import pytest
import torch

from gptexp.config.schema import TrainerConfig
from gptexp.distributed.devices import check_launched_devices
from gptexp.distributed.process_group import ProcessGroup
from gptexp.errors import UserError

CPU = torch.device("cpu")


def test_machines_have_equally_many_processes_where_each_has_a_copy_of_the_model():
    group = SimpleNamespace(local_size=4, all_gather=lambda size: [8] * 8 + [size] * 4)
    with pytest.raises(UserError, match="hsdp: some machines have 4 processes and others 8; start"):
        check_launched_devices(TrainerConfig(strategy="hsdp"), group, CPU)
    check_launched_devices(TrainerConfig(strategy="fsdp"), group, CPU)
    check_launched_devices(TrainerConfig(strategy="hsdp"), ProcessGroup(), CPU)
