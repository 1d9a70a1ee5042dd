"""A stand-in for a worker, for tests of what places workers: announces itself in a folder, and leaves when it is told to.

Arguments: the folder, who placed it. It starts a program in a session of its own first, as a careless task would.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

folder, placed_by = Path(sys.argv[1]), sys.argv[2]
name = placed_by.replace("/", "_").replace(":", "_") + f"-{os.getpid()}"
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "broken" in sys.argv:
    print("erg: this worker is broken on purpose", flush=True)
    sys.exit(1)
subprocess.Popen(["sleep", "1000"], start_new_session=True)
record = folder / f"{name}.json"
growing = folder / f"{name}.new"
growing.write_text(json.dumps({"id": name, "placed_by": placed_by, "pid": os.getpid(), "host": os.uname().nodename}))
growing.rename(record)
while not (folder / f"{name}.drain").exists():
    time.sleep(0.05)
record.unlink()
