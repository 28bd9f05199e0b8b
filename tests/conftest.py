"""What all tests share."""

import pytest
import torch


def pytest_collection_modifyitems(items):
    """What is marked as long comes first."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small networks on busy cores are many times slower with two threads than with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
