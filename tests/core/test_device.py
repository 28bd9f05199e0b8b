import numpy as np
import pytest
import torch

from tmnre import Analysis, Stage, Training
from tmnre.device import CPU, batches_on, generator_on, with_tensors
from tmnre.rounds import Rounds


class Nested:
    def __init__(self):
        self.tensor = torch.arange(3)
        self.deep = {"a": [torch.ones(2), (torch.zeros(1), "text")]}
        self.shared = self.tensor


def test_tensors_are_replaced_wherever_they_are_and_the_original_stays():
    before = Nested()
    after = with_tensors(before, lambda tensor: tensor + 1)
    assert after.tensor.tolist() == [1, 2, 3] and after.shared.tolist() == [1, 2, 3]
    assert after.deep["a"][0].tolist() == [2.0, 2.0] and after.deep["a"][1][0].tolist() == [1.0]
    assert after.deep["a"][1][1] == "text"
    assert before.tensor.tolist() == [0, 1, 2] and before.deep["a"][0].tolist() == [1.0, 1.0]


def test_batches_are_made_where_training_is_unless_several_processes_train():
    assert batches_on(Training(accelerator="cpu")) == CPU
    assert batches_on(Training(accelerator="gpu", devices=2, strategy="ddp_fork")) == CPU
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert batches_on(Training(accelerator="auto")).type == expected


def test_a_device_has_its_generator_from_the_processors():
    generator = torch.Generator().manual_seed(0)
    assert generator_on(CPU, generator) is generator
    if torch.cuda.is_available():
        first, second = (generator_on(torch.device("cuda"), torch.Generator().manual_seed(0)) for _ in range(2))
        a, b = (torch.rand(4, generator=g, device="cuda") for g in (first, second))
        assert torch.equal(a, b)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is one")
def test_a_gpu_that_is_not_there_is_asked_for_in_vain(tmp_path, linear_gaussian):
    analysis = Analysis(linear_gaussian, {"x": np.zeros(4)}, ["a"], [Stage(100)], training=Training(accelerator="gpu"))
    with pytest.raises(ValueError, match="training.accelerator is gpu, but PyTorch finds none on this machine"):
        Rounds(analysis, tmp_path)
