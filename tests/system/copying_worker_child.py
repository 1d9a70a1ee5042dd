"""`cluster_worker_child.py` on a host of another name. Arguments: that name, then those of the other one."""

from __future__ import annotations

import sys

from cluster_worker_child import main

from ergates.drivers import machine

if __name__ == "__main__":
    name = sys.argv.pop(1)
    machine.host_name = lambda: name
    main()
