"""That there are kernels to test: elsewhere a lack of them only skips."""

import os
import shutil
import sys

import pytest

from tiedlm import native


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere compilers may lack OpenMP")
@pytest.mark.skipif(os.environ.get("TIEDLM_NATIVE") == "0", reason="they are turned off")
@pytest.mark.skipif(not shutil.which(os.environ.get("CC", "cc")), reason="there is no compiler")
def test_where_there_is_a_compiler_there_are_kernels():
    assert native.why_not() == ""
