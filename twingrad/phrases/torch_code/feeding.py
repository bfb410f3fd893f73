"""Batches, devices, transfers and memory, in PyTorch."""

import tempfile
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, TensorDataset


def batches(x, y):
    loader = DataLoader(TensorDataset(x, y), batch_size=2, drop_last=True)
    return [(inputs * targets).sum() for inputs, targets in loader]


def shuffled_batches(x):
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(x, batch_size=2, shuffle=True, generator=generator)
    epochs = [torch.cat(list(loader)) for _ in range(2)]
    same = torch.equal(*epochs)
    return [epoch.sort().values for epoch in epochs], same


def pad_a_batch(x):
    rows = [x[:2], x[:4], x[:1]]
    batch = pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return batch, torch.arange(batch.shape[1]) < lengths[:, None]


def to_a_device(x):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    y = x.to(device)
    return y.cpu() * 2, y.device.type == device.type


def without_copying(x):
    array = x.numpy()  # anything that has __dlpack__
    return torch.from_dlpack(array)


def bytes_of_an_array(x):
    return x.nbytes, x.element_size()


def memory_of_the_device(x):
    if not torch.cuda.is_available():
        return x.sum(), True
    torch.cuda.reset_peak_memory_stats()
    total = x.cuda().sum()
    return total.cpu(), torch.cuda.max_memory_allocated() > 0


def profile(x):
    with torch.profiler.profile() as profiler:
        total = (x @ x.T).sum()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"  # for Perfetto
        profiler.export_chrome_trace(str(file))
        return total, file.stat().st_size > 0
