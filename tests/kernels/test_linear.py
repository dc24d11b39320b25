"""Products: the C++ tiles and what FixedLinear chooses, against float64, and bits that depend on the row alone."""

import pytest
import torch

from dnagrinder_kernels import FixedLinear, gated_activation, row_block
from dnagrinder_kernels.cpu import native
from dnagrinder_kernels.cpu.build import supported_instruction_sets
from dnagrinder_kernels.linear import CPU_ROWS, packing_pays

DTYPES = [torch.float32, torch.bfloat16]
needs_tiles = pytest.mark.skipif(
    not native.serves_linear(torch.zeros(32, 32, dtype=torch.bfloat16)), reason="no C++ compiler or no processor with AMX"
)


def random(*shape, dtype=torch.bfloat16, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def product(x, weight, bias, activation=None):
    """The definition, step by step in the dtype at hand."""
    found = x @ weight.T if bias is None else x @ weight.T + bias
    return found if activation is None else gated_activation(found, activation)


def assert_as_exact(found, x, weight, bias, activation=None):
    """At most twice the error of plain PyTorch in the same dtype."""
    exact = product(x.double(), weight.double(), None if bias is None else bias.double(), activation)
    allowed = 2 * (product(x, weight, bias, activation).double() - exact).abs().max()
    assert found.shape == exact.shape
    assert (found.double() - exact).abs().max() <= max(allowed, 1e-6)


@needs_tiles
@pytest.mark.parametrize("rows", [1, 15, 17, 32, 1023])
@pytest.mark.parametrize(("features", "width"), [(32, 32), (96, 160), (1024, 768)])  # the last in two helpings of panels
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_tiles_are_as_exact_as_plain_pytorch(rows, features, width, biased, gated):
    x, weight = random(rows, features), random(width, features, seed=1)
    bias = random(width, seed=2) if biased else None
    found = native.linear(x, native.pack_linear(weight, bias, gated=gated))
    assert_as_exact(found, x, weight, bias, "swiglu" if gated else None)


@needs_tiles
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [100, 1023])  # threads share columns, rows
def test_bits_of_a_row_depend_on_the_row_alone(rows, threads, gated):
    features, width = 768, 1056
    packed = native.pack_linear(random(width, features, seed=1), random(width, seed=2), gated=gated)
    row = random(1, features, seed=3)
    alone = native.linear(row, packed)[0]
    x = random(rows, features, seed=4)
    x[::7] = row
    x[1::7] = torch.nan
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = native.linear(x, packed)
    finally:
        torch.set_num_threads(before)
    assert (found[::7] == alone).all()
    assert found[1::7].isnan().all()


@needs_tiles
@pytest.mark.parametrize("gated", [True, False])
def test_rows_of_wider_tensors_are_read_and_written_in_place(gated):
    wide, weight = random(50, 128), random(64, 96, seed=1)
    packed = native.pack_linear(weight, gated=gated)
    x, columns = wide[:, 32:], 32 if gated else 64
    assert torch.equal(native.linear(x.T.contiguous().T, packed), native.linear(x, packed))
    frame = torch.full((52, columns + 32), 7.0, dtype=torch.bfloat16)
    native.linear(x, packed, frame[1:-1, 16:-16])
    assert torch.equal(frame[1:-1, 16:-16], native.linear(x.contiguous(), packed))
    frame[1:-1, 16:-16] = 7
    assert (frame == 7).all()


@needs_tiles
def test_no_rows_give_no_rows():
    assert native.linear(random(0, 32), native.pack_linear(random(64, 32))).shape == (0, 64)


@pytest.mark.parametrize(
    "weight",
    [random(32, 32, dtype=torch.float32), random(48, 32), random(32, 48)],
    ids=["float32", "48 outputs", "48 features"],
)
def test_tiles_do_not_serve_other_weights(weight):
    assert not native.serves_linear(weight)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [None, "swiglu", "geglu"])
@pytest.mark.parametrize("instruction_set", [*supported_instruction_sets(), "none"])
def test_the_chosen_product_is_as_exact_as_plain_pytorch(instruction_set, activation, dtype, monkeypatch):
    if instruction_set == "none":
        monkeypatch.setattr("dnagrinder_kernels.cpu.native.library", lambda: None)
    else:
        monkeypatch.setenv("DNAGRINDER_CPU", instruction_set)
    for width in (192, 72):  # 72: no whole tiles
        x, weight, bias = (random(*shape, dtype=dtype, seed=width) for shape in ((CPU_ROWS, 64), (width, 64), (width,)))
        assert_as_exact(FixedLinear(weight, bias, activation)(x), x, weight, bias, activation)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["chosen", "packed", "torch"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("features", "width"), [(64, 96), (256, 768)])
@pytest.mark.parametrize("activation", [None, "swiglu"])
def test_a_row_has_the_same_bits_at_every_place(dtype, kind, threads, features, width, activation, monkeypatch):
    if kind != "chosen":
        monkeypatch.setattr("dnagrinder_kernels.cpu.native.serves_linear", lambda _: False)
        monkeypatch.setattr("dnagrinder_kernels.linear.packing_pays", lambda _: kind == "packed")
    weight, bias = random(width, features, dtype=dtype), random(width, dtype=dtype, seed=1)
    linear = FixedLinear(weight, bias, activation)
    row = random(1, features, dtype=dtype, seed=2)
    before = torch.get_num_threads()
    with torch.inference_mode():
        alone = linear(torch.cat([row, torch.zeros(CPU_ROWS - 1, features, dtype=dtype)]))[0]
        torch.set_num_threads(threads)
        try:
            x = random(CPU_ROWS, features, dtype=dtype, seed=3)
            x[::37] = row
            found = linear(x)
            into = linear(x, out=torch.empty_like(found))
        finally:
            torch.set_num_threads(before)
    assert torch.equal(found, into)
    assert (found[::37] == alone).all()
    expected = product(row.float(), weight.float(), bias.float(), activation)[0]
    torch.testing.assert_close(alone.float(), expected, rtol=2e-2, atol=8e-2)


@needs_tiles
@pytest.mark.parametrize("x", [random(3, 32, dtype=torch.float32), random(3, 64)], ids=["float32", "64 features"])
def test_tiles_refuse_rows_of_another_kind(x):
    with pytest.raises(ValueError, match=r"bfloat16 \(rows, 32\)"):
        native.linear(x, native.pack_linear(random(64, 32)))


def test_a_product_of_another_shape_is_refused():
    linear = FixedLinear(random(8, 8))
    with pytest.raises(ValueError, match=f"{row_block(torch.device('cpu'))} rows"):
        linear(random(3, 8))


def test_packing_is_chosen_by_dtype_and_processor_alone():
    assert packing_pays(random(8, 8).double()) is False
    assert packing_pays(random(8, 8)) == packing_pays(random(64, 32))
