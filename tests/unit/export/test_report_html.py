"""The page is well-formed, holds all it needs, and believes nothing that it is told."""

import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from mouselift.export.report_html import Cell, bullets, grid, heading, page, picture, section, table, verdict

VOID = {"meta", "img", "br", "hr", "link", "input"}
NASTY = '<script>alert("1")</script> & "quotes" \'too\''


class Parsed(HTMLParser):
    """Checks that tags nest, and gathers what there is."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def whole_page(pixels: np.ndarray, words: str = "words") -> str:
    return page(
        words,
        heading(words, words),
        verdict("bad", words),
        section(
            words,
            bullets([words, words], "warn"),
            table([words, "figure"], [[words, Cell(words, "good")], ["mean", "3"]]),
            grid([picture(pixels, words), picture(pixels, words, lossless=True)]),
            intro=words,
        ),
    )


@pytest.fixture
def pixels() -> np.ndarray:
    y, x = np.indices((30, 40))
    return np.stack([x * 6, y * 8, np.full_like(x, 20)], axis=-1).astype(np.uint8)


def test_tags_nest(pixels: np.ndarray) -> None:
    parsed = Parsed(whole_page(pixels))
    assert len(parsed.named("img")) == 2
    assert len(parsed.named("tr")) == 3


def test_the_page_asks_for_nothing(pixels: np.ndarray) -> None:
    text = whole_page(pixels)
    without_pictures = re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", text)
    assert "//" not in without_pictures.replace("</", "")
    assert not re.search(r"@import|url\(", text)
    parsed = Parsed(text)
    assert not parsed.named("script")
    assert not parsed.named("link")
    assert all(str(image["src"]).startswith("data:image/") for image in parsed.named("img"))


def test_words_are_escaped_everywhere(pixels: np.ndarray) -> None:
    parsed = Parsed(whole_page(pixels, NASTY))
    assert not parsed.named("script")
    assert parsed.text.count(NASTY) == 13
    assert [image["alt"] for image in parsed.named("img")] == [NASTY, NASTY]


def test_pictures_keep_their_colours(pixels: np.ndarray) -> None:
    for lossless, tolerance in ((True, 0), (False, 12)):
        source = str(Parsed(page("t", picture(pixels, "c", lossless=lossless))).named("img")[0]["src"])
        encoded = np.frombuffer(base64.b64decode(source.split(",")[1]), np.uint8)
        decoded = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert np.abs(decoded.astype(int) - pixels).max() <= tolerance


def test_light_dark_and_narrow_screens_are_thought_of(pixels: np.ndarray) -> None:
    text = whole_page(pixels)
    assert "prefers-color-scheme: dark" in text
    assert any(meta.get("name") == "viewport" for meta in Parsed(text).named("meta"))


def test_the_verdict_has_the_colour_of_its_meaning() -> None:
    for tone in ("good", "warn", "bad"):
        assert Parsed(verdict(tone, "so it is")).tags == [("p", {"class": f"verdict {tone}"})]
