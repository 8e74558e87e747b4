"""What tests share: a tiny corpus, and a cache that is not the user's."""

import random

import pytest

from tiedlm import matmul, native, workspace


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Encoded corpora go to a folder of the test session."""
    monkeypatch.setenv("TIEDLM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def own_process_settings():
    """Commands that are called inside this process choose its route of products, and its memory."""
    switch = matmul._switch()
    before = switch and switch.fp32_precision
    yield
    if switch:
        switch.fp32_precision = before
    if workspace._is_reusing:
        workspace.stop_reuse_of_freed_memory()
    native._is_on = False


@pytest.fixture(params=["pytorch", "compiled"])
def pointwise(request):
    """Run a test with PyTorch's pointwise work, and again with the compiled kernels."""
    if request.param == "compiled" and not native.enable():
        pytest.skip(native.why_not())
    return request.param


def write_corpus(folder, lines=(120, 30, 30), seed=0):
    """Write train/valid/test.txt: sentences of a small grammar, which a model can learn."""
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
