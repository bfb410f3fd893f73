"""Notes on precision and dtypes."""

from twingrad.phrases.phrase import Family, Phrase, integers, normal

_FLOAT32 = "float32 rounds by 6e-8, and a handful of numbers are added in another order"
_BFLOAT16 = "bfloat16 rounds by 2^-8, and one side may round to the next number"

FAMILY = Family(
    name="precision",
    title="Precision and dtypes",
    phrases=(
        Phrase(
            name="cast",
            title="Change the dtype",
            words="to astype float half bfloat16 convert dtype",
            inputs={"x": normal(4, 3)},
            differs="`to` also moves to a device, and makes no copy where nothing changes. "
            "Without `jax_enable_x64` JAX turns float64 and int64 into 32 bits, and warns only "
            "where the wider dtype was asked for.",
            costs="Fused with what follows under `jit`.",
        ),
        Phrase(
            name="defaults_of_numbers",
            title="The dtype of Python's numbers",
            words="default dtype int64 int32 float32 weak type x64 scalar tensor",
            inputs={"x": normal(4)},
            differs="Integers are int64 and floats float32 in PyTorch; in JAX int32 and float32, "
            "with x64 enabled, as here, int64 and float64. `torch.set_default_dtype` and "
            "`jax_enable_x64` change that for the whole program.",
            costs="x64 has to be enabled before the first array; on a GPU float64 is many times "
            "slower.",
        ),
        Phrase(
            name="keep_the_dtype",
            title="Python's numbers keep an array's dtype",
            words="promotion weak type scalar bfloat16 type promotion",
            inputs={"x": normal(4)},
            differs="The same in both: a Python number is weak. A NumPy number is not, in JAX: `x "
            "* np.float32(2.5)` gives float32. bfloat16 and float32 together give float32.",
            costs="`jax.numpy_dtype_promotion('strict')` raises instead of promoting.",
        ),
        Phrase(
            name="accumulate_in_float32",
            title="Multiply in bfloat16, add in float32",
            words="preferred_element_type accumulate matmul bfloat16 float32",
            inputs={"x": normal(3, 4), "y": normal(4, 2)},
            bound=1e-6,
            because=_FLOAT32,
            differs="A product of bfloat16 is added up in float32 inside by both, and rounded at "
            "the end. JAX returns the float32 sums if asked; in PyTorch the operands are widened.",
            costs="On a GPU JAX's runs at the speed of bfloat16, PyTorch's at that of float32.",
        ),
        Phrase(
            name="autocast",
            title="Mixed precision",
            words="autocast amp mixed precision dtype param_dtype bfloat16",
            inputs={"x": normal(4, 3), "weight": normal(2, 3)},
            bound=2.0**-7,
            because=_BFLOAT16,
            differs="`autocast` chooses by operation: products in bfloat16, sums and softmax in "
            "float32. In Flax each module says what it computes in (`dtype`) and what it keeps "
            "(`param_dtype`); norms and softmax are yours to widen.",
            costs="PyTorch casts weights once for each `autocast` block.",
        ),
        Phrase(
            name="master_weights",
            title="Weights in float32 behind weights in bfloat16",
            words="master weights bfloat16 update lost float32 copy",
            inputs={"weight": normal(4, 3), "gradient": normal(4, 3)},
            bound=2.0**-7,
            because=_BFLOAT16,
            differs="The same. A weight in bfloat16 alone would not move at all: a step of 1e-4 "
            "is less than half of what bfloat16 tells apart near 1.",
            costs="Four bytes a parameter more than bfloat16 alone.",
        ),
        Phrase(
            name="loss_scaling",
            title="Scale the loss in float16",
            words="GradScaler loss scaling fp16 half underflow",
            inputs={"x": normal(4)},
            bound=2.0**-9,
            because="float16 rounds by 2^-11, twice on the way",
            differs="`torch.amp.GradScaler` finds the scale by trying, and skips steps that "
            "overflow. In JAX it is written by hand, with `optax.apply_if_finite`. bfloat16 needs "
            "none.",
            costs="One multiplication, and a check of all gradients.",
        ),
        Phrase(
            name="limits",
            title="The limits of a dtype",
            words="finfo eps max tiny min smallest",
            inputs={"x": normal(1)},
            differs="The same fields. For masks `finfo(dtype).min` is safer than -inf, which "
            "gives NaN where all is masked.",
            costs="Nothing.",
        ),
        Phrase(
            name="whole_division",
            title="Divide whole numbers",
            words="integer division floor modulo trunc remainder",
            inputs={"x": integers(6, below=20), "y": integers(6, below=5)},
            differs="`//` and `%` round down in both, as in Python; `jax.lax.div` and `lax.rem` "
            "round towards 0. Division by 0 raises on PyTorch's CPU, and gives a number without "
            "meaning in JAX.",
            costs="The same.",
        ),
        Phrase(
            name="lower_matmul_precision",
            title="Products of float32 in full precision",
            words="tf32 allow_tf32 matmul precision highest default_matmul_precision",
            inputs={"x": normal(3, 4), "y": normal(4, 2)},
            bound=1e-6,
            because=_FLOAT32,
            differs="On recent NVIDIA GPUs JAX multiplies float32 in TF32 unless told otherwise, "
            "PyTorch in float32. On a CPU both are exact to float32.",
            costs="TF32 is several times as fast, and keeps 10 bits of the operands' fractions.",
        ),
    ),
)
