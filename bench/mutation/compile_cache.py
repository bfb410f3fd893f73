"""A cache of what XLA has compiled, for runs that compile nearly the same again and again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from twingrad.whole import temporary_folder

Settings = dict[str, float | int | str | None]


@contextmanager
def compiled_once() -> Iterator[Path]:
    """Have XLA compile no program twice: most of a program is the same with a bug as without."""
    with temporary_folder("twingrad-mutants") as folder:
        cache = folder / "compiled"
        before = configure(settings(cache))
        try:
            yield cache
        finally:
            configure(before)


def settings(folder: Path) -> Settings:
    """JAX's settings for keeping all that it compiles in ``folder``."""
    return {
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_compilation_cache_dir": str(folder),
    }


def configure(changed: Settings) -> Settings:
    """Change JAX's settings for its cache, and return what they were."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    before = {key: getattr(jax.config, key) for key in changed}
    update: Callable[[str, object], None] = jax.config.update
    for key, value in changed.items():
        update(key, value)
    compilation_cache.reset_cache()
    return before
