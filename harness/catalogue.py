"""The catalogue: defenses by name, what can be added to them, and what stays a claim.

A base is a function that returns a `Defense` (`@defense`). An addition is a function that changes
one (`@addition`). `composed` gives the papers' combinations their names; any other combination is
written `BASE+ADDITION` and is marked `unvalidated`, unless its parts exclude each other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from harness.defense import Defense
from harness.errors import HarnessError, unknown_name
from harness.identity import Value
from harness.recipe import RECIPES, SCALES, Recipe, checked
from harness.registry import Registry

PUBLISHED, UNVALIDATED = "published", "unvalidated"


@dataclass(frozen=True)
class Paper:
    """Where a defense comes from."""

    title: str
    arxiv: str = ""
    authors: str = ""
    year: int = 0

    def to_json(self) -> dict[str, str]:
        """A plain mapping for the store."""
        return {key: str(value) for key, value in asdict(self).items() if value}


@dataclass(frozen=True)
class Variant:
    """What a paper does differently on one dataset, architecture or base.

    Args:
        dataset: name, or empty for any.
        architecture: name, or empty for any.
        base: value of the setting `base`, or empty for any.
        recipe: id in `RECIPES`, or empty for the defense's own.
        settings: other defaults.
    """

    dataset: str = ""
    architecture: str = ""
    base: str = ""
    recipe: str = ""
    settings: Mapping[str, Value] = field(default_factory=dict)

    def applies(self, dataset: str, architecture: str, base: str) -> bool:
        """Whether this run is meant."""
        wanted = ((self.dataset, dataset), (self.architecture, architecture), (self.base, base))
        return all(one in {"", other} for one, other in wanted)


@dataclass(frozen=True)
class Addition:
    """Something that changes a defense: `apply(defense, **settings)`.

    Args:
        name: what follows the `+`.
        apply: the function; it refuses what it cannot be added to.
        settings: every keyword with its default.
        paper: where it comes from.
        description: first line of the function's docstring.
    """

    name: str
    apply: Callable[..., Defense]
    settings: Mapping[str, Value]
    paper: Paper
    description: str


@dataclass(frozen=True)
class Quoted:
    """A method that the papers only quote: its claims are shown, there is nothing to train.

    Args:
        name: as in the column `defense` of the published claims.
        paper: where it comes from.
        reason: why it is not built, one sentence.
    """

    name: str
    paper: Paper
    reason: str


@dataclass(frozen=True)
class DefenseEntry:
    """One defense by name.

    Args:
        name: as in the column `defense` of the published claims, or `BASE+ADDITION`.
        paper: where it comes from.
        recipe_id: of the paper's training recipe, in `RECIPES`.
        family: `baseline` or the paper that it belongs to.
        description: one sentence.
        status: `published` or `unvalidated`.
        function: keywords -> `Defense`; None for a combination.
        base: name of what is added to, empty where `function` is.
        additions: names, in the order in which they are applied.
        defaults: settings whose default differs from that of the parts.
        variants: the first that applies to a run decides.
    """

    name: str
    paper: Paper
    recipe_id: str
    family: str
    description: str
    status: str = PUBLISHED
    function: Callable[..., Defense] | None = None
    base: str = ""
    additions: tuple[str, ...] = ()
    defaults: Mapping[str, Value] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()

    @cached_property
    def settings(self) -> Mapping[str, Value]:
        """Every keyword with its default."""
        if self.function is not None:
            return _keywords(self.function)
        found = dict(DEFENSES[self.base].settings)
        for addition in self.additions:
            for key, value in ADDITIONS[addition].settings.items():
                if key in found:
                    raise HarnessError(
                        f"{self.name}: '{addition}' and a part before it both have a setting "
                        f"'{key}': choose one of them."
                    )
                found[key] = value
        for key in self.defaults:
            if key not in found:
                raise unknown_name(f"setting of {self.name}", key, found)
        return {**found, **self.defaults}

    @property
    def recipe(self) -> Recipe:
        """The paper's own, at scale `full`."""
        return RECIPES[self.recipe_id]

    @property
    def scales(self) -> tuple[str, ...]:
        """At which it can be trained."""
        return SCALES

    def variant(self, dataset: str = "", architecture: str = "", base: str = "") -> Variant:
        """What differs on this dataset, architecture and base; an empty one if nothing does."""
        chosen = base or str(self.settings.get("base", ""))
        fitting = (v for v in self.variants if v.applies(dataset, architecture, chosen))
        return next(fitting, Variant())

    def compose(
        self, settings: Mapping[str, Value], variant: Variant | None = None
    ) -> tuple[Defense, dict[str, Value]]:
        """The defense and all its settings, defaults filled in.

        Raises:
            HarnessError: unknown setting, a value of another kind or out of range, or parts that
                exclude each other.
        """
        for key in settings:
            if key not in self.settings:
                raise unknown_name(f"setting of {self.name}", key, self.settings)
        chosen = variant or self.variant(base=str(settings.get("base", "")))
        wanted = {**chosen.settings, **settings}
        full: dict[str, Value] = {
            key: checked(key, wanted.get(key, default), type(default))
            for key, default in self.settings.items()
        }
        for key, value in full.items():
            if not isinstance(value, str) and not 0 <= value <= 1e6:
                raise HarnessError(f"{self.name}: {key} must lie in [0, 1e6] but is {value}.")
        return self._build(full), full

    def _build(self, settings: Mapping[str, Value]) -> Defense:
        if self.function is not None:
            return self.function(**settings)
        base = DEFENSES[self.base]
        built = base._build({key: settings[key] for key in base.settings})
        for name in self.additions:
            added = ADDITIONS[name]
            built = added.apply(built, **{key: settings[key] for key in added.settings})
        return built


