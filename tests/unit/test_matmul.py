import pytest
import torch

from tiedlm import matmul, native
from tiedlm.arithmetic import arithmetic
from tiedlm.matmul import kinds, weights
from tiedlm.native import routes, ways


def relative_error(c, a, b):
    """|c - a b| / (|a| |b|), the largest: about 1e-7 in float32, 1e-3 with bfloat16 operands."""
    a, b = a.double(), b.double()
    return ((c.double() - a @ b).abs() / (a.abs() @ b.abs())).max().item()


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matmul_writes_or_adds_into_a_float32_result(dtype, accumulate, monkeypatch):
    monkeypatch.setattr(ways, "_PART", 7)  # two rows, so that there are three parts
    a, b = torch.randn(5, 7).to(dtype), torch.randn(7, 3).to(dtype)
    out = torch.ones(5, 3)
    result = matmul.matmul(a, b, out, accumulate=accumulate)
    assert result is out
    tolerance = 1e-6 if dtype == torch.float32 else 5e-2
    expected = (a.double() @ b.double()).float() + (1 if accumulate else 0)
    torch.testing.assert_close(out, expected, atol=tolerance, rtol=tolerance)


LAYOUTS = [(False, False), (False, True), (True, False), (True, True)]


def laid_out(x, transposed):
    """Return a matrix with the same numbers that lies in memory column by column."""
    return x.t().contiguous().t() if transposed else x


@pytest.mark.parametrize("way", list(ways.WAYS))
@pytest.mark.parametrize(("a_transposed", "b_transposed"), LAYOUTS)
@pytest.mark.parametrize(
    ("dtype", "out_dtype"),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
    ],
)
def test_every_way_writes_and_adds_the_same_product(
    way, a_transposed, b_transposed, dtype, out_dtype, monkeypatch
):
    if way == "compiled" and (dtype != torch.float32 or native.why_not()):
        pytest.skip(native.why_not() or "compiled products are float32")
    monkeypatch.setattr(ways, "BLOCK", 4)
    monkeypatch.setattr(ways, "_EVEN", 5)
    a, b = torch.randn(9, 16).to(dtype), torch.randn(16, 11).to(dtype)
    factors, exact = (laid_out(a, a_transposed), laid_out(b, b_transposed)), a.double() @ b.double()
    # A part of a wider matrix, without the columns that b has for a GEMM alone.
    wide = torch.full((9, 13), 7.0, dtype=out_dtype)
    rtol = 1e-5 if dtype == torch.float32 else 2e-2
    for out in (wide[:, :10], torch.full((9, 11), 7.0, dtype=out_dtype)):
        for times in (1, 2):
            assert ways.WAYS[way](*factors, out, times == 2) is out
            expected = times * exact[:, : out.shape[1]]
            torch.testing.assert_close(out.double(), expected, atol=4 * rtol, rtol=rtol)
    assert bool((wide[:, 10:] == 7).all())


def test_onednn_is_given_weights_without_gaps():
    # With gaps it takes its readable implementation, which is a thousand times as slow.
    wide = torch.randn(6, 10)
    for dense in (wide, wide.t(), wide[:3], wide.t()[:, :3]):
        assert ways._dense(dense) is dense
    for gaps in (wide[:, :5], wide.t()[:5], wide[:, ::2]):
        assert ways._dense(gaps).is_contiguous()
        assert torch.equal(ways._dense(gaps), gaps)


def test_onednn_meets_few_shapes_however_many_tokens_a_call_has(monkeypatch):
    shapes = set()

    def linear(x, weight, bias=None):
        shapes.add((*x.shape, *weight.shape, bias is None))
        return torch.nn.functional.linear(x, weight, bias)

    monkeypatch.setattr(ways, "onednn_linear", linear)
    for tokens in range(193, 256):
        hidden, weight, bias = torch.randn(tokens, 4), torch.randn(9, 4), torch.randn(9)
        grad = hidden @ weight.t()
        ways.WAYS["oneDNN"](hidden, weight.t(), torch.empty(tokens, 9), False)
        ways.WAYS["oneDNN"](grad.t(), hidden, torch.empty(9, 4), False)
        layer = kinds.LINEAR["oneDNN"](hidden, weight, bias)
        torch.testing.assert_close(layer, grad + bias)
        assert layer.is_contiguous()
    assert len(shapes) == 3 * 2


