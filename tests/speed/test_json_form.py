"""Dataclasses read from JSON, with the place of what is wrong, and written as they were."""

from dataclasses import dataclass, field
from typing import TypedDict

import pytest

from bench.speed.json_form import OPTIONAL, Json, decode, encode, json_object


class Facts(TypedDict):
    device: str


@dataclass(frozen=True)
class Inner:
    name: str
    size: float = 2.0


class Coded:
    """Reads and writes itself."""

    def __init__(self, value: object, place: str) -> None:
        self.value, self.place = value, place

    @classmethod
    def from_json(cls, value: object, place: str) -> "Coded":
        return cls(value, place)

    def to_json(self) -> object:
        return ["coded", self.value]


@dataclass(frozen=True)
class Outer:
    count: int
    flag: bool
    words: str
    ratio: float
    some: float | None
    list_of: tuple[Inner, ...]
    by_name: dict[str, int]
    facts: Facts
    anything: Json
    coded: Coded
    absent: int | None = field(default=None, metadata=OPTIONAL)


CONTENT = {
    "count": 3,
    "flag": True,
    "words": "w",
    "ratio": 1,
    "some": None,
    "list_of": [{"name": "a", "size": 0.5}, {"name": "b"}],
    "by_name": {"x": 1, "y": 2},
    "facts": {"device": "cpu", "more": [1]},
    "anything": {"k": [None]},
    "coded": 7,
}


def test_every_kind_of_field_is_read():
    read = decode(Outer, CONTENT, "top")
    assert (read.count, read.flag, read.words, read.ratio, read.some) == (3, True, "w", 1, None)
    assert read.list_of == (Inner("a", 0.5), Inner("b", 2.0))
    assert read.by_name == {"x": 1, "y": 2}
    assert read.facts == CONTENT["facts"]
    assert read.anything == CONTENT["anything"]
    assert (read.coded.value, read.coded.place) == (7, "top/coded")
    assert read.absent is None
    assert decode(Outer, CONTENT | {"absent": 5, "some": 2.5}).absent == 5
    assert decode(Outer, CONTENT | {"some": 2.5}).some == 2.5


def test_a_field_that_is_known_already_is_not_read():
    given = Coded(1, "x")
    read = decode(Outer, CONTENT | {"coded": "no such thing"}, coded=given)
    assert read.coded is given
    assert read.count == 3
    less = {key: value for key, value in CONTENT.items() if key != "coded"}
    assert decode(Outer, less, coded=given).coded is given


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 1.0}, r"top/count: expected <class 'int'>, got 1.0"),
        ({"count": True}, r"top/count: expected <class 'int'>, got True"),
        ({"flag": 1}, r"top/flag: expected <class 'bool'>, got 1"),
        ({"words": None}, r"top/words: expected <class 'str'>, got None"),
        ({"ratio": "1"}, r"top/ratio: expected <class 'float'>, got '1'"),
        ({"ratio": True}, r"top/ratio: expected <class 'float'>, got True"),
        ({"words": ["x" * 90]}, r"top/words: expected <class 'str'>, got \['x{48}$"),
        ({"some": "x"}, r"top/some: expected <class 'float'>, got 'x'"),
        ({"list_of": {}}, r"top/list_of: expected an array, got dict"),
        ({"list_of": [{"name": "a"}, 3]}, r"top/list_of/1: expected an object, got int"),
        ({"list_of": [{}]}, r"top/list_of/0: 'name' is missing"),
        ({"by_name": []}, r"top/by_name: expected an object, got list"),
        ({"by_name": {"x": "1"}}, r"top/by_name/x: expected <class 'int'>, got '1'"),
        ({"facts": 3}, r"top/facts: expected an object, got int"),
        ({"anything": None}, r"top/anything: expected an object, got NoneType"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        decode(Outer, CONTENT | changes, "top")


@pytest.mark.parametrize("name", CONTENT)
def test_a_field_without_a_default_must_be_there(name):
    with pytest.raises(ValueError, match=f"^the record: '{name}' is missing$"):
        decode(Outer, {key: value for key, value in CONTENT.items() if key != name})


def test_what_was_read_is_written_again_without_what_is_absent():
    written = encode(decode(Outer, CONTENT))
    inner = [{"name": "a", "size": 0.5}, {"name": "b", "size": 2.0}]
    assert written == CONTENT | {"list_of": inner, "coded": ["coded", 7]}
    assert list(written) == list(CONTENT)
    assert encode(decode(Outer, CONTENT | {"absent": 0}))["absent"] == 0


def test_only_objects_and_dataclasses_are_taken():
    assert json_object({"a": 1}, "x") == {"a": 1}
    with pytest.raises(ValueError, match=r"^there: expected an object, got list$"):
        json_object([], "there")
    with pytest.raises(TypeError, match="int is no dataclass"):
        encode(3)
