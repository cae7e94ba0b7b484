"""For all tests and notebooks: a ledger of their own, and no teacher's notebooks for nbval.

The teacher's, and the template, are run by ``tests/lessons``, which looks at what their checks say.
"""

import atexit
import os
import shutil
import tempfile

collect_ignore_glob = ["notebooks/teacher/*", "notebooks/template/*"]

if "PIPELAB_HOME" not in os.environ:
    os.environ["PIPELAB_HOME"] = tempfile.mkdtemp(prefix="pipelab-tests-")
    atexit.register(shutil.rmtree, os.environ["PIPELAB_HOME"], ignore_errors=True)
