"""How numbers and names read on a page. The only place that turns a value into text."""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from harness.identity import (
    CORRECT,
    EVERY,
    EXACT,
    Capabilities,
    CheckpointRecord,
    Failure,
)
from harness.standings import Rate, Standing
from harness.standings.corruptions import Mean
from harness.standings.row import RANKING, name_of
from harness.threat import ThreatModel, format_fraction
from leaderboard.minus import minus

NOTHING = "–"
"""Shown where there is no number; never a zero."""

UNTESTED = "not adaptively tested"

_NORMS = {"linf": "L∞", "l2": "L2"}
_KNOWLEDGE = {
    "white_box": "white box",
    "query": "queries",
    "decision": "decisions only",
    "transfer": "transfer",
    "none": "none",
}
_SUITES = {
    "adaptive": "adaptive",
    "standard": "standard only",
    "adaptive_gradient": "adaptive, but without queries",
    "standard_gradient": "standard only, without queries",
    "adaptive_quick": "adaptive, but reduced",
    "standard_quick": "reduced standard only",
}
_LEVELS = {
    "": "the standard protocol is not complete",
    "E1": "standard only",
    "E2": "also queries, transfer and diagnostics",
    "E3": "adaptive complete",
    "E4": "independent re-run",
}
_PLAIN_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_DEVICE_NAMES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_ARXIV = re.compile(r"\d{4}\.\d{4,5}(v\d+)?|[a-z-]+(\.[A-Z]{2})?/\d{7}(v\d+)?")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)")
_WEB = re.compile(r"https://[^\s<>\"'`\\]+")


def slug(name: str) -> str:
    """A file name without suffix for a checkpoint's page: one per name, stable, safe everywhere.

    A plain lower-case name is its own slug. Any other gets the first 96 bits of its SHA-256 after a
    `~`, which no plain name contains, so two names never share a page, whatever the file system
    folds together, and no name can leave its folder.
    """
    if _PLAIN_SLUG.fullmatch(name) and not _DEVICE_NAMES.fullmatch(name):
        return name
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{readable}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


def percent(rate: Rate | None) -> str:
    """A rate in percent, with a second decimal only where there are images enough to fill it."""
    if rate is None or rate.total == 0:
        return NOTHING
    return f"{100 * rate.fraction:.{_decimals(rate.total)}f}"


def interval(rate: Rate | None) -> str:
    """The 95 % interval in percent, such as `45.6–59.3`; empty where there is no number."""
    if rate is None or rate.total == 0:
        return ""
    return _range(rate, _decimals(rate.total))


def mean_percent(mean: Mean) -> str:
    """A mean of several rates on the same images, in percent."""
    return f"{100 * mean.fraction:.{_decimals(mean.examples)}f}"


def mean_interval(mean: Mean) -> str:
    """Its 95 % interval in percent."""
    return _range(mean, _decimals(mean.examples))


def _range(number: Rate | Mean, decimals: int) -> str:
    return f"{100 * number.low:.{decimals}f}–{100 * number.high:.{decimals}f}"


def _decimals(images: int) -> int:
    return 2 if images > 1000 else 1


def points(difference: float) -> str:
    """A difference of two fractions in percentage points."""
    return f"{100 * difference:.1f}"


