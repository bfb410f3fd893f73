"""Random numbers, in PyTorch."""

import torch


def same_seed():
    def draw():
        generator = torch.Generator().manual_seed(0)
        return torch.randn(3, generator=generator)

    return torch.equal(draw(), draw())


def independent_draws():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3, generator=generator)
    more = torch.randn(3, generator=generator)  # the generator has moved on
    return torch.equal(noise, more)


def number_of_a_step(step):
    def draw(step):
        generator = torch.Generator().manual_seed(1000 + int(step))
        return torch.randn(3, generator=generator)

    return torch.equal(draw(step), draw(step)), torch.equal(
        draw(step), draw(step + 1)
    )


def normal_numbers():
    generator = torch.Generator().manual_seed(0)
    x = 2 + 3 * torch.randn(100, 200, generator=generator)
    return x.mean(), x.std()


def uniform_numbers():
    generator = torch.Generator().manual_seed(0)
    x = torch.empty(100, 200).uniform_(1, 3, generator=generator)
    return x.mean(), x.std(), x.min() >= 1, x.max() < 3


def whole_numbers():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2, 5, (20_000,), generator=generator)
    return x.double().mean(), x.min(), x.max()


def shuffle(x):
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(x), generator=generator)
    return x[order].sort().values


def sample_tokens(logits):
    generator = torch.Generator().manual_seed(0)
    probabilities = logits.softmax(dim=-1)
    tokens = torch.multinomial(
        probabilities, 20_000, replacement=True, generator=generator
    )
    return torch.bincount(tokens, minlength=4) / 20_000


def without_replacement():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randperm(10, generator=generator)[:4]
    return len(drawn.unique()) == 4


def coin_flips():
    generator = torch.Generator().manual_seed(0)
    heads = torch.rand(20_000, generator=generator) < 0.3
    return heads.float().mean()


def different_in_each_example(x):
    def noisy(row):
        return row + 0 * torch.randn_like(row), torch.randn(())

    rows, noise = torch.vmap(noisy, randomness="different")(x)
    return rows, len(noise.unique()) == len(x)


def keep_and_restore():
    before = torch.get_rng_state()
    first = torch.randn(3)
    torch.set_rng_state(before)
    return torch.equal(first, torch.randn(3))
