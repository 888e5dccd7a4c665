"""Six photographs become drawings, tile by tile, on two workers with different tags. `make demo` runs it."""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from skimage import color, data, filters, restoration

import dcengine

DB, PICTURE = Path("build/demo.db"), Path("build/demo.png")
PHOTOGRAPHS = ["astronaut", "cat", "coffee", "stereo_motorcycle", "immunohistochemistry", "hubble_deep_field"]
WIDTH, HEIGHT, TILE = 400, 300, 50
MARGIN = 24  #: what a tile sees of its neighbours, so that no seams show
INKS = {"ada": "#f2a541", "grace": "#4fb3bf"}  #: our two contributors, and their colours in the picture

console = Console(highlight=False)


def main() -> None:
    """Draw the photographs, then say who did what and where it is."""
    started = time.monotonic()
    DB.parent.mkdir(exist_ok=True)
    workers = ["site=attic,nickname=ada", "site=lab,nickname=grace"]
    with dcengine.Engine(DB, workers=2, worker_tags=workers):
        photographs = [photograph(name) for name in PHOTOGRAPHS]
        tiles = [tile for picture in photographs for tile in cut(picture)]

        batch = dcengine.map(draw, tiles)  # whoever is free takes the next tiles
        artists = watch(batch)
        drawings = [join(part) for part in np.split(np.array(batch.results()), len(photographs))]

        sheet = dcengine.submit(contact_sheet, photographs, drawings, artists, tags="site=lab")  # only grace has this
        PICTURE.write_bytes(sheet.result())
        show_leaderboard()
        say_where_everything_is(batch, sheet, time.monotonic() - started)


# ---- what the workers run ------------------------------------------------------------------


def draw(tile: np.ndarray) -> np.ndarray:
    """Return *tile* in flat colours with ink lines, its margin cut off."""
    smooth = [tile / 255]
    for _ in range(4):
        smooth.append(restoration.denoise_bilateral(smooth[-1], 11, sigma_color=0.05, sigma_spatial=3, channel_axis=-1))
    grey = color.rgb2gray(smooth[1])
    edges = filters.gaussian(grey, 1.0) - filters.gaussian(grey, 1.6)
    ink = 1 + np.tanh(np.minimum(0, 90 * edges + 0.3))
    light, *hues = np.moveaxis(color.rgb2lab(smooth[4]), -1, 0)
    levels = 10 * np.round(light / 10)
    light = levels + 5 * np.tanh((light - levels) * 0.8)  # few shades, soft between them
    flat = color.lab2rgb(np.stack([light, *(1.15 * hue for hue in hues)], axis=-1))
    return (255 * flat * ink[..., None]).astype(np.uint8)[MARGIN:-MARGIN, MARGIN:-MARGIN]


