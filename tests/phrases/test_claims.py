"""What the notes say of mistakes: that it raises, is ignored or differs, as the note has it."""

import numpy as np
import pytest

from bench.harness import frameworks

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(frameworks.installed, frameworks.NAMES)), reason="it needs both frameworks"
    ),
]


def test_an_index_past_the_end_raises_or_takes_the_last():
    import jax.numpy as jnp
    import torch

    with pytest.raises(IndexError):
        torch.arange(4)[torch.tensor(9)]
    assert jnp.arange(4)[9] == 3
    assert jnp.arange(4).at[9].set(7).tolist() == [0, 1, 2, 3]


def test_adding_at_an_index_twice_adds_once_in_pytorch():
    import torch

    x = torch.zeros(2)
    x[torch.tensor([1, 1])] += 1.0
    assert x.tolist() == [0, 1]


def test_ties_share_the_gradient_or_not():
    import jax
    import jax.numpy as jnp
    import torch

    x = torch.ones(2, requires_grad=True)
    assert torch.autograd.grad(x.amax(), x)[0].tolist() == [0.5, 0.5]
    assert sorted(torch.autograd.grad(x.max(dim=0).values, x)[0].tolist()) == [0, 1]
    assert jax.grad(jnp.max)(jnp.ones(2)).tolist() == [0.5, 0.5]


def test_shapes_that_depend_on_numbers_are_refused_under_jit():
    import jax
    import jax.numpy as jnp

    with pytest.raises(jax.errors.NonConcreteBooleanIndexError):
        jax.jit(lambda x: x[x > 0])(jnp.ones(3))
    with pytest.raises(jax.errors.TracerBoolConversionError):
        jax.jit(lambda x: x if x.sum() > 0 else -x)(jnp.ones(3))


def test_a_while_loop_has_a_forward_derivative_alone():
    import jax
    import jax.numpy as jnp

    def halved(x):
        return jax.lax.while_loop(lambda x: x > 1, lambda x: x / 2, x)

    assert jax.jvp(halved, (8.0,), (1.0,))[1] == 0.125
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jax.grad(halved)(jnp.float32(8.0))


def test_a_global_is_a_constant_of_a_compiled_program():
    import jax

    settings = {"scale": 2.0}
    scaled = jax.jit(lambda x: x * settings["scale"])
    assert scaled(1.0) == 2
    settings["scale"] = 3.0
    assert scaled(1.0) == 2


def test_a_donated_array_cannot_be_used():
    import jax
    import jax.numpy as jnp

    x = jnp.ones(4)
    jax.jit(lambda x: x + 1, donate_argnums=0)(x)
    with pytest.raises(RuntimeError, match="deleted"):
        x.sum()


def test_a_list_of_layers_is_hidden_or_refused():
    import torch
    from flax import nnx

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [torch.nn.Linear(2, 2)]

    class Refused(nnx.Module):
        def __init__(self):
            self.layers = [nnx.Linear(2, 2, rngs=nnx.Rngs(0))]

    assert list(Hidden().parameters()) == []
    with pytest.raises(ValueError, match=r"nnx\.List"):
        Refused()


def test_names_that_a_model_has_not_are_told_by_pytorch_alone():
    import jax.numpy as jnp
    import torch
    from flax import nnx

    told = torch.nn.Linear(2, 2).load_state_dict({"wieght": torch.ones(2, 2)}, strict=False)
    assert told.unexpected_keys == ["wieght"]
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    before = model.kernel[...]
    nnx.update(model, {"wieght": jnp.ones((2, 2))})  # nothing is raised
    assert model.kernel[...].tolist() == before.tolist()


def test_a_token_out_of_range_raises_or_gives_nan():
    import jax.numpy as jnp
    import torch
    from flax import nnx

    with pytest.raises(IndexError):
        torch.nn.Embedding(4, 2)(torch.tensor(9))
    assert jnp.isnan(nnx.Embed(4, 2, rngs=nnx.Rngs(0))(jnp.array(9))).all()


def test_an_edge_falls_into_the_lower_bucket_or_the_upper_one():
    import jax.numpy as jnp
    import torch

    assert torch.bucketize(torch.tensor(1.0), torch.tensor([0.0, 1.0])) == 1
    assert jnp.searchsorted(jnp.array([0.0, 1.0]), 1.0) == 1
    assert jnp.digitize(1.0, jnp.array([0.0, 1.0])) == 2


def test_division_of_integers_by_zero_raises_or_gives_a_number():
    import jax.numpy as jnp
    import torch

    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        _ = torch.tensor(3) // torch.tensor(0)
    assert (jnp.array(3) // jnp.array(0)).dtype == jnp.int32  # whatever its value is


def test_shapes_that_broadcast_by_mistake_are_refused_by_optax():
    import jax.numpy as jnp
    import optax

    with pytest.raises((ValueError, TypeError, AssertionError)):
        optax.squared_error(jnp.ones((3, 1)), jnp.ones(3))


def test_promotion_keeps_python_numbers_weak_and_numpys_not():
    import jax.numpy as jnp

    x = jnp.ones(2, jnp.bfloat16)
    assert (x * 2.5).dtype == jnp.bfloat16
    assert (x * np.float32(2.5)).dtype == jnp.float32


def test_nearest_exact_is_what_jax_calls_nearest():
    import jax
    import torch

    image = np.arange(7.0, dtype=np.float32).reshape(1, 1, 7)
    theirs = jax.image.resize(image, (1, 1, 3), "nearest")
    ours = torch.nn.functional.interpolate(torch.tensor(image), size=3, mode="nearest-exact")
    other = torch.nn.functional.interpolate(torch.tensor(image), size=3, mode="nearest")
    assert ours.tolist() == theirs.tolist() != other.tolist()


def test_a_ddp_is_gone_before_the_group_of_processes_is(monkeypatch):
    """One that outlived it would join Gloo's threads with Python's lock, for which they wait."""
    import gc

    import torch
    from torch.nn.parallel import DistributedDataParallel

    from twingrad.phrases.torch_code import parallel

    destroy, alive = parallel.dist.destroy_process_group, []

    def destroy_and_look():
        alive.append([one for one in gc.get_objects() if type(one) is DistributedDataParallel])
        destroy()

    monkeypatch.setattr(parallel.dist, "destroy_process_group", destroy_and_look)
    x, y, weight = torch.ones(4, 3), torch.ones(4, 1), torch.ones(1, 3)
    parallel.data_parallel(x, y, weight)
    assert alive == [[]]
