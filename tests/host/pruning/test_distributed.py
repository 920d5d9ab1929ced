"""Two data-parallel processes prune as one process does with all the batches, each with its share."""

import socket
from types import SimpleNamespace

import torch
from torch import nn

from obert_edge.host.pruning import prunable_weights, prune_one_shot
from obert_edge.host.pruning.sharding import assign_owners
from obert_edge.host.pruning.step import PruningStep

COMMON = {"sparsity": 0.7, "pattern": "2x1"}
METHODS = {
    "obert": {"block_size": 8, "dampening": 1e-4, "rescorings": 2},
    "movement": {},
    "wanda": {},
    "sparsegpt": {},
}


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
    return [{key: torch.randn(4, 16, generator=generator) for key in "xy"} for _ in range(9)]


def _prune(method, batches):
    model = _Encoder()
    report = prune_one_shot(model, batches, criterion=method, **COMMON, **METHODS[method])
    weights = {name: weight.detach() for name, weight in prunable_weights(model).items()}
    return {"weights": weights, "gradients": report.gradients, "loss_increase": report.loss_increase}


def _prune_share(rank, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    scored = []
    score = PruningStep.score
    PruningStep.score = lambda self, fishers: (scored.append(list(fishers)), score(self, fishers))[1]
    share = _batches()[rank::2]  # of nine: five here, four there
    torch.save({**{m: _prune(m, share) for m in METHODS}, "scored": scored}, f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def test_processes_add_up_their_gradients_and_each_has_its_share_of_the_fisher_blocks(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_prune_share, args=(port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2))
    for method in METHODS:
        alone = _prune(method, _batches())
        for name, weight in alone["weights"].items():
            assert torch.equal(first[method]["weights"][name], second[method]["weights"][name])
            assert torch.equal(first[method]["weights"][name] == 0, weight == 0)
            assert torch.allclose(first[method]["weights"][name], weight, atol=1e-5)
    assert first["obert"]["gradients"] == second["obert"]["gradients"] == 9
    assert first["obert"]["loss_increase"] == second["obert"]["loss_increase"]
    names = list(_prune("obert", _batches())["weights"])
    assert sorted(first["scored"] + second["scored"]) == sorted([name] for name in names)


def test_owners_share_the_blocks_evenly():
    encoder = {f"{layer}.{i}": 1 + 3 * (i > 3) for layer in range(12) for i in range(6)}  # as in BERT
    for processes in (1, 2, 3, 4, 8):
        owners = assign_owners(encoder, processes)
        loads = [sum(encoder[name] for name in encoder if owners[name] == r) for r in range(processes)]
        assert max(loads) - min(loads) <= 4
        assert list(owners) == list(encoder)