class Catalogue(Registry[DefenseEntry]):
    """Every named defense, and `BASE+ADDITION+...` for the rest."""

    def __getitem__(self, name: str) -> DefenseEntry:
        base, *additions = name.split("+")
        if additions:
            return self._combined(base, additions)
        if name in QUOTED and not super().__contains__(name):
            raise HarnessError(
                f"'{name}' is only quoted in the papers: {QUOTED[name].reason} There is nothing "
                "to train; `harness list quoted` shows what is claimed of it."
            )
        return super().__getitem__(name)

    def __contains__(self, name: str) -> bool:
        base, *additions = name.split("+")
        return super().__contains__(base) and all(one in ADDITIONS for one in additions)

    def _combined(self, start: str, more: Sequence[str]) -> DefenseEntry:
        entry = super().__getitem__(start)  # a published combination may be added to
        base = entry.base or entry.name
        added = sorted(ADDITIONS[name].name for name in more)
        names = tuple(sorted((*entry.additions, *added)))
        if len({base, *names}) <= len(names):  # AWP and others are bases of their own, too
            raise HarnessError(
                f"'{'+'.join((start, *added))}' adds the same part twice: name every part once."
            )
        every = (super(Catalogue, self).__getitem__(name) for name in self)
        published = [
            known
            for known in every
            if known.base == base
            and tuple(sorted(known.additions)) == names
            and entry.defaults.items() <= known.defaults.items()
        ]
        if published:
            return min(published, key=lambda known: (len(known.defaults), known.name))
        around = self._around(base, names)
        if around is not None:
            return around
        return replace(
            entry,
            name="+".join((start, *added)),
            family="combination",
            description=f"{entry.name} with {', '.join(added)}: no paper tried this.",
            status=UNVALIDATED,
            function=None,
            base=base,
            additions=names,
        )

    def _around(self, base: str, names: tuple[str, ...]) -> DefenseEntry | None:
        """`trades+awp`: published, since the setting `base` of the defense `awp` names `trades`."""
        if len(names) != 1 or not super().__contains__(names[0]):
            return None
        around = super().__getitem__(names[0])
        known = {str(around.settings.get("base", "")): Variant()}
        known = {variant.base: variant for variant in around.variants} | known
        if not base or base not in known:
            return None
        return replace(
            around,
            name=f"{base}+{around.name}",
            recipe_id=known[base].recipe or around.recipe_id,
            description=f"{around.name} on {base}: {around.description}",
            function=None,
            base=base,
            additions=names,
            defaults=known[base].settings,
            variants=(),
        )