@pytest.mark.parametrize("way", list(ways.WAYS))
def test_matmul_makes_large_products_the_chosen_way_and_small_ones_as_pytorch_does(
    way, monkeypatch
):
    called = []
    monkeypatch.setattr(kinds, "_LEAST_PRODUCT", 9 * 16 * 11)
    monkeypatch.setattr(routes, "choose", lambda *_: routes.Choice(way, {}, {}))
    for name in ways.WAYS:
        monkeypatch.setitem(ways.WAYS, name, lambda *given, name=name: called.append(name))
    a, b, out = torch.randn(9, 16), torch.randn(16, 11), torch.empty(9, 11)
    matmul.matmul(a, b, out)
    assert called == [way]
    matmul.matmul(a[:8], b, out[:8])
    matmul.matmul(a.double(), b.double(), out.double())
    with arithmetic(route="default"):
        matmul.matmul(a, b, out)
    monkeypatch.setenv("TIEDLM_NATIVE", "0")
    matmul.matmul(a, b, out)
    assert called == [way, *["plain"] * 4]


def test_rows_of_a_batch_do_not_change_the_kind_and_lengths_of_rows_do():
    def kind(rows, hidden, words):
        h, grad = torch.empty(rows, hidden), torch.empty(rows, words)
        return kinds.kind_of(h, torch.empty(words, hidden).t(), h.dtype), kinds.kind_of(
            grad.t(), h, h.dtype
        )

    assert kind(700, 650, 1000) == kind(650, 650, 1000)
    assert None not in kind(700, 650, 1000)
    assert all(map(lambda a, b: a != b, kind(700, 650, 1000), kind(700, 651, 1000)))
    assert all(map(lambda a, b: a != b, kind(700, 650, 1000), kind(700, 650, 1001)))


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6])
def test_products_of_few_rows_are_measured(rows, monkeypatch):
    monkeypatch.setattr(kinds, "_LEAST_PRODUCT", 0)
    hidden, words, grad = torch.empty(rows, 16), torch.empty(11, 16), torch.empty(rows, 11)
    for factors in ((hidden, words.t()), (grad, words), (grad.t(), hidden)):
        kind = kinds.kind_of(*factors, torch.float32)
        measured = routes.measure(kind.trial())
        assert measured.errors["plain"] <= kinds.FP32_LEVEL
        assert measured.milliseconds.keys() == measured.errors.keys()


def test_what_is_measured_of_a_huge_product_is_a_part_of_the_same_alignment():
    hidden, words = torch.empty(65536, 100), torch.empty(300_001, 100)
    kind = kinds.kind_of(hidden, words.t(), torch.float32)
    assert (kind.M, kind.K) == (508, 100)
    assert 8192 <= kind.P < 8192 + 64
    assert kind.P % 64 == 300_001 % 64


@pytest.mark.parametrize(("width", "most"), [(100, 8192 + 64), (650, 4096 + 64), (4096, 4096 + 64)])
def test_what_is_timed_has_few_tokens_and_enough_words_of_the_same_alignment(width, most):
    words, tokens = 8192 + 33, 508

    def kind(a_transposed, b_transposed, *sides):
        dtype = torch.float32
        return kinds.Kind(dtype, dtype, a_transposed, b_transposed, False, False, *sides)

    _, _, long = scores = kind(False, True, tokens, width, words).measured_sides()
    assert scores == (252, width, long)
    assert kind(False, False, tokens, words, width).measured_sides() == (252, long, width)
    assert kind(True, False, words, tokens, width).measured_sides() == (long, 252, width)
    assert 2 * ways.BLOCK <= long < most
    assert long % 64 == 33


def test_what_is_timed_lies_in_memory_as_the_whole_does():
    grad, hidden = torch.empty(300, 9000), torch.empty(300, 700)
    whole = kinds.kind_of(grad.t(), hidden, torch.float32)
    seen = []

    def way(a, b, out, accumulate):
        seen.append((a.stride(), b.stride(), out.stride(), a.shape[0]))
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ways.WAYS, "plain", way)
        whole.trial().ways["plain"]()()
    ((a, b, out, rows),) = seen
    assert rows < whole.M
    assert (a, b, out) == ((1, whole.M), (700, 1), (700, 1))


def test_every_way_that_adds_is_measured_as_exact_too():
    dtype = torch.float32
    kind = kinds.Kind(dtype, dtype, False, True, True, True, 64, 64, 128)
    errors = routes.measure(kind.trial()).errors
    assert len(errors) > 1
    assert max(errors.values()) <= kinds.FP32_LEVEL, errors


def test_the_default_type_does_not_decide_which_ways_are_measured():
    kind = kinds.Kind(torch.float32, torch.float32, False, True, False, False, 60, 64, 64)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for trial in (kind.trial(), kind.trial_with_bias()):
            assert routes.measure(trial).errors.keys() == trial.ways.keys()
    finally:
        torch.set_default_dtype(before)


def test_the_default_device_does_not_change_the_error_of_a_product():
    a, b = torch.randn(60, 7), torch.randn(7, 50)
    with torch.device("meta"):
        assert routes.error_of(a @ b, a, b) < 1e-6


