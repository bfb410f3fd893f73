"""An HTML page as a tree."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

SIDES = {"torch_impl": "PyTorch", "jax_impl": "JAX"}
VOID = {"meta", "br", "wbr", "input"}


@dataclass
class Element:
    """A tag with its attributes, its children, and the text in between, in order."""

    tag: str
    attributes: dict[str, str]
    content: list = field(default_factory=list)

    @property
    def text(self):
        parts = (c if isinstance(c, str) else c.text for c in self.content)
        return "".join(parts).replace("\N{NO-BREAK SPACE}", " ")

    def all(self, tag=None, **attributes):
        """Every element below that has ``tag`` and, where given, these attributes."""
        for child in self.content:
            if isinstance(child, Element):
                if tag in (None, child.tag) and attributes.items() <= child.attributes.items():
                    yield child
                yield from child.all(tag, **attributes)

    def one(self, tag=None, **attributes):
        found = list(self.all(tag, **attributes))
        assert len(found) == 1, (tag, attributes, len(found))
        return found[0]


class Reader(HTMLParser):
    """A page as a tree; a tag that is not closed in order is an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]
        self.feed(text)
        self.close()
        assert len(self.open) == 1, self.open[-1].tag

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        element = Element(tag, dict(attrs))
        self.open[-1].content.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].content.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        self.open[-1].content.append(data)


def read(text):
    return Reader(text).open[0]


def sections_of(page):
    return [section.attributes["id"] for section in page.all("section")]


def text_of(element):
    return " ".join(element.text.split())
