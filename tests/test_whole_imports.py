"""PyTorch is loaded whole, whenever Stop is pressed; and what stops is said afterwards."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys, threading, time, types
from pipelab import whole_imports

whole_imports.begin()
whole_imports.begin()
print(len([f for f in sys.meta_path if f is whole_imports._Finder]))

def press():
    while "{module}" not in sys.modules:
        time.sleep(0.0005)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=press, daemon=True).start()
try:
    import {package}
    time.sleep(30)
except KeyboardInterrupt:
    print("stopped")
import {package}
print({package}.zeros(2).sum().item())
"""


@pytest.mark.parametrize(
    ("package", "module"), [("torch", "torch"), ("torch", "torch.nn"), ("numpy", "numpy")]
)
def test_stop_is_held_back_until_a_package_is_loaded(package, module):
    script = SCRIPT.format(package=package, module=module)
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ran.stdout.split() == ["1", "stopped", "0.0"], ran.stderr
