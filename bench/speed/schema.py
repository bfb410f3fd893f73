"""The JSON schema of a benchmark record."""

from bench.speed import statistics
from bench.speed.json_form import Json
from bench.speed.results import VERSION
from twingrad import numerics

# Beyond any figure, and such that a ratio of two is still a float: JSON writes larger ones too.
_TINY, _HUGE = 1e-15, 1e30
_NUMBER: Json = {"type": "number", "minimum": -_HUGE, "maximum": _HUGE}
_MAYBE: Json = _NUMBER | {"type": ["number", "null"]}
_NOT_NEGATIVE: Json = _NUMBER | {"minimum": 0}
# What is no finite error is written as the largest there is.
_ERROR: Json = {"type": "number", "minimum": 0, "maximum": numerics.BEYOND}
_TEXT: Json = {"type": "string"}
_POSITIVE: Json = _NUMBER | {"minimum": _TINY}
_COUNT: Json = {"type": "integer", "minimum": 0, "maximum": 1 << 48}
# Intervals are drawn from all samples, and every one takes memory for that.
_MOST_SAMPLES = 10_000
_KEY: Json = {
    "workload": _TEXT,
    "variant": _TEXT,
    "preset": _TEXT,
    "batch_size": _COUNT,
    "length": _COUNT,
    "n_layers": _COUNT,
    "dtype": _TEXT,
}
_PARITY: Json = {
    "type": "object",
    "required": ["ok"],
    "properties": {"ok": {"type": "boolean"}, "error_u": _ERROR, "limit_u": _NUMBER},
}
_SAMPLE: Json = {
    "type": "object",
    "required": ["round", "seconds", "others_cores"],
    "properties": {
        "start": _COUNT,  # 0 where it is not given
        "round": _COUNT,
        "seconds": _POSITIVE,
        "others_cores": _NOT_NEGATIVE,
    },
}
_TIMED: Json = {
    "samples_s": {"type": "array", "items": _POSITIVE, "minItems": 1},
    "median_s": _POSITIVE,
    "quartile_low_s": _POSITIVE,
    "quartile_high_s": _POSITIVE,
    "first_s": _POSITIVE,
    "step_s": _POSITIVE,
    "work": {
        "type": "object",
        "additionalProperties": _POSITIVE,
        "anyOf": [{"maxProperties": 0}, {"required": ["tokens"]}],
    },
    "datasheet_flops_per_s": _MAYBE,
    "bytes_per_s": _MAYBE,
    "compile_s": _NOT_NEGATIVE,
    "peak_bytes": _COUNT | {"type": ["integer", "null"]},
    "tokens_per_s": _MAYBE,
    "mfu": _MAYBE,
    "mfu_datasheet": _MAYBE,
    "clean": {"type": "boolean"},
    "parity": {
        "type": "object",
        "required": ["ok", "judged", "worst", "error_u", "limit_u"],
    },
}
_RESULT: Json = {
    "type": "object",
    "required": [
        *_KEY,
        "contestant",
        "framework",
        "tier",
        "status",
        "about",
        "state",
        "parity",
        "samples",
        "samples_s",
    ],
    "properties": {
        **_KEY,
        "contestant": _TEXT,
        "framework": {"enum": ["torch", "jax"]},
        "tier": _TEXT,
        "status": _TEXT,
        "parity": _PARITY,
        "samples": {"type": "array", "items": _SAMPLE, "maxItems": _MOST_SAMPLES},
        "about": {"type": "object", "required": ["settings", "process_environment"]},
        "state": {"type": "object"},
    },
    "if": {"properties": {"status": {"const": "timed"}}},
    "then": {
        "required": list(_TIMED),
        "properties": {
            **_TIMED,
            "state": {"type": "object", "required": ["settings", "versions", "libraries"]},
        },
    },
}
_RATIO: Json = {
    "type": "object",
    "required": ["numerator", "denominator", *_KEY, "ratio", "low", "high"],
    "properties": {
        **_KEY,
        "numerator": _TEXT,
        "denominator": _TEXT,
        "ratio": _POSITIVE,
        "low": _POSITIVE,
        "high": _POSITIVE,
    },
}
_CEILING: Json = {
    "type": "object",
    "required": ["framework", "fast", "products", "copy_bytes_per_s"],
    "properties": {
        "products": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "shape", "flops_per_s"],
                "properties": {"name": _TEXT, "flops_per_s": _POSITIVE},
            },
        },
        "copy_bytes_per_s": _POSITIVE,
    },
}
SCHEMA: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A record of twingrad bench",
    "type": "object",
    "required": [
        "schema",
        "environment",
        "asked",
        "method",
        "seconds",
        "interrupted",
        "skipped",
        "ceilings",
        "clocks",
        "results",
        "ratios",
        "growth",
    ],
    "properties": {
        "schema": {"const": VERSION},
        "environment": {
            "type": "object",
            "required": [
                "device",
                "hardware",
                "versions",
                "commit",
                "load_average",
                "threads",
                "environment_variables",
                "clocks",
            ],
            "properties": {
                "hardware": {"type": "object", "required": ["processor", "cores", "memory_bytes"]},
                "versions": {"type": "object", "required": ["python", "numpy"]},
                "commit": {"type": "object"},
            },
        },
        "method": {
            "type": "object",
            "required": ["formula", "quiet_cores", "covered", "spread"],
            "properties": {
                "quiet_cores": _NOT_NEGATIVE,
                "starts": _COUNT,
                # An interval that holds next to nothing is none.
                "covered": _NUMBER | {"minimum": 0.95, "maximum": 0.9999},
                "spread": _NUMBER | {"minimum": statistics.SPREAD, "maximum": 1},
            },
        },
        "seconds": _POSITIVE,
        "interrupted": {"type": "boolean"},
        "ceilings": {"type": "array", "items": _CEILING},
        "results": {"type": "array", "minItems": 1, "items": _RESULT},
        "ratios": {"type": "array", "items": _RATIO},
        "growth": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["contestant", "axis", "sizes", "median_s", "exponent", "r_squared"],
                "properties": {
                    "contestant": _TEXT,
                    "axis": _TEXT,
                    "exponent": _NUMBER,
                    "r_squared": _NUMBER,
                },
            },
        },
    },
}
