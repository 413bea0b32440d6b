"""Draws a screen of tmux (`tmux capture-pane -e -p`, on stdin) as a PNG: terminal_png.py FILE COLUMNS ROWS."""
import re
import sys

from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono%s.ttf"
WIDTH, HEIGHT, MARGIN, SIZE = 10, 21, 14, 16
GROUND, INK = (24, 26, 31), (214, 217, 224)
COLOURS = {1: (240, 98, 98), 3: (232, 190, 92)}

file, columns, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
fonts = {bold: ImageFont.truetype(FONT % ("-Bold" if bold else ""), SIZE) for bold in (False, True)}
image = Image.new("RGB", (columns * WIDTH + 2 * MARGIN, rows * HEIGHT + 2 * MARGIN), GROUND)
draw = ImageDraw.Draw(image)


def dimmed(colour):
    return tuple((c * 5 + g * 5) // 10 for c, g in zip(colour, GROUND))


def cell(x, y, sign, colour, bold):
    eighths = "▁▂▃▄▅▆▇█".find(sign)
    if sign == " ":
        return
    if eighths >= 0:  # blocks meet, whatever the font
        draw.rectangle((x, y + HEIGHT - round(HEIGHT * (eighths + 1) / 8), x + WIDTH - 1, y + HEIGHT - 1), colour)
    elif sign in "─━":
        half = 2 if sign == "━" else 0
        draw.rectangle((x, y + HEIGHT // 2 - half, x + WIDTH - 1, y + HEIGHT // 2 + half), colour)
    else:
        draw.text((x, y + 1), sign, fill=colour, font=fonts[bold])


for row, line in enumerate(sys.stdin.read().split("\n")[:rows]):
    column, colour, bold, dim = 0, INK, False, False
    for code, sign in re.findall("\x1b\\[([0-9;]*)m|([^\x1b])", line):
        if sign:
            cell(MARGIN + column * WIDTH, MARGIN + row * HEIGHT, sign, dimmed(colour) if dim else colour, bold)
            column += 1
            continue
        numbers = [int(n or 0) for n in code.split(";")]
        if numbers[:2] == [38, 5]:
            colour, numbers = COLOURS.get(numbers[2], INK), []
        for number in numbers:
            if number in (0, 39):
                colour = INK
            if number in (0, 22):
                bold = dim = False
            bold, dim = bold or number == 1, dim or number == 2
            colour = COLOURS.get(number - 30, colour)

image.quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, optimize=True)