@pytest.mark.parametrize("transposed", [False, True])
def test_a_drawn_matrix_is_random_of_its_type_and_the_same_every_time(transposed):
    state = torch.get_rng_state()
    for dtype in (torch.float32, torch.bfloat16):
        found = kinds.drawn(300, 500, transposed, dtype, 512)
        assert (found.shape, found.dtype) == ((300, 500), dtype)
        assert max(found.stride()) == 512
        assert ways.is_transposed(found) == transposed
        assert torch.equal(found, kinds.drawn(300, 500, transposed, dtype, 512))
        assert 0.9 < found.float().std() < 1.1
        assert torch.linalg.matrix_rank(found.float()) == 300
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("way", ["plain", "oneDNN"])
def test_linear_adds_the_bias_whatever_the_way(way, monkeypatch):
    monkeypatch.setattr(kinds, "_LEAST_PRODUCT", 0)
    monkeypatch.setattr(routes, "choose", lambda *_: routes.Choice(way, {}, {}))
    x, weight, bias = torch.randn(5, 7), torch.randn(3, 7), torch.randn(3)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        given = [tensor.to(dtype) for tensor in (x, weight, bias)]
        expected = torch.nn.functional.linear(*given)
        torch.testing.assert_close(matmul.linear(*given), expected)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_adder_adds_the_product_with_the_weight_it_was_given(dtype, rows, transposed):
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(33, 17, generator=generator).to(dtype)
    if transposed:
        weight = weight.t().contiguous().t()
    wide = torch.promote_types(dtype, torch.float32)
    with arithmetic(route="fastest"):
        add = matmul.adder(weight, rows)
        for seed in (2, 3):  # the same laid-out weight serves several products
            a = torch.randn(rows, 17, generator=generator.manual_seed(seed)).to(dtype)
            out = torch.ones(rows, 33, dtype=wide)
            add(a, out)
            level = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 4e-3}[dtype]
            assert relative_error(out - 1, a, weight.t()) < level + 1e-6 * (wide != dtype)


@pytest.mark.parametrize("layout", ["plain", "MKL", "oneDNN"])
@pytest.mark.parametrize("transposed", [False, True])
def test_every_layout_of_a_weight_gives_the_same_product(layout, transposed, monkeypatch):
    if layout != "plain" and not weights._can_pack(layout, torch.float32):
        pytest.skip(f"this PyTorch cannot lay out weights for {layout}")
    monkeypatch.setattr(weights, "_LEAST_STEP", 0)
    monkeypatch.setattr(routes, "choose", lambda *_: routes.Choice(layout, {}, {}))
    weight = laid_out(torch.randn(33, 17), transposed)
    for rows in (1, 20):
        multiply = matmul.multiplier(weight, rows)
        for _ in range(2):
            a = torch.randn(rows, 17)
            assert relative_error(multiply(a), a, weight.t()) < 1e-6


def test_small_weights_are_laid_out_for_the_library_of_the_usual_products():
    weight = torch.randn(33, 17)
    with arithmetic(route="default"):
        if weights._can_pack("MKL", torch.float32):
            assert weights._layout(weight, 20) == "MKL"
            assert weights._layout(weight.t(), 20) == "plain"


def test_layouts_are_measured_for_the_window_that_they_serve(monkeypatch):
    monkeypatch.setattr(weights, "_LEAST_STEP", 0)
    asked = []

    def choose(kind, usual, trial):
        asked.append((kind, usual, trial()))
        return routes.Choice("plain", {}, {})

    monkeypatch.setattr(routes, "choose", choose)
    assert weights._layout(torch.randn(33, 17), 20) == "plain"
    ((kind, usual, trial),) = asked
    assert "16 x 17 with a weight 33 x 17" in kind
    assert usual == next(iter(trial.ways))
    assert set(trial.ways) == {"plain", "MKL", "oneDNN"}
    assert trial.uses == 35
    assert trial.error(trial.ways["plain"]()()) < trial.level


def test_adder_without_the_operations_that_lay_out_weights_gives_the_same(monkeypatch):
    weight, a = torch.randn(8, 5).bfloat16(), torch.randn(3, 5).bfloat16()
    with_them, without = torch.zeros(3, 8), torch.zeros(3, 8)
    matmul.adder(weight, 3)(a, with_them)
    monkeypatch.setattr(weights, "_can_pack", lambda library, dtype: False)
    matmul.adder(weight, 3)(a, without)
    torch.testing.assert_close(with_them, without, rtol=1e-2, atol=1e-2)


def test_the_probe_refuses_operations_that_are_missing_or_inexact(monkeypatch):
    class Missing:
        def __getattr__(self, name):
            raise AttributeError(name)

    weights._can_pack.cache_clear()
    monkeypatch.setattr(torch.ops, "mkldnn", Missing(), raising=False)
    assert not weights._can_pack("oneDNN", torch.float32)
    weights._can_pack.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr(kinds, "FP32_LEVEL", 0.0)
    assert not weights._can_pack("oneDNN", torch.float32)
    weights._can_pack.cache_clear()
