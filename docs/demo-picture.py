#!/usr/bin/env python3
"""Makes docs/demo.svg from a real run of `ajar demo` on a terminal of its own: python3 docs/demo-picture.py [PROGRAM]."""

import fcntl
import html
import os
import pty
import re
import struct
import sys
import tempfile
import termios

COLUMNS, ROWS = 100, 60
COLORS = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "2": "#8b949e"}
ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")
CHARACTER, LINE, MARGIN = 8.5, 18, 16


def run(program):
    """What the demo leaves on the screen, line by line, with its colours."""
    home = tempfile.mkdtemp()
    child, terminal = pty.fork()
    if child == 0:
        environment = {"HOME": home, "PATH": os.environ["PATH"], "TERM": "xterm-256color"}
        os.chdir(home)
        os.execve(program, [program, "demo"], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    said = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        said += part
    _, status = os.waitpid(child, 0)
    if status != 0:
        sys.exit(f"the demo failed: {said.decode()}")
    lines = said.decode().replace("\r\n", "\n").split("\n")
    # The progress bar draws over itself, and is gone in the end.
    return [line.split("\r")[-1] for line in lines]


def spans(line):
    """The pieces of a line with the colour of each."""
    color, at = None, 0
    for escape in ESCAPE.finditer(line):
        if escape.start() > at:
            yield line[at : escape.start()], color
        at = escape.end()
        if escape[2] == "m":
            codes = [code for code in escape[1].split(";") if code in COLORS]
            color = COLORS[codes[-1]] if codes else None
    if at < len(line):
        yield line[at:], color


def picture(lines):
    longest = max(len(ESCAPE.sub("", line)) for line in lines)
    width = longest * CHARACTER + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">'
    yield "<title>ajar demo: a lab on loopback, audited, with what proved each finding</title>"
    yield f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#0d1117"/>'
    yield '<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14" fill="#e6edf3" xml:space="preserve">'
    for number, line in enumerate(lines):
        pieces = "".join(
            f'<tspan fill="{color}">{html.escape(text)}</tspan>' if color else html.escape(text)
            for text, color in spans(line)
        )
        y = MARGIN + LINE * number + 13
        if pieces:
            yield f'<text x="{MARGIN}" y="{y}">{pieces}</text>'
    yield "</g></svg>"


here = os.path.dirname(os.path.abspath(__file__))
program = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else f"{here}/../target/release/ajar")
lines = ["$ ajar demo"] + run(program)
end = next(number for number, line in enumerate(lines) if "were judged as" in line)
with open(f"{here}/demo.svg", "w", encoding="utf-8") as out:
    out.write("\n".join(picture(lines[: end + 1])) + "\n")
