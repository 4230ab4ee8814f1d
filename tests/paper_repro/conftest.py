import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Models this small run faster on one thread, and without competing for cores much faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
