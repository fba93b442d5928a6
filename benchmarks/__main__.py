"""`python -m benchmarks`: run comparisons, keep their results, write the page of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import torch

from benchmarks.autoattack import autoattack
from benchmarks.equality import equality
from benchmarks.goals import ratio, spread
from benchmarks.pgd import pgd
from benchmarks.reading import read_results
from benchmarks.report import performance
from benchmarks.results import (
    MANY,
    SECTIONS,
    Comparison,
    Results,
    Run,
    Setting,
    write_results,
)
from benchmarks.setting import BATCH, Compared, compared, made, setting_of
from benchmarks.setting import MODEL as THIN
from benchmarks.training import few_images, trades_request, training
from harness.allocator import keep_big_blocks
from harness.cli.options import chosen_device
from harness.errors import HarnessError
from harness.files import replace_file
from harness.printable import printable

HERE = Path(__file__).parent


@click.command()
@click.option("--images", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(SECTIONS), help="Repeatable.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--batch", type=click.IntRange(1, 10_000), default=BATCH, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 10), default=3, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--alone", is_flag=True, help="Leave out peers and the search as loaded.")
@click.option("--model", help="Another stored checkpoint; needs --db.")
@click.option("--db", type=click.Path(path_type=Path), help="The database it is in.")
@click.option("--out", type=click.Path(path_type=Path), default=HERE / "results.json")
@click.option(
    "--page", type=click.Path(path_type=Path), default=HERE.parent / "docs" / "performance.md"
)
@click.option("--render", is_flag=True, help="Measure nothing: write the page from the results.")
def main(
    images: int,
    only: tuple[str, ...],
    device: str,
    threads: int,
    batch: int,
    rounds: int,
    seed: int,
    alone: bool,
    model: str | None,
    db: Path | None,
    out: Path,
    page: Path,
    render: bool,
) -> None:
    """Compare with the peers, side by side, and write results and page."""
    if bool(model) != bool(db):
        raise HarnessError("--model and --db belong together: give both or neither.")
    if not render:
        chosen_device(device)
        keep_big_blocks()  # for both sides: they share the process
        torch.set_num_threads(threads)
        chosen = compared(
            model or THIN,
            db or made(),
            images,
            device=device,
            seed=seed,
            rounds=rounds,
            alone=alone,
            batch=batch,
        )
        setting = setting_of(chosen, threads)
        for section in only or SECTIONS:
            click.echo(f"{section} ...", err=True)
            found = _measured(section, chosen)
            write_results(out, with_section(_stored(out), setting, section, found))
            _say(found)
    replace_file(page, performance(read_results(out)).encode())
    click.echo(f"{out}; {page}")


def _measured(section: str, model: Compared) -> tuple[Comparison, ...]:
    attacks: dict[str, Callable[[Compared], tuple[Comparison, ...]]] = {
        "autoattack": autoattack,
        "pgd": pgd,
        "equality": equality,
    }
    if section in attacks:
        return attacks[section](model)
    torch.manual_seed(model.seed)
    return training(
        lambda precision: trades_request(precision=precision),
        few_images(),
        model.rounds,
        model.device,
    )


def _stored(out: Path) -> Results:
    return read_results(out) if out.exists() else {}


def with_section(
    results: Results, setting: Setting, section: str, found: tuple[Comparison, ...]
) -> Results:
    """The results with one section more; those of the same run in another setting are forgotten."""
    name = "large" if setting.images >= MANY else setting.device
    before = results.get(name)
    kept = before.sections if before is not None and before.setting == setting else {}
    return {**results, name: Run(setting, {**kept, section: found})}


def _say(found: tuple[Comparison, ...]) -> None:
    """A line per side: ratio, spread, outcomes that differ, passes."""
    for comparison in found:
        base = comparison.sides[0]
        for side in comparison.sides:
            if side.best is None:
                click.echo(f"{comparison.work:24} {side.name:24} {side.note}")
                continue
            pair = spread(side, base)
            around = f" ({pair[0]:.2f} to {pair[1]:.2f})" if pair else ""
            click.echo(
                f"{comparison.work:24} {side.name:24} {side.best:9.3f} s  "
                f"{ratio(side, base) or float('nan'):6.2f} times{around}  "
                f"{side.broken} wrong, {side.differ(base)} differ, "
                f"{side.forwards:,} forwards, {side.backwards:,} backwards"
            )


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (HarnessError, click.ClickException) as error:
        click.echo(f"benchmarks: {printable(str(error))}", err=True)
        raise SystemExit(2) from None
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: sections that were finished are kept.", err=True)
        raise SystemExit(130) from None
