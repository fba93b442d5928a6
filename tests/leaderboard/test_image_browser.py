"""The image browser: the sheet holds the pixels that are stored, and the page shows them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import PHONE, WIDE, sideways
from PIL import Image
from playwright.sync_api import expect
from synthetic_panels import Full, attacked_gallery, clean_gallery, detailed, full, looked_into

from leaderboard import addresses
from leaderboard.panels.contact_sheet import LARGEST_TILE, png, sheet_of
from leaderboard.panels.images import Images
from leaderboard.site import build

PAGE = addresses.checkpoint_page(detailed().checkpoint)


def opened(clean, attacked):
    sheet = sheet_of(clean, attacked)
    assert sheet is not None
    return sheet, np.asarray(Image.open(io.BytesIO(png(sheet))))


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32), (1, 28)])
def test_the_sheet_holds_exactly_the_stored_pixels(channels, side):
    clean = clean_gallery(5, side, channels)
    attacked = attacked_gallery(clean, 10)
    _, picture = opened(clean, attacked)
    assert picture.shape[:2] == (3 * side, 5 * side)
    for number in range(5):
        column = picture[:, number * side : (number + 1) * side].reshape(3, side, side, -1)
        for row, gallery in enumerate((clean, attacked)):
            size = channels * side * side
            stored = np.frombuffer(gallery.pixels, np.uint8)[number * size : (number + 1) * size]
            expected = stored.reshape(channels, side, side).transpose(1, 2, 0)
            assert (column[row] == expected).all()


@pytest.mark.parametrize(("moved", "times"), [(10, 8), (20, 6), (51, 2), (100, 1), (200, 1)])
def test_the_difference_lies_around_grey_and_is_amplified_as_far_as_it_fits(moved, times):
    clean = clean_gallery(24, 8)
    attacked = attacked_gallery(clean, moved)
    sheet, picture = opened(clean, attacked)
    assert sheet.amplified == times
    before, after, difference = picture.reshape(3, 8, -1).astype(int)
    assert (difference == (128 + times * (after - before)).clip(0, 255)).all()


def test_large_images_are_averaged_down_and_said_to_be():
    clean = clean_gallery(2, 224, 3)
    sheet, picture = opened(clean, attacked_gallery(clean))
    assert sheet.is_reduced
    assert picture.shape == (3 * LARGEST_TILE, 2 * LARGEST_TILE, 3)
    first = np.frombuffer(clean.pixels, np.uint8)[: 224 * 224].reshape(112, 2, 112, 2)
    assert np.abs(first.mean((1, 3)) - picture[:112, :112, 0]).max() <= 1


def test_only_images_that_both_have_are_shown_and_other_shapes_are_none():
    clean = clean_gallery(6)
    attacked = attacked_gallery(clean)
    fewer = replace(
        attacked,
        indices=(1, 4),
        broken=attacked.broken[1:5:3],
        predicted=attacked.predicted[1:5:3],
        pixels=attacked.pixels[64:128] + attacked.pixels[256:320],
    )
    sheet, picture = opened(clean, fewer)
    assert sheet.indices == (1, 4)
    assert (picture[:8, 8:] == np.frombuffer(clean.pixels, np.uint8)[256:320].reshape(8, 8)).all()
    assert sheet_of(clean, replace(fewer, shape=(1, 4, 16))) is None
    assert sheet_of(replace(clean, indices=(10, 11, 12, 13, 14, 15)), fewer) is None


def browser_of(row=None, found=None):
    made = Images.of(row or detailed(), Full().gallery(detailed()), found, "../checkpoints/x.png")
    assert made is not None
    return made


def test_each_image_says_what_broke_it_and_what_it_was_taken_for():
    pictures = browser_of(found=looked_into()).pictures
    assert (pictures[0].state, pictures[0].decided, pictures[0].numbers) == (
        "broken", "1", "broken by 3 of 8 attacks: no. 1, 6–7",
    )  # fmt: skip
    assert (pictures[1].state, pictures[1].verdict) == ("wrong", "already wrong")
    assert (pictures[2].state, pictures[2].numbers) == ("kept", "")
    assert [crop.box for crop in pictures[2].crops] == ["16 0 8 8", "16 8 8 8", "16 16 8 8"]
    counts = {state: count for state, _, count in browser_of(found=looked_into()).counts}
    assert counts == {"broken": "8", "kept": "15", "wrong": "1"}


def test_an_image_that_only_another_attack_broke_says_so():
    found = replace(looked_into(), broken_by={2: ("pgd@logits:ce",)})
    picture = browser_of(found=found).pictures[2]
    assert (picture.state, picture.aside) == ("broken", ", not broken by this attack")
    assert picture.numbers == "broken by 1 of 8 attacks: no. 2"


def test_without_the_bits_the_pictures_say_what_their_own_attack_did():
    states = [picture.state for picture in browser_of().pictures[:3]]
    assert states == ["broken", "kept", "kept"]
    few = browser_of(row=detailed(examples=1), found=looked_into())
    assert few.pictures[1].state == "kept"  # it lies beyond the images that the row counts


# in a browser


def test_an_image_of_which_nothing_is_told_is_not_called_wrong():
    """Which attacks broke it is told of the first images only."""
    clean = replace(clean_gallery(1, 8), indices=(30,))
    attacked = attacked_gallery(clean)
    attacked = replace(attacked, broken=(False,), predicted=clean.labels)
    found = Images.of(detailed(), (clean, attacked), looked_into(), "sheet.png")
    assert [one.verdict for one in found.pictures] == ["not broken"]
    assert found.said.startswith("1 test image:")


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a site of which everything is known."""
    folder = tmp_path_factory.mktemp("pictured")
    build(full(), folder)
    return folder / PAGE


