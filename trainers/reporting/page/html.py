"""Blocks -> one self-contained HTML page: no scripts, no network, for light, dark, phone, print."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from data_shards.drawing import to_svg
from trainers.reporting.page.blocks import (
    Beside,
    Block,
    Cards,
    Chart,
    Code,
    Heading,
    Points,
    Table,
    Text,
)

STYLE = """
:root{color-scheme:light dark;--ink:#1b2330;--soft:#5c6675;--page:#fff;--card:#f4f6f9;
--line:#d9dee6;--accent:#2b7bbf;--warn:#8a4b00;--warn-bg:#fff3e0}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#9aa5b4;--page:#14181f;--card:#1d232c;
--line:#343c48;--accent:#6db3ee;--warn:#ffc98a;--warn-bg:#3a2a14}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1.5rem 1rem 4rem;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 .6rem;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:2.4rem 0 .6rem;padding-top:.6rem;border-top:2px solid var(--line)}
h3{font-size:1.08rem;margin:1.8rem 0 .4rem}
h4{font-size:1rem;margin:1.4rem 0 .3rem;color:var(--soft)}
h1,h2,h3,h4{break-after:avoid}
p{margin:.5rem 0;max-width:46rem}
ul{margin:.5rem 0;max-width:46rem;padding-left:1.3rem}li{margin:.25rem 0}
.note{color:var(--soft);font-size:.9rem}
.warning{background:var(--warn-bg);color:var(--warn);border-left:4px solid currentColor;
padding:.5rem .8rem;border-radius:4px}
.badge{display:inline-block;background:var(--warn);color:var(--page);font-weight:700;
font-size:.8rem;letter-spacing:.06em;padding:.15rem .7rem;border-radius:99px;margin:0 0 .4rem}
nav{font-size:.92rem;color:var(--soft);margin:.8rem 0}nav a{display:inline-block;margin-right:1rem}
a{color:var(--accent)}
.cards{display:flex;flex-wrap:wrap;gap:.6rem;margin:1rem 0}
.card{background:var(--card);border-radius:8px;padding:.6rem .9rem;min-width:7.5rem;flex:1}
.card b{display:block;font-size:1.45rem;line-height:1.25;font-variant-numeric:tabular-nums}
.card span{color:var(--soft);font-size:.85rem}
.scroll{overflow-x:auto;margin:.5rem 0 1rem;max-width:100%}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding:.2rem .3rem .4rem}
caption span{display:inline-block;max-width:calc(100vw - 2.6rem)}
th,td{padding:.28rem .6rem;text-align:right;vertical-align:top;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--soft);vertical-align:bottom}
td{white-space:nowrap}
.l{text-align:left}
td.l{white-space:normal;overflow-wrap:break-word;min-width:7rem}
tr.rule td{border-top:2px solid var(--soft)}
.beside{display:flex;flex-wrap:wrap;gap:0 2rem;align-items:flex-start}
.beside>*{flex:0 1 auto;max-width:100%}
figure{margin:.6rem 0 1rem;max-width:100%;break-inside:avoid}
figure svg{max-width:100%;height:auto;display:block}
@media screen and (max-width:40rem){figure svg{max-width:none}}
figcaption{color:var(--soft);font-size:.9rem;margin-bottom:.3rem}
details{font-size:.9rem;margin:.3rem 0}summary{cursor:pointer;color:var(--soft)}
pre{background:var(--card);padding:.6rem .8rem;border-radius:6px;overflow-x:auto;font-size:.85rem;
white-space:pre-wrap;overflow-wrap:anywhere}
@media print{:root{--ink:#000;--soft:#444;--page:#fff;--card:#f4f4f4;--line:#ccc;--accent:#000;
--warn:#6b3a00;--warn-bg:#fff}html{font-size:11px}body{font-size:1rem;max-width:none;padding:0}nav{display:none}
.scroll{overflow:visible}
tr,.card,figure{break-inside:avoid}h2{margin-top:1.2rem}}
"""


def page(blocks: Sequence[Block]) -> str:
    """The whole page. The title is the first heading; level-2 headings make the contents line."""
    titles = [block.text for block in blocks if isinstance(block, Heading) and block.level == 1]
    sections = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    anchors = _anchors(sections)
    links = "".join(
        f'<a href="#{anchor}" dir="auto">{escape(text)}</a>\n'
        for anchor, text in zip(anchors, sections, strict=True)
    )
    body = []
    contents = f"<nav>{links}</nav>\n" if len(sections) > 1 else ""
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2:
            body.append(f'{contents}<h2 id="{anchors.pop(0)}" dir="auto">{escape(block.text)}</h2>\n')
            contents = ""
        else:
            body.append(_block(block))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(titles[0] if titles else 'Report')}</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n{''.join(body)}</body>\n</html>\n"
    )


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f'<h{level} dir="auto">{escape(text)}</h{level}>\n'
        case Text(text, "badge"):
            return f'<p class="badge">{escape(text)}</p>\n'
        case Text(text, kind):
            return f'<p class="{kind}" dir="auto">{escape(text)}</p>\n'
        case Points(points):
            # English, also where a Persian title begins one: ``dir="auto"`` would turn it round.
            inner = "".join(f"<li>{escape(point)}</li>\n" for point in points)
            return f"<ul>\n{inner}</ul>\n"
        case Cards(cards):
            inner = "".join(
                f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
                for name, value in cards
            )
            return f'<div class="cards">{inner}</div>\n'
        case Table():
            return _table(block)
        case Code(text, summary):
            code = f"<pre>{escape(text)}</pre>\n"
            if not summary:
                return code
            return f"<details><summary>{escape(summary)}</summary>{code}</details>\n"
        case Chart(name, caption, figure, table):
            return (
                f'<figure><figcaption dir="auto">{escape(caption)}</figcaption>\n'
                f'<div class="scroll">{_svg(to_svg(figure, name), caption)}</div>\n'
                f"<details><summary>numbers</summary>{_table(table)}</details></figure>\n"
            )
        case Beside(blocks):
            inner = "".join(f"<div>{_block(one)}</div>\n" for one in blocks)
            return f'<div class="beside">{inner}</div>\n'


def _svg(svg: str, caption: str) -> str:
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(caption)}"', 1)


def _table(table: Table) -> str:
    def cells(tag: str, row: tuple[str, ...]) -> str:
        out = []
        for n, text in enumerate(row):
            css = ' class="l"' if n < table.left else ""
            out.append(f'<{tag}{css} dir="auto">{escape(text)}</{tag}>')
        return "".join(out)

    caption = f'<caption><span dir="auto">{escape(table.caption)}</span></caption>' if table.caption else ""
    head = f"<thead><tr>{cells('th', table.header)}</tr></thead>" if any(table.header) else ""
    rows = "".join(
        f"<tr{' class=rule' if n in table.rules else ''}>{cells('td', row)}</tr>\n"
        for n, row in enumerate(table.rows)
    )
    return f'<div class="scroll"><table>{caption}{head}<tbody>\n{rows}</tbody></table></div>\n'


def _anchors(titles: Sequence[str]) -> list[str]:
    """An id for each section; a title that occurs again gets a number."""
    anchors: list[str] = []
    for title in titles:
        anchor = "".join(c if c.isalnum() else "-" for c in title.lower())
        anchors.append(anchor if anchor not in anchors else f"{anchor}-{len(anchors) + 1}")
    return anchors
