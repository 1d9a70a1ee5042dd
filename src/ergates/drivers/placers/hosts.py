"""Which hosts to place workers on: `cluster/host_list.py` reads them, for experiments too."""

from ergates.cluster.host_list import RANGE_MAX, Host, named_hosts, read_hosts

__all__ = ["RANGE_MAX", "Host", "named_hosts", "read_hosts"]
