"""Two data-parallel processes prune as one process does with all the batches."""

import socket
from types import SimpleNamespace

import torch
from torch import nn

from obert_edge.pruning import prunable_weights, prune_one_shot

OPTIONS = {"sparsity": 0.7, "pattern": "2x1", "block_size": 8, "dampening": 1e-4}


class _Encoder(nn.Module):
    """One feed-forward pair under Bert's names; plain torch, so that processes start fast."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.ModuleDict({"intermediate": nn.Module(), "output": nn.Module()})
        layer["intermediate"].dense = nn.Linear(16, 32)
        layer["output"].dense = nn.Linear(32, 16)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList([layer])

    def forward(self, x, y):
        layer = self.encoder.layer[0]
        hidden = layer["output"].dense(torch.tanh(layer["intermediate"].dense(x)))
        return SimpleNamespace(loss=(hidden - y).square().mean())


def _batches():
    generator = torch.Generator().manual_seed(1)
    return [{key: torch.randn(4, 16, generator=generator) for key in "xy"} for _ in range(8)]


def _prune(batches):
    model = _Encoder()
    report = prune_one_shot(model, batches, **OPTIONS)
    assert report.sparsity > 0.69
    return {name: weight.detach() for name, weight in prunable_weights(model).items()}


def _prune_share(rank, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    torch.save(_prune(_batches()[rank::2]), f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def test_processes_add_up_their_gradients(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_prune_share, args=(port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2))
    for name, weight in _prune(_batches()).items():
        assert torch.equal(first[name], second[name])
        assert torch.equal(first[name] == 0, weight == 0)
        assert torch.allclose(first[name], weight, atol=1e-5)
