"""A Ray cluster of several machines on this one: `python -m tests.cluster.machines 3`.

Each machine is a raylet with one processor, and a node of its own as Ray sees it; the head has none.
Prints one line of JSON, then waits for the end of its input.
"""

import json
import sys

STORE = {"object_store_memory": 80 * 2**20}  # bytes: shards travel as files


def main(num: int) -> None:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": 0, **STORE}
    head["dashboard_agent_listen_port"] = None  # a free one: another Ray's may have the usual one
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [cluster.add_node(num_cpus=1, **STORE) for _ in range(num)]
        raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
        found = {
            "jobs": f"http://{cluster.head_node.webui_url}",
            "ray": cluster.address,
            "raylets": raylets,
        }
        print(json.dumps(found), flush=True)
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
