"""The pages in a real browser, on a real service that runs a real job."""

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright

from examples.digits.heldout import write_heldout
from service.cli.demo import NETWORK
from tests.end_to_end.conftest import ROOT, TRIALS, RunningJob

pytestmark = pytest.mark.slow

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
JOB_MS = 240_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next((found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)
    if path is None and os.environ.get("CI"):
        pytest.fail("continuous integration must have Chromium: without it no page is tested")
    if path is None:
        pytest.skip("needs Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console has to say: errors, warnings, refused by policy."""
    return []


@pytest.fixture
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, accept_downloads=True)
    page = context.new_page()

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()


def drawn(page: Page) -> list[dict[str, object]]:
    """Return the chart's traces as Plotly holds them: name and the points' identifiers."""
    expect(page.locator("#chart .scatterlayer .trace").first).to_be_attached(timeout=20_000)
    text = page.evaluate(
        "JSON.stringify(document.getElementById('chart').data"
        ".map((trace) => ({name: trace.name ?? '', ids: trace.customdata ?? []})))"
    )
    traces: list[dict[str, object]] = json.loads(text)
    return traces


def test_the_page_follows_a_job_to_its_end_without_being_reloaded(
    running: RunningJob, page: Page, complaints: list[str]
) -> None:
    page.goto(running.url)
    page.evaluate("window.stillTheSame = true")

    expect(page.locator("#status .status")).to_have_text("done", timeout=JOB_MS)
    expect(page.locator("#progress strong").first).to_have_text(str(TRIALS), timeout=10_000)
    expect(page.locator("#front tr[data-row]").first).to_be_visible()

    assert page.evaluate("window.stillTheSame") is True
    assert complaints == []


def test_the_chart_has_the_front_the_baselines_and_the_float_network(
    finished: RunningJob, page: Page, complaints: list[str]
) -> None:
    front = finished.client.front(finished.job_id, device="raspberry-pi-4", x="latency_ms")

    page.goto(f"{finished.url}?device=raspberry-pi-4&x=latency_ms")

    traces = drawn(page)
    on_front = [name for trace in traces if str(trace["name"]).startswith("front:") for name in trace["ids"]]  # type: ignore[attr-defined]
    by_name = {trace["name"]: trace["ids"] for trace in traces}
    assert sorted(on_front) == sorted(trial.id for trial in front.points)
    shown = {*on_front, *by_name["uniform baselines"]}  # type: ignore[misc]
    assert {trial.id for trial in front.baselines} <= shown
    assert len(by_name["float network"]) == 1  # type: ignore[arg-type]
    assert page.locator("#chart .scatterlayer .point").count() >= len(front.points)
    assert complaints == []


def test_a_click_on_a_point_shows_its_layers_and_its_checkpoint_can_be_downloaded(
    finished: RunningJob, page: Page, complaints: list[str], tmp_path: Path
) -> None:
    best = finished.client.best(finished.job_id, device="stm32h743")
    page.goto(f"{finished.url}?device=stm32h743&x=latency_ms")
    drawn(page)

    spot = page.evaluate(
        """(id) => {
          const chart = document.getElementById("chart");
          const { xaxis, yaxis } = chart._fullLayout;
          for (const trace of chart._fullData) {
            const at = (trace.customdata ?? []).indexOf(id);
            if (at < 0) continue;
            const box = chart.querySelector(".nsewdrag").getBoundingClientRect();
            return [box.left + xaxis.d2p(trace.x[at]), box.top + yaxis.d2p(trace.y[at])];
          }
        }""",
        best.id,
    )
    page.mouse.move(*spot)
    page.mouse.click(*spot)

    panel = page.locator("#trial")
    expect(panel.locator("h2")).to_contain_text(f"rial {best.number}" if not best.label else best.label[1:])
    expect(panel.locator("li", has_text="verified")).to_be_visible()
    layers = finished.client.trial(best.id).layers["stm32h743"]
    expect(panel.locator("tbody tr")).to_have_count(len(layers))
    first = panel.locator("tbody tr").first
    expect(first).to_contain_text(layers[0].name)
    expect(first.locator("td").first).to_have_text(str(best.plan["layers"][layers[0].name]["weight_bits"]))
    with page.expect_download() as download:
        panel.get_by_role("link", name="Download packed").click()
    target = tmp_path / "packed.zip"
    download.value.save_as(target)
    with zipfile.ZipFile(target) as archive:
        assert {"model.safetensors", "manifest.json"} <= set(archive.namelist())
    assert complaints == []


def test_a_trial_can_be_chosen_with_the_keyboard_alone(finished: RunningJob, page: Page) -> None:
    page.goto(finished.url)
    drawn(page)
    link = page.locator("#front a[data-trial]").first

    link.focus()
    page.keyboard.press("Enter")

    expect(page.locator("#trial tbody tr").first).to_be_visible()
    assert page.evaluate("document.activeElement.id") == "trial"
    assert f"trial={link.get_attribute('data-trial')}" in page.url


def test_device_and_axes_change_the_chart_without_a_reload(finished: RunningJob, page: Page) -> None:
    page.goto(finished.url)
    drawn(page)

    page.get_by_role("combobox", name="Device").select_option("stm32h743")
    page.get_by_role("combobox", name="Across").select_option("packed_bytes")

    expect(page.locator("#chart .xtitle")).to_have_text("packed file (bytes)")
    expect(page.locator("#front .note")).to_contain_text("the front of stm32h743 along packed file (bytes)")


def test_an_answer_that_comes_late_does_not_replace_what_was_chosen_after_it(finished: RunningJob, page: Page) -> None:
    page.goto(finished.url)
    drawn(page)
    late: list[Route] = []
    page.route(lambda url: "/parts/front" in url and "x=latency_ms" in url, lambda route: late.append(route))
    page.get_by_role("combobox", name="Device").select_option("stm32h743")
    page.get_by_role("combobox", name="Across").select_option("packed_bytes")
    note = page.locator("#front .note")
    expect(note).to_contain_text("the front of stm32h743 along packed file (bytes)")

    with page.expect_response(lambda response: "x=latency_ms" in response.url):
        late[0].continue_()
    page.wait_for_timeout(200)  # what the page does with an answer shows nothing else to wait for

    expect(note).to_contain_text("the front of stm32h743 along packed file (bytes)")


def test_a_jobs_trials_are_priced_on_another_device_on_its_page(
    finished: RunningJob, page: Page, complaints: list[str]
) -> None:
    (front,) = finished.client.rerank(finished.job_id, ["jetson-nano"], x="energy_mj").fronts
    page.goto(finished.url)

    page.get_by_role("listbox", name="Price on").select_option("jetson-nano")
    page.get_by_role("combobox", name="Along").select_option("energy_mj")
    page.get_by_role("button", name="Re-rank").click()

    answer = page.locator("#rerank")
    expect(answer.locator("h3")).to_have_text("jetson-nano", timeout=20_000)
    expect(answer.locator("tbody tr")).to_have_count(len(front.points))
    assert complaints == []


def test_a_trial_says_what_each_layer_saves_against_another_one(
    finished: RunningJob, page: Page, complaints: list[str]
) -> None:
    best = finished.client.best(finished.job_id)
    expected = finished.client.why(best.id).layers
    page.goto(f"{finished.url}?trial={best.id}")

    page.get_by_role("button", name="Explain").click()
    rows = page.locator("#why tbody tr")
    expect(rows).to_have_count(len(expected), timeout=20_000)
    expect(rows.first.locator("th")).to_have_text(expected[0].layer)

    other = page.get_by_role("combobox", name="Compared with")
    other.select_option(index=1)
    page.get_by_role("button", name="Explain").click()

    expect(page.locator("#why caption")).to_contain_text(f"against {other.locator('option').nth(1).inner_text()}")
    assert complaints == []


@pytest.mark.parametrize(
    "path", ["/", "/jobs/{job}", "/jobs/{job}?trial={job}-0", "/new", "/models", "/devices", "/devices/stm32h743"]
)
def test_no_page_scrolls_sideways_on_a_phone(
    finished: RunningJob, page: Page, complaints: list[str], path: str
) -> None:
    page.set_viewport_size({"width": 375, "height": 700})

    page.goto(finished.client.url + path.format(job=finished.job_id))
    if "/jobs/" in path:
        drawn(page)

    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert complaints == []


def test_a_job_can_be_submitted_in_the_browser(
    finished: RunningJob, page: Page, complaints: list[str], tmp_path: Path
) -> None:
    write_heldout(tmp_path / "digits.npz")
    page.goto(f"{finished.client.url}/new")
    page.get_by_label("Name of the job").fill("from the browser")
    page.get_by_label("Network (ONNX)").set_input_files(ROOT / NETWORK)
    page.get_by_label("Labelled images").set_input_files(tmp_path / "digits.npz")
    page.get_by_label("raspberry-pi-4", exact=False).first.check()
    limit = page.get_by_label("latency (ms) of raspberry-pi-4")
    limit.fill("0.001")

    page.get_by_role("button", name="Submit").click()

    # nothing runs in a microsecond: the refusal names the field and what can be reached
    expect(page.get_by_role("alert")).to_contain_text("latency_ms", timeout=60_000)
    limit.fill("0.36")
    page.get_by_label("Trials").fill("4")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/jobs/*", timeout=60_000)
    expect(page.locator("h1")).to_have_text("from the browser")
    refused = [line for line in complaints if "422" not in line]  # the browser logs every refused request
    assert refused == []