def test_every_picture_is_a_visible_piece_of_the_sheet(visitor, pictured):
    page = visitor.open(pictured)
    crops = page.locator("svg.crop")
    expect(crops).to_have_count(72)
    crops.first.scroll_into_view_if_needed()
    expect(crops.first).to_be_visible()
    assert (
        page.locator("svg.crop image").first.evaluate(
            "(image) => getComputedStyle(image).imageRendering"
        )
        == "pixelated"
    )
    shown = Image.open(io.BytesIO(crops.nth(3).screenshot())).convert("L")
    stored = np.frombuffer(clean_gallery().pixels, np.uint8)[64:128].reshape(8, 8)
    width, height = shown.size
    for row, column in ((1, 1), (3, 5), (6, 2)):
        pixel = shown.getpixel((int((column + 0.5) * width / 8), int((row + 0.5) * height / 8)))
        assert abs(int(pixel) - int(stored[row, column])) <= 3


@pytest.mark.parametrize("has_scripts", [True, False])
def test_the_filter_needs_no_script(visitor, pictured, has_scripts):
    page = visitor.open(pictured, has_scripts=has_scripts)
    pictures = page.locator(".picture:visible")
    expect(pictures).to_have_count(24)
    page.get_by_role("radio", name="broken 8", exact=True).check()
    expect(pictures).to_have_count(8)
    page.get_by_role("radio", name="already wrong").check()
    expect(pictures).to_have_count(1)
    page.get_by_role("radio", name="all", exact=True).check()
    expect(pictures).to_have_count(24)


def test_arrow_keys_go_through_the_pictures_that_the_filter_leaves(visitor, pictured):
    page = visitor.open(pictured)
    page.get_by_role("radio", name="broken 8", exact=True).check()
    page.get_by_role("button", name="Enlarge image 3,").click()
    large = page.get_by_role("dialog")
    expect(large).to_contain_text("image 3, class")
    page.keyboard.press("ArrowRight")
    expect(large).to_contain_text("image 6, class")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(large).to_contain_text("image 0, class")
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()


def test_without_scripts_nothing_offers_to_enlarge(visitor, pictured):
    page = visitor.open(pictured, has_scripts=False)
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.locator("svg.chart").first).to_be_visible()


@pytest.mark.parametrize("size", [WIDE, PHONE, (320, 640)])
def test_the_page_never_scrolls_sideways(visitor, pictured, size):
    assert sideways(visitor.open(pictured, size)) == 0


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_axe_finds_nothing_at_all(browser, pictured, is_dark, size):
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if is_dark else "light",
        bypass_csp=True,
    )
    page = context.new_page()
    page.goto(pictured.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False})
    context.close()
    assert [
        (one["id"], one["nodes"][0]["html"][:200]) for one in found.response["violations"]
    ] == []
