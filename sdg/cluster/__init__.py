"""The only module that drives Ray: a pool of workers that run a stage on shards.

Workers are plain Ray actors that live through all stages. Ray Data's actor pool does the same work,
but starting one costs 3.6 s a stage on two cores, and it restarts a crashing actor for ever without
saying on which rows; here a shard's attempts are counted and a new stage costs a message.

    room.py     what the machines have room for
    worker.py   what runs in a worker
    pool.py     workers that are given shards, and are replaced when they die
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import ray

from sdg.cluster.pool import MAX_ATTEMPTS, Pool, StageError
from sdg.cluster.room import Machine, Need, check_needs, fitting, machines, machines_at_most
from sdg.cluster.worker import Job
from sdg.errors import UserError
from sdg.stage import Resources

__all__ = ["MAX_ATTEMPTS", "Cluster", "Job", "Need", "Pool", "StageError"]

OBJECT_STORE_BYTES = 100 * 2**20  # shards travel as files, so Ray's store holds messages only


class Cluster:
    """A Ray cluster: an own one on this machine, or the one that RAY_ADDRESS names."""

    def __init__(self, num_cpus: int) -> None:
        """Start or join it.

        Args:
            num_cpus: processors to use, of this machine or of the cluster that is joined; 0: all
                of the cluster's.
        """
        address = os.environ.get("RAY_ADDRESS")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if address:
            _join(address)
        else:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=True,
            )
        self._num_cpus = num_cpus
        self._pool: Pool | None = None

    def check(self, needs: Sequence[Need]) -> None:
        """Refuse, at once, a run for which this cluster can never suffice.

        Raises:
            UserError: says for every need what is missing.
        """
        workers = Need("the run (workers:)", Resources(replicas=self._num_cpus or None))
        check_needs([workers, *needs], self._machines(Resources()))

    def check_memory(self, wanted_gb: float) -> None:
        """Refuse a cluster whose machines have less memory, all together.

        Raises:
            UserError: says how much is missing.
        """
        there = sum(machine.memory_gb * machine.count for machine in self._machines(Resources()))
        if wanted_gb > there:
            raise UserError(
                f"memory_gb: {wanted_gb:g} GB wanted, but the cluster has {there:.1f} GB: "
                f"{wanted_gb - there:.1f} GB is missing"
            )

    @contextmanager
    def pool(self, wanted: Resources | None) -> Iterator[Pool]:
        """Workers with what is wanted. Ordinary ones (None) are shared by stages; an engine with
        demands of its own gets the whole cluster for as long as it works. Machines that were lost
        since `check` are done without, or waited for."""
        if wanted is None:
            ordinary = Resources(replicas=self._num_cpus or None)
            self._pool = self._pool or Pool(self._fitting(ordinary), ordinary)
            yield self._pool
            return
        if self._pool:
            self._pool.close()
            self._pool = None
        if wanted.gpu_if_any and any(machine.gpus >= 1 for machine in machines()):
            wanted = replace(wanted, num_gpus=max(1, wanted.num_gpus))
        pool = Pool(self._fitting(wanted), wanted)
        try:
            yield pool
        finally:
            pool.close()

    def _machines(self, wanted: Resources) -> list[Machine]:
        """Those that are there, or those that an autoscaler may start, whichever have more room."""
        return max(machines(), machines_at_most(), key=lambda there: fitting(wanted, there))

    def _fitting(self, wanted: Resources) -> int:
        """How many such workers the cluster has room for, at least one, at most as asked."""
        most = max(1, fitting(wanted, self._machines(wanted)))
        return min(most, wanted.replicas or most)

    def close(self) -> None:
        """End the workers and leave the cluster."""
        if self._pool:
            self._pool.close()
            self._pool = None
        ray.shutdown()


def _join(address: str) -> None:
    """Join a cluster.

    Raises:
        UserError: there is none, or it does not let this process in.
    """
    try:
        ray.init(address=address, log_to_driver=True)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.AuthenticationError) as error:
        said = " ".join(str(error).split())[:300]
        raise UserError(
            f"RAY_ADDRESS={address}: no Ray cluster could be joined there ({said})"
        ) from None
