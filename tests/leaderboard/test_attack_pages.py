"""Pages of attacks: what is counted, what is grouped, and what is said where nothing ran."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from page_reader import Read, read
from synthetic_boards import CIFAR, attack, board, every_kind, rate, record, standing

from harness.identity import CORRECT
from harness.standings import AttackStanding, Board
from leaderboard.addresses import attack_page
from leaderboard.material import Material
from leaderboard.pages import PAGES, Draft
from leaderboard.site import _render
from leaderboard.tallies import Tally, uses_by_attack, ways
from leaderboard.texts import texts

SURVIVORS = "survivors:standard-2"


def drafts(*boards: Board) -> list[Draft]:
    return list(PAGES["attacks"](Material(boards=boards)))


def pages(*boards: Board) -> dict[str, Read]:
    return {path: read(content) for path, content in _render(drafts(*boards)).items()}


def line(page: Read, first: str) -> list[str]:
    return next(row for row in page.rows if row and row[0].split()[:1] == [first])


def transferred(digest: str, broken: int) -> AttackStanding:
    made = attack(f"pgd@surrogate({digest}):ce", SURVIVORS, None, 105, 200)
    return replace(made, surface=f"surrogate({digest})", broken=broken, knowledge="transfer")


def test_every_attack_has_a_page_whether_it_ran_or_not():
    found = pages(*every_kind())
    assert {attack_page(name) for name in texts().attacks} <= found.keys()
    assert "It ran on no row of this site." in found[attack_page("nes")].text


def test_an_attack_that_never_ran_has_dashes_and_no_zero():
    row = line(pages(*every_kind())["attacks.html"], "nes")
    assert row[2:] == ["–", "not run", *["–"] * 6]


def test_sole_breaks_and_cost_are_sums_over_the_rows():
    row = line(pages(board(standing("a"), standing("b")))["attacks.html"], "apgd_ce")
    assert row[2:4] == ["2", "4"]  # rows, ways
    assert row[5] == "24"  # 4 uses of 3 sole breaks on each of 2 rows
    assert row[7] == f"{2 * 4 * (12_345 + 6_789):,}"


def test_an_attack_on_survivors_only_has_no_sole_breaks_which_is_no_zero():
    row = line(pages(board(standing()))["attacks.html"], "square(queries=1000)")
    assert row[5] == "–"


def test_the_rows_that_name_an_attack_are_counted_and_linked():
    found = pages(board(standing("a"), standing("b", last_lowered_by="fgsm@logits:ce")))
    assert line(found["attacks.html"], "apgd_ce")[4] == "1"
    assert line(found["attacks.html"], "fgsm")[4] == "1"
    assert "../checkpoints/b.html" in found[attack_page("fgsm")].attributes("href")


def test_what_comes_off_the_union_adds_up_to_what_the_row_lost():
    one = standing()
    uses = [use for found in uses_by_attack([board(one)]).values() for use in found]
    assert sum(use.lost for use in uses) == one.clean.count - one.robust.count


def test_accuracy_alone_is_said_of_whole_attacks_and_a_count_of_survivors_of_others():
    late = attack("pgd@logits:margin", SURVIVORS, None, 100, 200)
    late = replace(late, attacked=50, broken=7)
    page = pages(board(standing(attacks=(*standing().attacks, late))))[attack_page("pgd")]
    cells = [row for row in page.rows if row and row[0].startswith("trades-digits")]
    assert [row[1] for row in cells] == ["70.5 63.8–76.4", "broke 7 of 50"]


def test_rows_where_survivors_held_are_summed_in_a_sentence_and_not_listed():
    late = replace(attack("mim@logits:ce", SURVIVORS, None, 105, 200), attacked=50, broken=0)
    rows = (standing(name, attacks=(late,)) for name in ("a", "b"))
    page = pages(board(*rows))[attack_page("mim")]
    assert "On 2 rows it attacked 100 images and broke none" not in page.text  # no way has a line
    assert line(page, "logits")[4] == "0 of 100"
    kept = replace(late, broken=1)
    mixed = pages(board(standing("a", attacks=(late,)), standing("b", attacks=(kept,))))
    assert "On 1 row it attacked 50 images and broke none" in mixed[attack_page("mim")].text


def test_surrogates_are_one_way_and_are_named_by_the_checkpoint_that_they_are():
    twin = standing("twin", checkpoint=record("twin", digest="ab12" * 16), attacks=())
    uses = (transferred("ab12ab12ab12", 3), transferred("ffffffffffff", 2))
    found = uses_by_attack([board(standing(attacks=uses))])["pgd"]
    assert [len(way) for way in ways(found)] == [2]
    page = pages(board(standing(attacks=uses), twin))[attack_page("pgd")]
    assert line(page, "surrogate")[4] == "5 of 384"
    assert "made on twin" in page.text
    assert "made on ffffffffffff" in page.text  # of a checkpoint that is not here


def test_two_stages_that_came_before_are_one_way_and_two_losses_are_two():
    first = attack("pgd@logits:ce", SURVIVORS, None, 105, 200)
    second = replace(first, population="survivors:standard_gradient-1")
    third = replace(first, loss="margin")
    found = uses_by_attack([board(standing(attacks=(first, second, third)))])["pgd"]
    assert [len(way) for way in ways(found)] == [2, 1]


def test_the_order_of_rows_does_not_change_the_ways():
    rows = every_kind()[0].standings
    one = uses_by_attack([board(*rows)])
    other = uses_by_attack([board(*reversed(rows))])
    for name in one:
        assert [Tally.of(way) for way in ways(one[name])] == [
            Tally.of(way) for way in ways(other[name])
        ]


def test_boards_are_named_only_where_there_are_several():
    one = standing()
    assert "epsilon 1/5" not in pages(board(one))[attack_page("fgsm")].text
    other = standing(threat=CIFAR)
    both = pages(board(one), board(other, threat=CIFAR))[attack_page("fgsm")]
    assert "epsilon 1/5" in both.text
    assert "epsilon 8/255" in both.text


def test_a_page_is_drawn_anew_only_when_its_own_attack_says_something_else():
    before = {draft.path: repr(draft.facts) for draft in drafts(board(standing()))}
    *others, last = standing().attacks
    changed = standing(attacks=(*others, replace(last, seconds=9.0)))
    after = {draft.path: repr(draft.facts) for draft in drafts(board(changed))}
    different = {path for path in before if before[path] != after[path]}
    assert different == {"attacks.html", attack_page("apgd_ce")}


def test_every_link_leads_to_a_page_of_the_site():
    found = _render(drafts(*every_kind()))
    known = {*found, *(f"checkpoints/{name}" for name in ("", "x"))}
    for path, content in found.items():
        for href in read(content).attributes("href", "a"):
            place = href.partition("#")[0]
            if not place or "checkpoints/" in place or not place.endswith(".html"):
                continue
            target = (PurePosixPath("/") / PurePosixPath(path).parent / place).as_posix()
            assert _resolved(target) in {*known, *_ROOMS}, (path, href)


_ROOMS = {"index.html"} | {
    f"{room}.html" for room in ("families", "attacks", "studies", "claims", "museum", "reading")
}


def _resolved(path: str) -> str:
    parts: list[str] = []
    for part in path.strip("/").split("/"):
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a\u202eb", "x" * 300])
def test_hostile_names_of_attacks_reach_the_page_as_text_and_never_a_path(text: str):
    evil = replace(attack("pgd@logits:ce", CORRECT, 100, 100, 200), attack=text, surface=text)
    found = _render(drafts(board(standing(attacks=(evil,)))))
    page = read(found[attack_page(text)])
    assert page.tags().count("script") == 0
    assert "\u202e" not in page.text
    assert "/" not in attack_page(text).removeprefix("attacks/")


def test_a_rate_of_no_images_breaks_nothing():
    empty = replace(attack("pgd@logits:ce", CORRECT, 100, 100, 200), robust=rate(0, 0))
    row = standing(attacks=(empty,), clean=rate(0, 0), robust=rate(0, 0))
    assert "–" in pages(board(row))[attack_page("pgd")].text


def test_a_row_that_was_lowered_by_two_attacks_of_one_name_is_linked_once():
    label = "apgd_ce@logits:ce"
    twice = (attack(label, CORRECT, 120, 120, 200), attack(label, SURVIVORS, None, 105, 200))
    page = pages(board(standing(attacks=twice, last_lowered_by=label)))[attack_page("apgd_ce")]
    lowered = page.text.partition("it was the one to lower")[2].partition("How it ran")[0]
    assert lowered.count(standing().checkpoint.name) == 1


def test_the_table_of_all_is_drawn_anew_when_an_attack_turns_out_to_look_at_more():
    one = standing()
    first, *rest = one.attacks
    other = replace(one, attacks=(replace(first, knowledge="query"), *rest))
    before, after = (drafts(board(row))[0] for row in (one, other))
    assert before.path == after.path == "attacks.html"
    assert repr(before.facts) != repr(after.facts)


def test_a_surrogate_of_two_names_has_the_same_name_as_on_the_pages_of_checkpoints():
    names = ("a", "z")
    rows = [standing(name, checkpoint=record(name, digest="ab" * 32)) for name in names]
    made = standing("made", attacks=(transferred("ab" * 6, 5),))
    page = pages(board(*rows, made))[attack_page("pgd")]
    assert "made on a" in page.text
    assert "made on z" not in page.text
