"""Reports as one HTML page that holds all it needs: no network, no scripts, light or dark as the reader's system is.

Every builder takes plain texts, which it escapes, or `Html` that another builder made.
"""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, NewType
from urllib.parse import quote

import cv2
import numpy as np
from jaxtyping import UInt8

Html = NewType("Html", str)
Tone = Literal["plain", "good", "warn", "bad", "quiet"]
JPEG_QUALITY = 88


@dataclass(frozen=True)
class Cell:
    """A table's cell: text and what it means."""

    text: str
    tone: Tone = "plain"


def page(title: str, *parts: Html) -> str:
    """The whole document."""
    style = (files("mouselift") / "assets" / "report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def heading(title: str, subtitle: str) -> Html:
    """The page's title, and what it is about."""
    return Html(f'<header><h1>{html.escape(title)}</h1><p class="quiet">{html.escape(subtitle)}</p></header>')


def verdict(tone: Tone, sentence: str) -> Html:
    """The one line that matters."""
    return Html(f'<p class="verdict {tone}">{html.escape(sentence)}</p>')


def bullets(items: Sequence[str], tone: Tone = "plain") -> Html:
    """A list of sentences."""
    listed = "".join(f"<li>{html.escape(item)}</li>" for item in items)
    return Html(f'<ul class="{tone}">{listed}</ul>')


def section(title: str, *parts: Html, intro: str = "") -> Html:
    """A titled part of the page."""
    said = f'<p class="quiet">{html.escape(intro)}</p>' if intro else ""
    return Html(f"<section><h2>{html.escape(title)}</h2>{said}{''.join(parts)}</section>")


def table(header: Sequence[str], rows: Sequence[Sequence[Cell | str]]) -> Html:
    """A table of figures; it scrolls sideways where the screen is narrow."""
    top = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in header)
    body = "".join(f"<tr>{''.join(_cell(cell, k == 0) for k, cell in enumerate(row))}</tr>" for row in rows)
    return Html(f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>')


def picture(pixels: UInt8[np.ndarray, "h w 3"], caption: str, *, lossless: bool = False) -> Html:
    """A picture inside the page, JPEG unless its lines must stay sharp; it scrolls sideways where it must."""
    suffix, kind = (".png", "image/png") if lossless else (".jpg", "image/jpeg")
    full_colour = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # thin lines need it
    options = [] if lossless else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, *full_colour]
    encoded = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    height, width = pixels.shape[:2]
    source = f"data:{kind};base64,{base64.b64encode(encoded).decode('ascii')}"
    text = html.escape(caption)
    shown = f'<img src="{source}" width="{width}" height="{height}" alt="{text}">'
    return Html(f'<figure><div class="scroll">{shown}</div><figcaption>{text}</figcaption></figure>')


def linked_picture(source: str, target: str, caption: str, size: tuple[int, int]) -> Html:
    """A picture in a file beside the page, which leads to another file beside it.

    Args:
        source: The picture's path from the page.
        target: Where it leads, likewise.
        caption: Below it.
        size: Width and height in pixels.
    """
    text, (href, src) = html.escape(caption), (html.escape(quote(path)) for path in (target, source))
    shown = f'<img loading="lazy" src="{src}" width="{size[0]}" height="{size[1]}" alt="{text}">'
    return Html(f'<figure><a href="{href}">{shown}</a><figcaption>{text}</figcaption></figure>')


def grid(parts: Sequence[Html]) -> Html:
    """Several pictures beside each other, as many as fit: three in a row of a wide screen, or all four of four."""
    kind = "grid four" if len(parts) == 4 else "grid"
    return Html(f'<div class="{kind}">{"".join(parts)}</div>')


def _cell(cell: Cell | str, is_first: bool) -> str:
    text, tone = (cell, "plain") if isinstance(cell, str) else (cell.text, cell.tone)
    tag = 'th scope="row"' if is_first else "td"
    return f'<{tag} class="{tone}">{html.escape(text)}</{tag[:2]}>'