def signed_points(difference: float) -> str:
    """A difference of two fractions in percentage points with its sign, none on zero."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else minus(text)


def count(number: int) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,}"


def plural(number: int, thing: str) -> str:
    """`1 attack`, `2 attacks`."""
    return f"{count(number)} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def value(anything: object) -> str:
    """One setting as text."""
    if isinstance(anything, bool):
        return "yes" if anything else "no"
    if isinstance(anything, float):
        return f"{anything:.6g}"
    return str(anything)


def threat(model: ThreatModel) -> str:
    """The threat model for people: `L∞, epsilon 8/255`."""
    return f"{_NORMS.get(model.norm, model.norm)}, epsilon {format_fraction(model.epsilon)}"


def population(name: str) -> str:
    """Which images an attack was let loose on."""
    if name == CORRECT:
        return "every clean-correct image"
    if name == EVERY:
        return "every image"
    kind, _, protocol = name.partition(":")
    return f"{kind} of {protocol}" if protocol else name


def attempt(failure: Failure) -> str:
    """What failed: which attack on which images, or the checkpoint itself."""
    what = failure.attack or "the checkpoint itself"
    slice_ = f", images {failure.first} to {failure.last - 1}" if failure.last > 0 else ""
    return f"{what}{slice_}"


def rank(places: tuple[int, int] | None) -> str:
    """`1`, or `3–5` where the paired tests leave three places open."""
    if places is None:
        return NOTHING
    best, worst = places
    return str(best) if best == worst else f"{best}–{worst}"


def knowledge(name: str) -> str:
    """What an attack may look at."""
    return _KNOWLEDGE.get(name, name) or NOTHING


def level(standing: Standing) -> str:
    """What the evidence level of a row means, for that row."""
    if standing.level == "E1" and standing.is_adaptive:
        return "adaptive too, but not all of E2"
    return _LEVELS.get(standing.level, "")


def evidence(standing: Standing) -> str:
    """How hard the row was tried; `UNTESTED` follows where no adaptive protocol is complete."""
    if standing.is_adaptive and _is_opaque(standing):
        return "adaptive on final logits, all that the model exposes"
    if standing.level == "E2" and not standing.is_adaptive:
        return "standard, queries and transfer"
    return _SUITES.get(_suite(standing), "no suite complete")


def _suite(standing: Standing) -> str:
    """The complete protocol that decides for a row; empty where there is none."""
    complete = {name_of(protocol) for protocol in standing.protocols}
    return next((kind for kind in RANKING if kind in complete), "")


def _is_opaque(standing: Standing) -> bool:
    """Whether a model from elsewhere showed nothing but logits to attack."""
    shown = standing.checkpoint.capabilities
    return standing.checkpoint.kind == "added" and not (shown.auxiliary or shown.select)


def reproduce(standing: Standing) -> str:
    """The command that evaluates this row again, or completes it, for a POSIX shell."""
    name = standing.checkpoint.name
    suite = _suite(standing)
    options = [
        *(["--adaptive"] if suite in {"", "adaptive"} else []),
        *(["--protocol", suite] if suite.endswith("_quick") else []),
        *(["--examples", str(standing.examples)] if standing.examples else []),
        *_where(standing),
        *("--seed", str(standing.seed)),
        *_precision(standing),
    ]
    return _command("eval", name, options)


def _precision(standing: Standing) -> list[str]:
    """Nothing where it is the default."""
    return [] if standing.precision == EXACT else ["--precision", standing.precision]


def evaluate(record: CheckpointRecord) -> str:
    """The command that attacks a checkpoint for the first time, for a POSIX shell."""
    return _command("eval", record.name, ["--adaptive"])


def diagnose(standing: Standing) -> str:
    """The command that runs the diagnostics that this row lacks, for a POSIX shell."""
    return _command("diagnose", standing.checkpoint.name, _where(standing))


def _where(standing: Standing) -> list[str]:
    return [
        *(["--dataset", standing.dataset] if _is_elsewhere(standing) else []),
        *("--norm", standing.threat.norm, "--epsilon", format_fraction(standing.threat.epsilon)),
    ]


def _command(verb: str, name: str, options: Sequence[str]) -> str:
    words = [*options, "--", name] if name.startswith("-") else [name, *options]
    return shlex.join(["harness", verb, *words])


def _is_elsewhere(standing: Standing) -> bool:
    """Whether the row is on another dataset than the checkpoint's own, whatever its pixels."""
    return not standing.dataset.startswith(standing.checkpoint.dataset)


def reachable(capabilities: Capabilities) -> str:
    """What an attacker can differentiate, as one sentence fragment."""
    parts = ["final logits"]
    if capabilities.auxiliary:
        parts.append(plural(capabilities.auxiliary, "auxiliary output"))
    if capabilities.select:
        parts.append("class-conditional gate")
    if capabilities.features:
        parts.append("features")
    if capabilities.scale != 1:
        parts.append(f"logits times {capabilities.scale:g}")
    if capabilities.training_loss:
        parts.append("training loss")
    return ", ".join(parts)


def link(key: str, text: str) -> str:
    """The address behind a line about a paper, or nothing; only arXiv and plain https ever link."""
    if key == "arxiv" and _ARXIV.fullmatch(text):
        return f"https://arxiv.org/abs/{quote(text, safe='/.-')}"
    return text if _WEB.fullmatch(text) else ""


def title(record: CheckpointRecord) -> str:
    """What a row is called first: its defense, or the name that an added model was given."""
    return record.defense or record.name


def scale(record: CheckpointRecord) -> str:
    """The scale of training, whether its images were the published ones, whether it collapsed."""
    return record.scale_mark


def is_small_scale(record: CheckpointRecord) -> bool:
    """Whether its numbers need the mark that training was shorter than in the paper."""
    return scale(record) not in {"", "full"}


def settings(mapping: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """The lines of a list of settings in their stored order, underscores read as spaces."""
    return tuple((key.replace("_", " "), value(entry)) for key, entry in mapping.items())


def number(anything: float) -> str:
    """A measured number to three digits, with a true minus; a dash where it is not finite."""
    if not math.isfinite(anything):
        return NOTHING
    return minus(f"{anything:.3g}")


def moment(created: str) -> str:
    """`2025-11-20T10:05:31.2+00:00` as `2025-11-20 10:05`; anything else as it is."""
    found = _MOMENT.match(created)
    return f"{found[1]} {found[2]}" if found else created


def analyse(standing: Standing) -> str:
    """The command that measures what the features of this row's checkpoint have learnt."""
    return _command("analyse", standing.checkpoint.name, _where(standing))


def numbered(places: Sequence[int]) -> str:
    """Ascending numbers with neighbours drawn together: `1–4, 7, 9–12`."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1][1:] = [place]
        else:
            runs.append([place])
    return ", ".join("–".join(map(str, run)) for run in runs)