def contact_sheet(photographs: list[np.ndarray], drawings: list[np.ndarray], artists: list[str]) -> bytes:
    """Return a PNG: each photograph beside its drawing, and below it who drew which tile."""
    gap, foot, columns = 24, 56, 3
    rows, each = len(photographs) // columns, len(artists) // len(photographs)
    sheet = Image.new("RGB", (columns * (WIDTH + gap) + gap, rows * (HEIGHT + foot + gap) + gap), "#16181d")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(20)
    for number, (before, after) in enumerate(zip(photographs, drawings, strict=True)):
        x, y = gap + number % columns * (WIDTH + gap), gap + number // columns * (HEIGHT + foot + gap)
        sheet.paste(Image.fromarray(before), (x, y))
        half = Image.new("L", (WIDTH, HEIGHT))
        ImageDraw.Draw(half).polygon([(230, 0), (WIDTH, 0), (WIDTH, HEIGHT), (170, HEIGHT)], fill=255)
        sheet.paste(Image.fromarray(after), (x, y), half)
        pen.line([(x + 230, y), (x + 170, y + HEIGHT - 1)], fill="white", width=3)
        mine = artists[number * each : (number + 1) * each]
        for place, artist in zip(product(range(HEIGHT // TILE), range(WIDTH // TILE)), mine, strict=True):
            left, top = x + WIDTH - 64 + 8 * place[1], y + HEIGHT + 8 + 8 * place[0]
            pen.rectangle([left, top, left + 6, top + 6], fill=INKS.get(artist, "#888888"))
        for line, (artist, ink) in enumerate(INKS.items()):
            text = f"{artist} drew {mine.count(artist)} tiles"
            pen.text((x, y + HEIGHT + 6 + 24 * line), text, fill=ink, font=font)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


# ---- before and after ----------------------------------------------------------------------


def photograph(name: str) -> np.ndarray:
    """Return a photograph that scikit-image brings along, scaled and cropped to our size."""
    found = getattr(data, name)()
    picture = Image.fromarray(found[0] if isinstance(found, tuple) else found)
    scale = max(WIDTH / picture.width, HEIGHT / picture.height)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    left, top = (picture.width - WIDTH) // 2, (picture.height - HEIGHT) // 3
    return np.asarray(picture.crop((left, top, left + WIDTH, top + HEIGHT)))


def cut(picture: np.ndarray) -> list[np.ndarray]:
    """Return the tiles of *picture*, each with its margin."""
    wide = np.pad(picture, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="reflect")
    size = TILE + 2 * MARGIN
    return [wide[y : y + size, x : x + size] for y, x in product(range(0, HEIGHT, TILE), range(0, WIDTH, TILE))]


def join(tiles: np.ndarray) -> np.ndarray:
    """Return the picture that *tiles* make."""
    grid = tiles.reshape(HEIGHT // TILE, WIDTH // TILE, TILE, TILE, 3)
    return grid.swapaxes(1, 2).reshape(HEIGHT, WIDTH, 3)


# ---- what you see --------------------------------------------------------------------------


def watch(batch: dcengine.BatchHandle) -> list[str]:
    """Show how *batch* gets on until it has ended; return who drew each tile."""
    drawn_by = [""] * len(batch)
    columns = [TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn(), TextColumn("tiles")]
    with Progress(*columns, TimeElapsedColumn(), TextColumn("{task.fields[pace]}"), console=console) as bars:
        bar = bars.add_task("drawing", total=len(batch), pace="")
        for tile in batch.as_completed():
            drawn_by[tile.index] = tile.status().worker
            now = batch.progress
            pace = f"{now.rate:.0f} a second on {' and '.join(now.workers)}" if now.workers else ""
            bars.update(bar, completed=now.done, pace=pace)
    nicknames = {worker.name: worker.contributor for worker in dcengine.workers()}
    return [nicknames[worker] for worker in drawn_by]


def show_leaderboard() -> None:
    """Print who has done how much in this file, earlier runs included."""
    table = Table(title=f"Leaderboard of {DB}", title_justify="left")
    for heading, side in (("nickname", "left"), ("tasks", "right"), ("share", "right")):
        table.add_column(heading, justify=side)
    for row in dcengine.leaderboard():
        table.add_row(row.nickname, f"{row.tasks:,}", f"{row.share:.1%}", style=INKS.get(row.nickname))
    console.print(table)


def say_where_everything_is(batch: dcengine.BatchHandle, sheet: dcengine.JobHandle, seconds: float) -> None:
    """Print what there is now, and what to try next."""
    command = os.path.relpath(shutil.which("dcengine", path=Path(sys.executable).parent) or "dcengine")
    text = f"""
[bold]{len(batch)} tiles drawn in {seconds:.0f} s[/]
  the picture   {PICTURE}
  the jobs      {DB} (batch {batch.id}, job {sheet.id}), kept when this program ends

[bold]Look again at any time[/] (an engine starts for that by itself, and ends after ten idle minutes)
  {command} jobs --db {DB}
  {command} jobs {sheet.id} --db {DB}
  {command} leaderboard --db {DB}

[bold]Next[/]
  README.md       dcengine in your own programs
  docs/tags.md    how jobs choose their workers"""
    console.print(text, soft_wrap=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        console.print(f"\nstopped; what is left is kept in {DB}, and the next run goes on with it")
        sys.exit(130)
    except dcengine.DcengineError as error:
        sys.exit(f"demo: {error}")
