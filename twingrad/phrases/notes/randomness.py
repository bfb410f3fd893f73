"""Notes on random numbers."""

from twingrad.phrases.phrase import Family, Phrase, integers, normal, number

_MOMENTS = 0.05
_BECAUSE = (
    "20,000 draws in each: the standard error of a mean is 1/141 of the deviation, and 0.05 is "
    "about five of those of the difference"
)

FAMILY = Family(
    name="randomness",
    title="Random numbers and keys",
    phrases=(
        Phrase(
            name="same_seed",
            title="The same seed, the same numbers",
            words="manual_seed seed key PRNGKey generator reproducible",
            differs="A generator of PyTorch has a state that each draw changes. A key of JAX is "
            "an argument: the same key gives the same numbers wherever and whenever it is used. "
            "The numbers of the two frameworks differ, whatever the seed.",
            costs="JAX's default generator, Threefry, is slower than PyTorch's Philox; "
            "`jax.random.key(0, impl='rbg')` is quicker, and less well behaved under `vmap`.",
        ),
        Phrase(
            name="independent_draws",
            title="Draw twice",
            words="split key reuse independent generator next",
            differs="In PyTorch the second draw differs by itself. In JAX a key is split, and "
            "each part is used once; reusing it is the commonest mistake, and gives noise that is "
            "correlated, without an error. `jax.debug_key_reuse(True)` finds it.",
            costs="A few integer operations. `nnx.Rngs` counts for you: `rngs.dropout()` is a new "
            "key at each call.",
        ),
        Phrase(
            name="number_of_a_step",
            title="The numbers of a step, without carrying a state",
            words="fold_in step seed resume epoch worker",
            inputs={"step": number(7)},
            differs="`fold_in` makes a key of a key and a number: the key of step 7 needs no six "
            "before it. In PyTorch a generator is seeded anew.",
            costs="A run that was interrupted goes on with the same numbers, with no state saved. "
            "PyTorch's `get_rng_state` has to be saved with the checkpoint.",
        ),
        Phrase(
            name="normal_numbers",
            title="Normal numbers",
            words="randn normal gaussian mean std distribution moments",
            bound=_MOMENTS,
            because=_BECAUSE,
            differs="Mean and deviation are arguments of `torch.normal`; in JAX one scales. The "
            "shape is one tuple in JAX. Default dtype float32 in both.",
            costs="The same.",
        ),
        Phrase(
            name="uniform_numbers",
            title="Uniform numbers",
            words="rand uniform uniform_ range",
            bound=_MOMENTS,
            because=_BECAUSE,
            differs="Both leave out the upper end.",
            costs="The same.",
        ),
        Phrase(
            name="whole_numbers",
            title="Random integers",
            words="randint integers high exclusive",
            bound=_MOMENTS,
            because=_BECAUSE,
            differs="The upper end is left out in both; the shape comes before the ends in JAX.",
            costs="The same.",
        ),
        Phrase(
            name="shuffle",
            title="Shuffle",
            words="randperm permutation shuffle order",
            inputs={"x": integers(9, below=100)},
            differs="`jax.random.permutation` takes an array, or a number as `randperm` does.",
            costs="JAX sorts random keys; with `independent=True` each row is shuffled by itself.",
        ),
        Phrase(
            name="sample_tokens",
            title="Draw from a distribution over classes",
            words="multinomial categorical logits sampling gumbel temperature",
            inputs={"logits": normal(4)},
            bound=_MOMENTS,
            because=_BECAUSE,
            differs="A false friend: `torch.multinomial` takes probabilities, `categorical` "
            "logits. Both draw class numbers; `jax.random.multinomial` counts.",
            costs="JAX adds Gumbel noise to every logit and takes the largest: a number for each "
            "class and draw.",
        ),
        Phrase(
            name="without_replacement",
            title="Draw without replacement",
            words="choice replacement subset sample",
            differs="`choice` takes `replace` and weights `p`; in PyTorch weights are "
            "`torch.multinomial`'s.",
            costs="Both shuffle everything and take the front.",
        ),
        Phrase(
            name="coin_flips",
            title="True with a chance of p",
            words="bernoulli dropout mask probability",
            bound=_MOMENTS,
            because=_BECAUSE,
            differs="`jax.random.bernoulli` gives booleans, `torch.bernoulli` floats.",
            costs="The same.",
        ),
        Phrase(
            name="different_in_each_example",
            title="Other random numbers for each example under vmap",
            words="vmap randomness different batch noise keys",
            inputs={"x": normal(4, 3)},
            differs="PyTorch's `vmap` refuses random numbers unless `randomness` says `same` or "
            "`different`. In JAX the keys are an argument over which it maps.",
            costs="The same.",
        ),
        Phrase(
            name="keep_and_restore",
            title="The same numbers again",
            words="get_rng_state set_rng_state fork_rng restore checkpoint",
            differs="A state to keep and set in PyTorch, one for each device. A key stays what it "
            "is.",
            costs="Recomputing with dropout (checkpointing) has to restore the state in PyTorch; "
            "in JAX the same key goes in again.",
        ),
    ),
)
