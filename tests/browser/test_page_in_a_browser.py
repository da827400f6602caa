"""What a reader does with the page in a real browser: hover, click, keys, filters, sorting, downloads, a phone, paper."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from chromium import unavailable

from attnbench.report import comma_separated, jsonl
from attnbench.report.gather import Gathered

if why := unavailable():
    said = f"the report's page is not tested: {why}"
    # One skip for all of it; where nobody would see that, it is a failure.
    (pytest.fail if os.environ.get("CI") else partial(pytest.skip, allow_module_level=True))(said)

FLASH = "[data-variant='flash_attn_3@eager']"
FLASH_PAGE = "https://github.com/Dao-AILab/flash-attention"


def middle(element: Any) -> tuple[float, float]:
    element.scroll_into_view_if_needed()
    box = element.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def focused(page: Any) -> str:
    label: str = page.evaluate("document.activeElement.getAttribute('aria-label') || ''")
    return label


def rows(page: Any, table: str = "#records-table") -> list[str]:
    texts: list[str] = page.locator(f"{table} tbody tr:visible > :first-child").all_inner_texts()
    return texts


def test_hovering_a_point_tells_what_it_is(opened: Callable[..., Any]) -> None:
    page = opened()
    page.mouse.move(*middle(page.locator(f"#panel--latency .series{FLASH} .point").nth(1)))
    told = page.locator("#tip").inner_text()
    for part in (
        "flash_attn_3@eager",
        "4.040 ms",
        "20 to 80 %: 4.016 to 4.064 ms",
        "2048 tokens",
        "FlashAttention-3, for Hopper",
        "some-kernel 3.1",
        "torch 2.11.0",
        "rel. L2",
    ):
        assert part in told
    assert page.locator("#panel--latency .series.active").count() == 1
    page.mouse.move(0, 0)
    assert page.locator("#tip").is_hidden()


def test_a_click_enter_and_the_name_in_the_legend_open_the_documentation(opened: Callable[..., Any]) -> None:
    page = opened()
    page.evaluate("() => { window.visited = []; window.open = (...asked) => visited.push(asked); }")
    point = page.locator(f"#panel--latency .series{FLASH} .point").nth(1)
    page.mouse.click(*middle(point))
    point.focus()
    page.keyboard.press("Enter")
    page.locator(f"#panel--latency .legend-label{FLASH} text").click()
    assert page.evaluate("visited") == [[FLASH_PAGE, "_blank", "noopener,noreferrer"]] * 3


def test_arrow_keys_move_between_series_points_and_names(opened: Callable[..., Any]) -> None:
    page = opened()
    page.locator("#panel--latency [tabindex='0'][role='link']").first.focus()
    found = [focused(page)]
    for key in ("ArrowRight", "ArrowUp", "End", "ArrowRight", "ArrowDown", "ArrowLeft", "Home"):
        page.keyboard.press(key)
        found.append(focused(page))
    assert [one.split(";")[0].split(",")[0] for one in found] == [
        "flash_attn_3@eager",
        "flash_attn_3@eager",
        "torch_cudnn@default",
        "torch_cudnn@default",
        "torch_cudnn@default",
        "flash_attn_3@eager",
        "flash_attn_3@eager",
        "flash_attn_3@eager",
    ]
    assert ["2048 tokens" in one for one in found] == [False, True, True, False, False, False, False, False]
    assert page.locator("#tip").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_a_series_is_switched_off_by_key_by_its_mark_and_in_the_list(opened: Callable[..., Any]) -> None:
    page = opened()
    line = page.locator(f"#panel--latency .series{FLASH}")
    line.locator(".point").first.focus()
    page.keyboard.press("Space")
    assert line.is_hidden()
    assert focused(page).startswith("flash_attn_3@eager")
    page.keyboard.press("Space")
    assert line.is_visible()
    page.mouse.click(*middle(page.locator(f"#panel--latency .legend-label{FLASH} > :not(text):not(title)").first))
    assert line.is_hidden()
    page.locator("#panel--latency details summary").first.click()
    page.get_by_label("flash_attn_3@eager", exact=True).first.check()
    assert line.is_visible()
    page.get_by_role("button", name="All off").first.click()
    assert page.locator("#panel--latency .series:visible").count() == 0


def test_filters_hold_for_tables_and_plots(opened: Callable[..., Any]) -> None:
    page = opened()
    page.locator(".facet", has_text="Family").locator("summary").click()
    page.get_by_label("flash-attn", exact=True).check()
    assert rows(page) == ["flash_attn_3@eager"] * 3
    assert page.locator("#panel--latency .series:visible").count() == 1
    assert page.locator("#filters output").inner_text() == "3 of 13 records"
    page.get_by_role("button", name="Reset").click()
    page.locator(".facet", has_text="Workload").locator("summary").click()
    page.get_by_label("w2048", exact=True).check()
    assert len(rows(page)) == 4
    assert page.locator("#panel--latency .point:visible").count() == 4
    page.get_by_role("button", name="Reset").click()
    page.locator(".facet", has_text="Verdict").locator("summary").click()
    page.get_by_label("regressed", exact=True).check()
    assert rows(page) == ["torch_cudnn@default", "flash_attn_3@eager"]
    assert "No row matches the filter." in page.locator("#unmeasured").inner_text()
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("searchbox").fill("CUDNN")
    assert rows(page) == ["torch_cudnn@default"] * 3


def test_a_panel_whose_plots_are_all_filtered_says_so(opened: Callable[..., Any]) -> None:
    page = opened()
    said = "getComputedStyle(document.querySelector('#panel--latency'), '::before').content"
    assert page.evaluate(said) == "none"
    page.get_by_role("searchbox").fill("no such variant")
    assert page.evaluate(said) == '"No plot here matches the filter."'


def test_tables_are_sorted_by_number_and_what_is_unknown_is_last(opened: Callable[..., Any]) -> None:
    page = opened()
    for order in ("ascending", "descending"):
        page.locator("#records-table thead button", has_text="Median").click()
        head = page.locator("#records-table th[aria-sort]")
        assert head.get_attribute("aria-sort") == order
        cells = page.locator("#records-table tbody tr td:nth-child(4)").all_inner_texts()
        numbers = [float(cell) for cell in cells if cell]
        assert numbers == sorted(numbers, reverse=order == "descending")
        assert cells[-1] == ""


def test_downloads_are_made_from_the_page_itself(opened: Callable[..., Any], gathered: Gathered) -> None:
    page = opened(accept_downloads=True)
    with page.expect_download() as csv:
        page.get_by_role("button", name="Table, CSV").click()
    assert Path(csv.value.path()).read_bytes().decode() == comma_separated.table(gathered)
    with page.expect_download() as lines:
        page.get_by_role("button", name="Records, JSONL").click()
    expected = [line for source in gathered.runs for line in jsonl.lines(source.run)]
    assert Path(lines.value.path()).read_text().splitlines() == expected
    with page.expect_download() as svg:
        page.get_by_role("button", name="latency.svg").click()
    assert svg.value.suggested_filename == "latency.svg"
    assert ET.parse(svg.value.path()).getroot().get("viewBox", "").startswith("0 0 ")


def test_the_policy_refuses_every_request_and_no_name_runs(opened: Callable[..., Any]) -> None:
    page = opened()
    refused = """new Promise((done) => {
        addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective));
        fetch('https://example.invalid').then(() => done('sent'), () => setTimeout(done, 1000, 'sent in vain'));
    })"""
    assert page.evaluate(refused) == "connect-src"
    assert page.evaluate("typeof evil") == "undefined"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_it_is_readable_on_a_screen_and_a_phone(opened: Callable[..., Any], width: int, scheme: str) -> None:
    page = opened(width, color_scheme=scheme, reduced_motion="reduce")
    page.evaluate(
        "document.querySelector('.facts span').textContent = '12345 records from 1234 launches on 12 GPU units'"
    )
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.plot text')).fill]"
    )
    assert (ground == "rgb(255, 255, 255)") is (scheme == "light")
    assert ink != ground
    assert page.locator("#panel--latency .legend").is_visible() is (width > 640)
    assert page.evaluate("getComputedStyle(document.querySelector('.series')).transitionDuration") == "0s"
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate("document.querySelectorAll('details:not(.facet)').forEach((one) => { one.open = true; })")
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("width", [1280, 360])
def test_the_plot_over_time_tells_every_session_of_a_variant(
    opened: Callable[..., Any], report_over_time: Path, width: int
) -> None:
    page = opened(width, path=report_over_time)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    series = page.locator(f"#history .series{FLASH}").first
    series.locator(".point").first.focus()
    page.keyboard.press("ArrowRight")
    for part in ("flash_attn_3@eager", "+10.00 % against the first session", "2026-01-09 03:04 UTC", "w4096"):
        assert part in page.locator("#tip").inner_text()
    page.keyboard.press("ArrowLeft")
    assert "+" not in page.locator("#tip .figure").inner_text()
    assert page.locator("#history .event--regressed").count() == 2
    page.keyboard.press("Space")
    assert series.is_hidden()


def test_paper_has_every_plot_and_no_controls(opened: Callable[..., Any]) -> None:
    page = opened()
    assert page.locator("figure:visible").count() == 1
    page.emulate_media(media="print")
    assert page.locator("figure:visible").count() == 3
    assert page.locator("nav, #filters, .tabs, .under, .script-only, #downloads").locator("visible=true").count() == 0


def test_without_its_script_the_page_has_every_plot_and_table(opened: Callable[..., Any]) -> None:
    page = opened(script=False)
    assert page.locator("figure:visible").count() == 3
    assert page.locator("#records-table tbody tr:visible").count() == 13
    assert page.locator(".script-only:visible").count() == 0
