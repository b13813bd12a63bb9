"""Ranks: joining them, and spreading a model over them with FSDP2.

`torchrun` and Ray Train each start a process a rank; a single process is a group of one, so that
everything after it is the same.
"""

import os
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard


def join() -> torch.device:
    """Join the process group, unless that is done, and name this rank's device."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        if "RANK" in os.environ:
            dist.init_process_group(backend)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def layers_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The transformer's layers: the longest list of modules in it."""
    lists = [list(m) for m in model.modules() if isinstance(m, torch.nn.ModuleList)]
    return max(lists, key=len)


def spread(model: torch.nn.Module, device: torch.device, precision: str) -> torch.nn.Module:
    """The model on its device, its fp32 weights and what AdamW keeps of them spread over all ranks.

    With "bf16", layers are computed in bfloat16 from a copy of the weights that is there as long as
    the layer is at work; the fp32 weights are what the optimizer changes, as updates of 1e-6 would
    be lost in bfloat16.
    """
    if device.type == "cpu" and precision == "fp32" and dist.get_world_size() == 1:
        return model
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    dtype = torch.bfloat16 if precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    settings: dict[str, Any] = {"mesh": mesh, "mp_policy": policy}
    for layer in layers_of(model):
        fully_shard(layer, **settings)
    return fully_shard(model, **settings)


def compile_layers(model: torch.nn.Module) -> None:
    """Fuse what a layer computes between its matrix products, for any number of tokens."""
    for layer in layers_of(model):
        layer.compile(dynamic=True)


def largest(*values: int) -> list[int]:
    """The largest of each value over all ranks."""
    tensor = torch.tensor(values)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor.tolist()
