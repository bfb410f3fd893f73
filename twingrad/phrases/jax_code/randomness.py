"""Random numbers, in JAX."""

import jax
import jax.numpy as jnp


def same_seed():
    def draw():
        key = jax.random.key(0)
        return jax.random.normal(key, (3,))

    return jnp.array_equal(draw(), draw())


def independent_draws():
    key, other = jax.random.split(jax.random.key(0))
    noise = jax.random.normal(key, (3,))
    more = jax.random.normal(
        other, (3,)
    )  # with the same key it would be the same numbers
    return jnp.array_equal(noise, more)


def number_of_a_step(step):
    def draw(step):
        key = jax.random.fold_in(jax.random.key(1000), step)
        return jax.random.normal(key, (3,))

    return (
        jnp.array_equal(draw(step), draw(step)),
        jnp.array_equal(draw(step), draw(step + 1)),
    )


def normal_numbers():
    x = 2 + 3 * jax.random.normal(jax.random.key(0), (100, 200))
    return x.mean(), x.std()


def uniform_numbers():
    x = jax.random.uniform(jax.random.key(0), (100, 200), minval=1, maxval=3)
    return x.mean(), x.std(), x.min() >= 1, x.max() < 3


def whole_numbers():
    x = jax.random.randint(jax.random.key(0), (20_000,), 2, 5)
    return x.mean(), x.min(), x.max()


def shuffle(x):
    return jnp.sort(jax.random.permutation(jax.random.key(0), x))


def sample_tokens(logits):
    tokens = jax.random.categorical(jax.random.key(0), logits, shape=(20_000,))
    return jnp.bincount(tokens, length=4) / 20_000


def without_replacement():
    drawn = jax.random.choice(jax.random.key(0), 10, (4,), replace=False)
    return (jnp.diff(jnp.sort(drawn)) > 0).all()


def coin_flips():
    heads = jax.random.bernoulli(jax.random.key(0), 0.3, (20_000,))
    return heads.mean()


def different_in_each_example(x):
    def noisy(key, row):
        return row + 0 * jax.random.normal(key, row.shape), jax.random.normal(
            key
        )

    keys = jax.random.split(jax.random.key(0), len(x))
    rows, noise = jax.vmap(noisy)(keys, x)
    return rows, (jnp.diff(jnp.sort(noise)) > 0).all()


def keep_and_restore():
    key = jax.random.key(0)
    first = jax.random.normal(key, (3,))
    return jnp.array_equal(first, jax.random.normal(key, (3,)))
