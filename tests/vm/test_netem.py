"""A cluster over a bad network: netem delays, drops and doubles packets between a store and its workers."""

from __future__ import annotations

import guest
import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

SCRIPT = f"""
export HOME=/root PATH={guest.ROOT}/.venv/bin:$PATH:/usr/sbin:/sbin
set -e
mkdir -p /tmp/w /run/netns; cd /tmp/w
ip netns add far
ip link add near type veth peer name far0
ip link set far0 netns far
ip addr add 10.9.0.1/24 dev near; ip link set near up
nsenter --net=/run/netns/far ip addr add 10.9.0.2/24 dev far0
nsenter --net=/run/netns/far ip link set far0 up
nsenter --net=/run/netns/far ip link set lo up
tc qdisc add dev near root netem delay 40ms 20ms loss 5% duplicate 2% reorder 10%
redis-server --bind 10.9.0.1 --port 7000 --protected-mode no --dir /tmp/w --appendonly yes --save '' >/dev/null &
until redis-cli -h 10.9.0.1 -p 7000 ping; do sleep 0.2; done
export ERGATES_STORE=redis://10.9.0.1:7000
seq 1 60 | sed 's/.*/echo & >> done.log/' > tasks.txt
erg submit tasks.txt
nsenter --net=/run/netns/far erg worker start -j 2 --state /tmp/far --until-empty > far.log 2>&1 &
erg worker start -j 2 --state /tmp/near --until-empty > near.log 2>&1 &
erg wait j1 --timeout 600
erg status j1
echo LINES $(sort -n done.log | uniq -c | awk '$1 == 1' | wc -l)
grep -c registered far.log
"""


def test_every_task_is_done_once_over_a_lossy_network() -> None:
    answer = guest.run(SCRIPT, memory_mib=3072)
    assert answer.exit_code == 0, answer.output[-4000:]
    assert "LINES 60" in answer.output, answer.output[-4000:]