DEFENSES = Catalogue("defense", "defenses", "robust_harness.defenses")
ADDITIONS: Registry[Addition] = Registry("addition", "defenses", "robust_harness.defenses")
QUOTED: Registry[Quoted] = Registry("quoted method", "defenses", "robust_harness.defenses")


def defense(
    *,
    paper: Paper,
    recipe: str = "A-R18",
    family: str = "baseline",
    status: str = PUBLISHED,
    variants: tuple[Variant, ...] = (),
) -> Callable[[Callable[..., Defense]], Callable[..., Defense]]:
    """Register a function as the defense of its name; its keywords are the settings."""

    def register(function: Callable[..., Defense]) -> Callable[..., Defense]:
        name = function.__name__
        entry = DefenseEntry(
            name, paper, recipe, family, _first_line(function), status, function, variants=variants
        )
        DEFENSES.add(name, entry)
        return function

    return register


def addition(*, paper: Paper) -> Callable[[Callable[..., Defense]], Callable[..., Defense]]:
    """Register a function (defense, **settings) -> defense under its name, for `BASE+NAME`."""

    def register(function: Callable[..., Defense]) -> Callable[..., Defense]:
        name = function.__name__
        keywords = _keywords(function, skip=1)
        ADDITIONS.add(name, Addition(name, function, keywords, paper, _first_line(function)))
        return function

    return register


def composed(
    base: str,
    *additions: str,
    paper: Paper,
    recipe: str,
    family: str,
    description: str,
    name: str = "",
    status: str = PUBLISHED,
    variants: tuple[Variant, ...] = (),
    defaults: Mapping[str, Value] | None = None,
) -> None:
    """Give a combination its name, recipe and defaults; `name` is BASE_ADDITION if not given."""
    chosen = name or "_".join((base, *additions))
    entry = DefenseEntry(
        chosen,
        paper,
        recipe,
        family,
        description,
        status,
        base=base,
        additions=additions,
        defaults=dict(defaults or {}),
        variants=variants,
    )
    DEFENSES.add(chosen, entry)


def by_name(base: str) -> Defense:
    """A registered defense with its defaults, for those that take their base as a setting.

    Its attack starts uniformly in the ball where it has the choice, as in the code of AWP, S2O
    and UDR (`baselines.md` section 1).
    """
    entry = DEFENSES[base]
    return entry.compose({"start": "uniform"} if "start" in entry.settings else {})[0]


def quoted(name: str, paper: Paper, reason: str) -> None:
    """List a method whose published numbers are shown although nothing is built."""
    QUOTED.add(name, Quoted(name, paper, reason))


def pairs() -> Iterator[tuple[str, str, str, str]]:
    """Every base with every single addition: (base, addition, status, reason or name)."""
    bases = [name for name in DEFENSES if not DEFENSES[name].additions]
    for base in bases:
        for added in ADDITIONS:
            try:
                entry = DEFENSES[f"{base}+{added}"]
                entry.compose({})
            except HarnessError as error:
                yield base, added, "refused", str(error)
            else:
                yield base, added, entry.status, entry.name


def _keywords(function: Callable[..., Any], skip: int = 0) -> dict[str, Value]:
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    return {parameter.name: parameter.default for parameter in parameters}


def _first_line(function: Callable[..., Any]) -> str:
    return inspect.cleandoc(function.__doc__ or "").partition("\n")[0]
