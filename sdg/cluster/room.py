"""What the machines of a cluster have room for, and what is missing."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import ray
from ray._private.state import state as cluster_state  # alone knows what an autoscaler may add

from sdg.errors import UserError
from sdg.stage import Resources

GB = 2**30


@dataclass(frozen=True)
class Machine:
    """What a machine has for workers; `count` machines of the kind, where more may be started."""

    cpus: float
    gpus: float
    memory_gb: float
    node: str = ""
    count: int = 1

    def fits(self, wanted: Resources) -> int:
        """Workers that it has room for."""
        room = [
            int(there // need)
            for need, there in (
                (wanted.num_cpus, self.cpus),
                (wanted.num_gpus, self.gpus),
                (wanted.memory_gb, self.memory_gb),
            )
            if need
        ]
        return min(room, default=sys.maxsize)

    def __str__(self) -> str:
        return _listed(self.cpus, self.gpus, self.memory_gb)


@dataclass(frozen=True)
class Need:
    """What a part of a run wants of a cluster."""

    what: str  # as messages call it
    worker: Resources


def machines() -> list[Machine]:
    """The cluster's machines that are there."""
    return [
        Machine(
            cpus=node["Resources"].get("CPU", 0),
            gpus=node["Resources"].get("GPU", 0),
            memory_gb=node["Resources"].get("memory", 0) / GB,
            node=node["NodeID"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def machines_at_most() -> list[Machine]:
    """The machines that an autoscaler may have running at once; none where there is none."""
    config = cluster_state.get_cluster_config()
    return [
        Machine(
            cpus=group.resources.get("CPU", 0),
            gpus=group.resources.get("GPU", 0),
            memory_gb=group.resources.get("memory", sys.maxsize) / GB,
            count=group.max_count if group.max_count >= 0 else sys.maxsize,
        )
        for group in (config.node_group_configs if config else [])
    ]


def fitting(wanted: Resources, there: Sequence[Machine]) -> int:
    """Such workers that the machines have room for; each worker is on one machine."""
    return sum(machine.fits(wanted) * machine.count for machine in there)


def check_needs(needs: Sequence[Need], there: Sequence[Machine]) -> None:
    """Refuse a run for which the machines don't suffice. Its stages work one after another, so each
    need is held against the whole cluster.

    Raises:
        UserError: one line for one need that is not met, a list for several.
    """
    missing = list(dict.fromkeys(line for need in needs if (line := _missing(need, there))))
    if len(missing) == 1:
        raise UserError(missing[0])
    if missing:
        raise UserError(
            f"the cluster is too small for {len(missing)} parts of the run:\n"
            + "\n".join(f"  - {line}" for line in missing)
        )


def _missing(need: Need, there: Sequence[Machine]) -> str:
    worker, fit = need.worker, fitting(need.worker, there)
    if fit >= (worker.replicas or 1):
        return ""
    if not fit:
        largest = max(there, key=lambda m: (m.gpus >= worker.num_gpus, m.cpus, m.memory_gb))
        short = _listed(
            max(0, worker.num_cpus - largest.cpus),
            max(0, worker.num_gpus - largest.gpus),
            max(0, worker.memory_gb - largest.memory_gb),
        )
        return (
            f"{need.what} needs {describe(worker)} for one worker, and no machine has that: the "
            f"largest of {_number(there)} has {largest}, so {short} is missing; take a bigger "
            f"machine or a smaller model"
        )
    wanted = worker.replicas or 1
    more = wanted - fit
    short = _listed(more * worker.num_cpus, more * worker.num_gpus, more * worker.memory_gb)
    return (
        f"{need.what} needs {wanted} workers of {describe(worker)} each, and the cluster's "
        f"{_number(there)} have room for {fit}: {short} is missing; take more machines or fewer "
        f"replicas"
    )


def _number(there: Sequence[Machine]) -> str:
    num = sum(machine.count for machine in there)
    return f"{num} machine{'s' * (num != 1)}"


def describe(wanted: Resources) -> str:
    """What a worker takes, in words."""
    return _listed(wanted.num_cpus, wanted.num_gpus, wanted.memory_gb)


def _listed(cpus: float, gpus: float, memory_gb: float) -> str:
    parts = [f"{gpus:g} GPU" * bool(gpus), f"{cpus:g} CPU" * bool(cpus)]
    parts += [f"{memory_gb:.1f} GB of memory" * (memory_gb > 0)]
    return ", ".join(part for part in parts if part) or "nothing"
