"""Draws a terminal transcript as an SVG: terminal_picture.py < TRANSCRIPT > PICTURE.svg

Lines that begin with "$ " are what was typed.
"""

import sys
from xml.sax.saxutils import escape

FONT, LINE, WIDTH, MARGIN = 13, 18, 7.82, 16


def main():
    lines = [line.rstrip("\n").expandtabs() for line in sys.stdin]
    columns = max(map(len, lines))
    width, height = round(columns * WIDTH + 2 * MARGIN), len(lines) * LINE + 2 * MARGIN + 22
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#16181d"/>',
        *(f'<circle cx="{20 + 18 * i}" cy="16" r="5" fill="{c}"/>' for i, c in enumerate(("#e5534b", "#c69026", "#57ab5a"))),
        f'<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="{FONT}" xml:space="preserve">',
    ]
    for i, line in enumerate(lines):
        colour = "#8ddb8c" if line.startswith("$ ") else "#d3d9e0"
        out.append(f'<text x="{MARGIN}" y="{MARGIN + 22 + (i + 0.75) * LINE:.0f}" fill="{colour}">{escape(line).replace(" ", chr(160))}</text>')
    print("\n".join([*out, "</g>", "</svg>"]))


if __name__ == "__main__":
    main()
