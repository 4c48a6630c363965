"""A Ray cluster of several nodes on this machine, bound to the loopback interface: `ray_cluster`."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from helpers.shared import IN_CI

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray then stays at 127.0.0.1, on every system
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS": "0",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}
HOST = "127.0.0.1"
_STORE_BYTES = 80 << 20


class Nodes:
    """A cluster whose head has no cores, and whose other nodes have one each.

    Attributes:
        address: ``127.0.0.1:PORT``.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.address: str = cluster.address
        self.nodes: list[Any] = []

    def add(self) -> None:
        """Add a node."""
        node = {"num_cpus": 1, "node_ip_address": HOST, "object_store_memory": _STORE_BYTES}
        self.nodes.append(self._cluster.add_node(**node))

    def kill(self) -> None:
        """Kill the oldest node at once, with all its processes."""
        self._cluster.remove_node(self.nodes.pop(0), allow_graceful=False)


def require_ray() -> None:
    """Skip the test if Ray is not installed; in CI, fail."""
    try:
        import ray  # noqa: F401
    except ImportError:
        if IN_CI or sys.version_info < (3, 14):
            pytest.fail("Ray is not installed; CI must have it")
        pytest.skip("Ray has no release for this Python")


@contextmanager
def ray_cluster(nodes: int) -> Iterator[Nodes]:
    """Run a cluster, and connect this process to it."""
    with mock.patch.dict(os.environ, ENVIRONMENT):
        require_ray()
        import ray
        import ray._private.ray_constants as constants
        from ray.cluster_utils import Cluster

        with mock.patch.object(constants, "ENABLE_RAY_CLUSTER", False):
            system = {
                "health_check_initial_delay_ms": 0,
                "health_check_period_ms": 300,
                "health_check_failure_threshold": 5,
            }
            head = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": HOST,
                    "object_store_memory": _STORE_BYTES, "_system_config": system}  # fmt: skip
            cluster = Cluster(initialize_head=True, head_node_args=head)
            try:
                running = Nodes(cluster)
                for _ in range(nodes):
                    running.add()
                ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
                yield running
            finally:
                ray.shutdown()
                cluster.shutdown()
