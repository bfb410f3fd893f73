"""The parameter map: what is inferred, what can be stated, and what is asked."""

import numpy as np
import pytest

from twingrad import To
from twingrad.map_code import entries
from twingrad.matching import match, matched
from twingrad.partners import Leaf, jax_tensors
from twingrad.ties import settle, trials

RANDOM = np.random.default_rng(0)


def _torch(**shapes):
    return [Leaf(name.replace("__", "."), shape, "Linear") for name, shape in shapes.items()]


def _values(leaves):
    return {leaf.path: RANDOM.normal(size=leaf.shape) for leaf in leaves}


def _given(torch, jax, names):
    """PyTorch's values, and JAX's tensors that hold them, after a way there and back."""
    partners = match(torch, jax, names)
    values = _values(torch)
    tensors = jax_tensors(partners, values, {leaf.path: leaf.shape for leaf in jax})
    assert {name: x.shape for name, x in tensors.items()} == {x.path: x.shape for x in jax}
    for p in partners:
        assert np.array_equal(p.of_jax(tensors[p.jax]), p.of_torch(values)), p
    return values, tensors


W = RANDOM.normal(size=(4, 6))
MAPS = {
    "axes": (To("w").axes(1, 0), (6, 4), lambda w: w.T),
    "transposed": (To("w").transposed(), (6, 4), lambda w: w.T),
    "as it is": (To("w").as_it_is(), (4, 6), lambda w: w),
    "reshape": (To("w").reshape(2, 12), (2, 12), lambda w: w.reshape(2, 12)),
    "flip": (To("w").axes(1, 0).flip(0), (6, 4), lambda w: w.T[::-1]),
    "permute": (To("w").permute([2, 0, 3, 1]), (4, 6), lambda w: w[[2, 0, 3, 1]]),
    "functions": (
        To("w").through(lambda w: 2 * w - 1, lambda w: (w + 1) / 2), (4, 6), lambda w: 2 * w - 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_a_word_of_the_map_goes_there_and_back(name):
    to, shape, expected = MAPS[name]
    partners = match([Leaf("a", (4, 6))], [Leaf("w", shape)], {"a": to})
    tensors = jax_tensors(partners, {"a": W}, {"w": shape})
    assert np.array_equal(tensors["w"], expected(W))
    assert np.allclose(partners[0].of_jax(tensors["w"]), W, atol=1e-15)


@pytest.mark.parametrize("name", MAPS)
def test_a_gradient_goes_through_the_map_by_the_chain_rule(name):
    """The change of a linear loss is the same by PyTorch's gradient and by JAX's."""
    to, shape, _ = MAPS[name]
    (p,) = match([Leaf("a", (4, 6))], [Leaf("w", shape)], {"a": to})
    jax_gradient, step = RANDOM.normal(size=shape), RANDOM.normal(size=(4, 6))
    torch_gradient = p.of_jax(jax_gradient, gradients=True)
    moved = p.to_jax(W + step) - p.to_jax(W)
    assert np.isclose((torch_gradient * step).sum(), (jax_gradient * moved).sum())
    assert np.allclose(p.to_jax(torch_gradient, gradients=True), jax_gradient)


def test_functions_that_mix_numbers_have_no_gradient():
    to = To("w").through(lambda w: np.cumsum(w, 0), lambda w: np.diff(w, axis=0, prepend=0))
    (p,) = match([Leaf("a", (4, 6))], [Leaf("w", (4, 6))], {"a": to})
    with pytest.raises(ValueError, match="more than move, scale and shift"):
        p.of_jax(W, gradients=True)


def test_a_tensor_is_cut_along_any_axis_in_parts_of_any_size():
    torch, jax = (
        _torch(qkv=(16, 6)),
        [Leaf(n, (6, s)) for n, s in zip("qkv", (8, 4, 4), strict=True)],
    )
    values, tensors = _given(torch, jax, {"qkv": To("q", "k", "v", sizes=(8, 4, 4))})
    assert np.array_equal(tensors["k"], values["qkv"][8:12].T)


def test_several_tensors_are_concatenated_or_stacked_in_one():
    torch = [Leaf("q.weight", (8, 6)), Leaf("k.weight", (4, 6)), Leaf("v.weight", (4, 6))]
    values, tensors = _given(
        torch, [Leaf("qkv.kernel", (6, 16))],
        {("q.weight", "k.weight", "v.weight"): To("qkv.kernel").axes(1, 0).concatenate(axis=1)},
    )  # fmt: skip
    assert np.array_equal(tensors["qkv.kernel"], np.concatenate([*values.values()]).T)
    layers = [Leaf(f"layers.{n}.fc.bias", (6,)) for n in range(12)]
    values, tensors = _given(
        layers, [Leaf("all.b", (6, 12))], {r"re:layers\.\d+\.fc\.bias": To("all.b").stack(axis=1)}
    )
    assert np.array_equal(tensors["all.b"][:, 10], values["layers.10.fc.bias"])


def test_two_biases_are_summed_in_one_and_each_has_its_gradient():
    torch = [Leaf("bias_ih", (8,)), Leaf("bias_hh", (8,))]
    jax = [Leaf(f"h{gate}.bias", (2,)) for gate in "ifgo"]
    to = To(*(leaf.path for leaf in jax)).sum()
    values, tensors = _given(torch, jax, {("bias_ih", "bias_hh"): to})
    assert np.array_equal(tensors["hg.bias"], (values["bias_ih"] + values["bias_hh"])[4:6])
    partners = match(torch, jax, {("bias_ih", "bias_hh"): to})
    same = RANDOM.normal(size=8)
    gradients = {"bias_ih": same, "bias_hh": same}
    assert np.allclose(partners[1].of_torch(gradients, gradients=True), same[2:4])


def test_a_pattern_names_a_family_and_an_entry_by_name_comes_first():
    torch = [Leaf(f"h.{n}.ln.{end}", (6,)) for n in (0, 1) for end in ("weight", "bias")]
    jax = [Leaf(f"block{n}.{end}", (6,)) for n in (0, 1) for end in ("gain", "shift")]
    names = {
        r"re:h\.(\d)\.ln\.weight": r"block\1.gain",
        r"re:h\.(\d)\.ln\.bias": r"block\1.shift",
        "h.0.ln.weight": "block0.shift",
        "h.0.ln.bias": "block0.gain",
    }
    pairs = {p.torch: p.jax for p in match(torch, jax, names)}
    assert pairs == {
        "h.0.ln.weight": "block0.shift", "h.0.ln.bias": "block0.gain",
        "h.1.ln.weight": "block1.gain", "h.1.ln.bias": "block1.shift",
    }  # fmt: skip


def test_a_changed_word_before_a_layers_number_does_not_hide_it():
    kinds = ("q_proj", "k_proj")
    torch = [Leaf(f"model.layers.{n}.self_attn.{k}.weight", (6, 6), "Linear", layout="out in")
             for n in range(3) for k in kinds]  # fmt: skip
    jax = [Leaf(f"layers.{n}.attn.{k}.kernel", (6, 6), "Linear", layout="in out")
           for n in range(3) for k in kinds]  # fmt: skip
    for p in match(torch, jax):
        assert p.jax == p.torch.replace("model.", "").replace("self_", "").replace(
            "weight", "kernel"
        )


def test_numbers_of_lists_that_count_differently_are_not_compared():
    """In a Sequential with activations 2 is the second layer, in a list of layers the third."""
    torch = [Leaf(f"{n}.weight", (6, 6), "Linear") for n in (0, 2, 4)]
    jax = [Leaf(f"layers.{n}.kernel", (6, 6), "Linear") for n in (0, 1, 2)]
    partners, missing, spare = matched(torch, jax)
    assert partners == []
    assert len(missing) == len(spare) == 3


def test_layers_of_a_scan_are_found_by_their_names():
    torch = [Leaf(f"layers.{n}.fc.weight", (6, 5), "Linear", layout="out in") for n in range(11)]
    jax = [Leaf("layers.fc.kernel", (11, 5, 6), "Dense", layout="in out")]
    values, tensors = _given(torch, jax, {})
    assert np.array_equal(tensors["layers.fc.kernel"][10], values["layers.10.fc.weight"].T)


@pytest.mark.parametrize(
    ("jax_layout", "turned"), [("out in", False), ("in out", True)], ids=["equinox", "flax"]
)
def test_a_square_weight_of_stock_layers_lies_as_their_libraries_have_it(jax_layout, turned):
    torch = [Leaf("fc.weight", (6, 6), "Linear", layout="out in")]
    jax = [Leaf("fc.weight", (6, 6), "Linear", layout=jax_layout)]
    values, tensors = _given(torch, jax, {})
    w = values["fc.weight"]
    assert np.array_equal(tensors["fc.weight"], w.T if turned else w)
    assert trials(match(torch, jax)) is None


def test_a_square_weight_lies_as_its_like_that_are_not_square():
    torch = [Leaf(f"fc{n}.weight", (n, 6), "Linear", layout="out in") for n in (5, 6)]
    jax = [Leaf(f"fc{n}.weight", (n, 6)) for n in (5, 6)]
    values, tensors = _given(torch, jax, {})
    assert np.array_equal(tensors["fc6.weight"], values["fc6.weight"])
    assert trials(match(torch, jax)) is None


def _square():
    torch = [Leaf("fc.weight", (6, 6), "Linear", layout="out in")]
    return match(torch, [Leaf("fc.matrix", (6, 6))], {"fc.weight": "fc.matrix"})


@pytest.mark.parametrize("turned", [False, True])
def test_a_tie_is_settled_by_running_both_ways(turned):
    ways = trials(_square())
    assert ways is not None
    (settled,), assumed = settle(ways, lambda p: float(bool(p[0].steps) != turned), "float64")
    assert bool(settled.steps) == turned
    assert settled.others == ()
    assert [name for name, _ in assumed] == (["fc.weight"] if turned else [])  # what is unlikely


def test_a_tie_in_which_no_way_agrees_is_asked_with_the_words_to_paste():
    ways = trials(_square())
    assert ways is not None
    with pytest.raises(ValueError, match="lie in several ways") as raised:
        settle(ways, lambda p: 0.1, "float64")
    line = '"fc.weight": To("fc.matrix").as_it_is(),  # or To("fc.matrix").axes(1, 0)'
    assert line in str(raised.value)


def test_scalars_and_axes_of_one_fit():
    values, tensors = _given([Leaf("act.weight", (1,))], [Leaf("act.negative_slope", ())],
                             {"act.weight": "act.negative_slope"})  # fmt: skip
    assert tensors["act.negative_slope"] == values["act.weight"][0]
    _given([Leaf("cls", (1, 1, 6))], [Leaf("cls", (6,))], {})


def test_what_needs_no_partner_may_be_named():
    torch = [Leaf("pe", (5, 6), optional=True), Leaf("mask", (5, 5), optional=True)]
    assert match(torch, []) == []
    (p,) = match(torch, [Leaf("position", (5, 6))], {"pe": "position"})
    assert (p.torch, p.jax) == ("pe", "position")
    assert match([], [Leaf("extra", (3,))], {None: ["extra"]}) == []


def test_a_refusal_lists_everything_by_shape_as_code():
    torch = [Leaf(f"a{n}.weight", (6,)) for n in range(9)]
    jax = [Leaf(f"b{n}.scale", (6,)) for n in range(1, 10)] + [Leaf("c.bias", (7,))]
    with pytest.raises(ValueError, match="no partner was found in JAX for a0") as raised:
        match(torch, jax)
    said = str(raised.value)
    assert all(f'"a{n}.weight": "",  # (6,)' in said for n in range(9))
    assert "# of this size JAX has b1.scale (6,), b2.scale (6,)" in said
    assert 'None: ["c.bias"],' in said


CODED = {
    ("q.weight", "k.weight"): To("qk.kernel").axes(1, 0).concatenate(axis=1),
    ("b1", "b2"): To("x.bias", "y.bias", sizes=(2, 4)).sum(),
    r"re:layers\.\d\.w": To("layers.w").stack(),
    "conv.weight": To("conv.kernel").axes(2, 3, 1, 0).flip(0, 1),
}


def test_the_code_of_a_map_states_the_same_map():
    torch = [
        Leaf("q.weight", (4, 6)), Leaf("k.weight", (3, 6)), Leaf("b1", (6,)), Leaf("b2", (6,)),
        Leaf("layers.0.w", (5, 5)), Leaf("layers.1.w", (5, 5)), Leaf("conv.weight", (3, 3, 3, 3)),
    ]  # fmt: skip
    jax = [
        Leaf("qk.kernel", (6, 7)), Leaf("x.bias", (2,)), Leaf("y.bias", (4,)),
        Leaf("layers.w", (2, 5, 5)), Leaf("conv.kernel", (3, 3, 3, 3)),
    ]  # fmt: skip
    partners = match(torch, jax, CODED)
    code = "\n".join(["{", *entries(partners), "}"])
    again = match(torch, jax, eval(code, {"To": To}))
    for one, other in zip(partners, again, strict=True):
        value = RANDOM.normal(size=one.shape)
        assert (one.name, one.jax, one.place, one.cut) == (
            other.name, other.jax, other.place, other.cut
        )  # fmt: skip
        assert np.array_equal(one.to_jax(value), other.to_jax(value))


WRONG = {
    "no name of PyTorch's": ({"b": "w"}, "names has 'b', which the PyTorch model has not"),
    "no name of JAX's": ({"a": "v"}, "names has 'v', which the JAX model has not"),
    "no such pattern": ({"re:b.*": "w"}, "which no PyTorch name matches"),
    "no pattern": ({"re:(": "w"}, "which is no regular expression"),
    "another size": ({"a": To("w").reshape(5, 5)}, "reshape(5, 5)"),
    "other axes": ({"a": To("w").axes(0, 2)}, "is no order of the axes"),
    "parts that do not divide": ({"a": ["w", "w", "w"]}, "its first axis does not divide"),
    "two in one, with no word how": ({("a", "c"): "w"}, "say how, with .stack()"),
    "a stack of too few": ({("a", "c"): To("w").stack()}, "stacks 2 tensors"),
    "functions that fail": ({"a": To("w").through(lambda x: x @ x, abs)}, 'names has To("w")'),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_map_is_one_sentence_that_names_it(kind):
    names, words = WRONG[kind]
    torch = [Leaf("a", (4, 6)), Leaf("c", (4, 6), optional=True)]
    with pytest.raises(ValueError, match="names") as raised:
        match(torch, [Leaf("w", (4, 6))], names)
    assert words in str(raised.value)
