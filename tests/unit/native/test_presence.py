"""There are kernels to test. Elsewhere, tests are only skipped if there are none."""

import os
import shutil
import sys

import pytest

from tiedlm import native


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere compilers may lack OpenMP")
@pytest.mark.skipif(os.environ.get("TIEDLM_NATIVE") == "0", reason="they are turned off")
@pytest.mark.skipif(not shutil.which(os.environ.get("CC", "cc")), reason="there is no compiler")
def test_kernels_exist_if_there_is_a_compiler():
    assert native.why_not() == ""
