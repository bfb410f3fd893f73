"""Both models of a pair with the numbers of two checkpoints, for ``compare``.

Where a conversion computes numbers, as a sum of two biases, it rounds them to the checkpoint's
dtype, and a comparison in float64 would find that rounding. If a file has what was computed,
rounded once and bit for bit, the model is given the number before it was rounded.
"""

from collections import ChainMap, defaultdict

from twingrad.convert.dtypes import is_float
from twingrad.convert.models import Models
from twingrad.convert.plan import WIDE, has_functions
from twingrad.convert.source import Values, same_bits
from twingrad.foreign import Array
from twingrad.pair import LoadedPair
from twingrad.partners import Partner, jax_tensors


def with_numbers(models: Models, torch: Values, jax: Values, to: str) -> LoadedPair:
    """The pair whose models hold these tensors; those of the framework ``to`` were written."""
    exact_torch = _exact_torch(models, torch, jax) if to == "torch" else {}
    exact_jax = _exact_jax(models, torch, jax, to)
    return LoadedPair.of(
        models.pair,
        models.partners,
        ChainMap(exact_torch, torch),  # type: ignore[arg-type]
        ChainMap(exact_jax, jax),  # type: ignore[arg-type]
    )


def _exact_jax(models: Models, torch: Values, jax: Values, to: str) -> dict[str, Array]:
    """JAX's tensors that are sums, or made by functions, before they were rounded."""
    by_path: dict[str, list[Partner]] = defaultdict(list)
    for p in models.partners:
        by_path[p.jax].append(p)
    wide = Values(torch.source, torch.names, WIDE)
    exact = {}
    for path, partners in by_path.items():
        if not any(p.added or (to == "jax" and has_functions(p)) for p in partners):
            continue
        rounded = jax[path]
        given = all(name in torch for p in partners for name in p.torch_names)
        if is_float(rounded.dtype) and given:
            made = jax_tensors(partners, wide, {path: tuple(rounded.shape)})[path]
            if same_bits(made.astype(rounded.dtype), rounded):
                exact[path] = made
    return exact


def _exact_torch(models: Models, torch: Values, jax: Values) -> dict[str, Array]:
    """PyTorch's tensors that are made by functions, before they were rounded."""
    exact: dict[str, Array] = {}
    for p in models.partners:
        if not has_functions(p) or p.added or p.torch not in torch:
            continue
        rounded = torch[p.torch]
        if not is_float(rounded.dtype):
            continue
        whole = exact.get(p.torch, rounded.astype(WIDE))
        made = p.of_jax(jax[p.jax].astype(WIDE))
        part = whole if p.cut is None else whole[p.cut.index]
        if same_bits(made.astype(rounded.dtype), part.astype(rounded.dtype)):
            part[...] = made
            exact[p.torch] = whole
    return exact
