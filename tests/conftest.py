"""Share fixtures: a tiny corpus, and a cache apart from the user's."""

import os
import random
import tempfile

import pytest

from tiedlm import native
from tiedlm.arithmetic import arithmetic
from tiedlm.networks import network


def pytest_configure(config):
    """Keep caches in a folder of the test session, and Hugging Face's hub away from it."""
    global _cache
    _cache = tempfile.TemporaryDirectory(prefix="tiedlm-tests-", ignore_cleanup_errors=True)
    os.environ["TIEDLM_CACHE"] = _cache.name
    os.environ["HF_HUB_OFFLINE"] = "1"  # the hub reads it once, when it is imported
    for name in ("no_proxy", "NO_PROXY"):  # tests start servers on this machine
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch):
    """Restore the session's cache before each test."""
    monkeypatch.setenv("TIEDLM_CACHE", _cache.name)


@pytest.fixture
def own_networks(monkeypatch):
    """Forget the networks that a test registers."""
    for registry in ("_BUILDERS", "_OPTIONS"):
        monkeypatch.setattr(network, registry, dict(getattr(network, registry)))


@pytest.fixture
def quiet_transformers():
    """Keep transformers from writing bars and warnings."""
    logging = pytest.importorskip("transformers").utils.logging
    logging.disable_progress_bar()
    logging.set_verbosity_error()


@pytest.fixture(params=["pytorch", "compiled"])
def pointwise(request):
    """Run a test twice: with PyTorch's pointwise work and with the compiled kernels."""
    with arithmetic(kernels=request.param == "compiled") as used:
        if request.param == "compiled" and not used.kernels:
            pytest.skip(native.why_not())
        yield request.param


def write_corpus(folder, lines=(120, 30, 30), seed=0):
    """Write train/valid/test.txt with sentences of a small grammar that a model can learn."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in zip(("train", "valid", "test"), lines, strict=True):
        text = "".join(
            f"{rng.choice(['the', 'a'])} {rng.choice(['cat', 'dog', 'bird'])} "
            f"{rng.choice(['sees', 'hears'])} {rng.choice(['the', 'a'])} "
            f"{rng.choice(['fish', 'man', 'house'])} {rng.choice(['today', 'now'])} .\n"
            for _ in range(count)
        )
        (folder / f"{split}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory):
    """Return a folder with train/valid/test.txt of about a thousand words."""
    return write_corpus(tmp_path_factory.mktemp("tiny"))
