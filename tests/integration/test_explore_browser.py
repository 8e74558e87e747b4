"""The page of `tiedlm explore` in a real Chromium, with every other host out of reach.

The pictures of docs/explore.md are made here, from the runs of the demo:

    export EXPLORE_RUNS=runs/demo EXPLORE_PICTURES=docs/images
    pytest -m slow tests/integration/test_explore_browser.py -k every_view
"""

import asyncio
import os
import shutil
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("starlette")
pytest.importorskip("plotly")
pytest.importorskip("uvicorn")
pytest.importorskip("playwright.sync_api")

import uvicorn
from playwright import sync_api as playwright

from tiedlm.web.security import new_token
from tiedlm.web.server import make_app, open_socket
from tiedlm.web.views import VIEWS
from web_support import HOSTILE, make_run, write_curve

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

ENGLISH = """<eos> <unk> the of to and a in that it we is for our this are have be will i with on
they you as not by from more has must was all can world people new congress american states
government energy house senate work year years jobs tax health security children"""
TWO = "run=vd-lstm&run=vd-lstm-real"
STATES = {
    "words": "text=the+people+of+the+",
    "target": f"word=congress&text=we+ask+the+&tau=4&{TWO}",
    "neighbours": "word=congress",
    "map": f"word=congress&{TWO}",
    "angles": "",
    "training": "train=1",
    "surprisal": "text=the+congress+of+the+united+states+will+act+for+all+of+our+children%0A"
    "we+must+have+security+and+energy+and+a+new+tax",
    "pairs": "good=the+people+are+here&bad=the+people+is+here&good=he+has+jobs&bad=he+have+jobs",
}
READY = {  # what shows that the view has its answer
    "words": "#table tbody tr", "target": ".js-plotly-plot .main-svg", "neighbours": ".near li",
    "map": ".map canvas[data-drawn]", "angles": ".js-plotly-plot .main-svg",
    "training": ".js-plotly-plot .main-svg", "surprisal": "a[download]", "pairs": "#table tbody tr",
}  # fmt: skip
PICTURES = os.environ.get("EXPLORE_PICTURES")


class Server:
    """The page about some runs, served in a thread."""

    def __init__(self, *folders):
        self.socket = open_socket(None)
        port, token = self.socket.getsockname()[1], new_token()
        self.base = f"http://127.0.0.1:{port}"
        self.address = f"{self.base}/?token={token}"
        config = uvicorn.Config(
            make_app(folders, token, port), lifespan="off", ws="none", log_level="critical",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        run = self.server.serve(sockets=[self.socket])
        self.thread = threading.Thread(target=lambda: asyncio.run(run))
        self.thread.start()

    def stop(self):
        self.server.should_exit = True
        self.thread.join(20)
        self.socket.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    if given := os.environ.get("EXPLORE_RUNS"):
        return [file.parent for file in sorted(Path(given).glob("*/config.json"))]
    folder = tmp_path_factory.mktemp("runs")
    words = ENGLISH.split()
    shape = {"d_embed": 12, "d_hidden": 12}
    make_run(folder / "vd-lstm", words, **shape)
    make_run(folder / "vd-lstm-real", words, tied=True, seed=1, epochs=5, **shape)
    return [folder / "vd-lstm", folder / "vd-lstm-real"]


@pytest.fixture(scope="module")
def server(folders):
    made = Server(*folders)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        made = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", rules])
        yield made
        made.close()


@pytest.fixture
def under_way(tmp_path):
    """Return the folder of an unfinished run and the server of its page."""
    folder = tmp_path / "run"
    make_run(folder, ENGLISH.split(), epochs=2, finished=False)
    made = Server(folder)
    yield folder, made
    made.stop()


def until(page, condition, **options):
    """Wait for a condition; as a function, because the page evaluates no strings."""
    is_function = "arg" in options
    page.wait_for_function(condition if is_function else f"() => {condition}", **options)


class Opened:
    """A page that has been opened, and all that must not happen in it."""

    def __init__(self, browser, server, width=1280, scheme="light"):
        self.server = server
        height = 844 if width < 500 else 900
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.wrong = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(dialog.message))
        self.page.on("request", self._saw)
        self.page.goto(server.address)
        self.page.wait_for_selector("body[data-ready]")

    def _saw(self, request):
        if not request.url.startswith((self.server.base + "/", "blob:")):
            self.wrong.append(request.url)

    def go(self, view, state="", ready=True):
        self.page.goto("about:blank")
        self.page.goto(f"{self.server.base}/{view}#{state}")
        self.page.wait_for_selector("body[data-ready]")
        if ready:
            self.page.wait_for_selector(READY[view], state="attached")
            until(self.page, "!document.querySelector('.waiting')")
        return self.page


@pytest.fixture
def opened(browser, server):
    made = Opened(browser, server)
    yield made
    made.context.close()
    assert made.wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_view_fits_is_accessible_and_says_nothing_in_the_console(
    browser, server, tmp_path, width, scheme
):
    axe = pytest.importorskip("axe_playwright_python.base").AXE_SCRIPT
    opened = Opened(browser, server, width, scheme)
    pictures = Path(PICTURES or tmp_path)
    for view in VIEWS:
        page = opened.go(view.name, STATES[view.name])
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view.name
        assert page.locator("h1").inner_text() == view.title
        assert page.locator(".lead").inner_text() == view.sentence
        page.evaluate(axe)
        found = page.evaluate("axe.run()")["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], view.name
        page.wait_for_timeout(150)
        if (width == 1280) == (scheme == "light"):
            kind = "" if width == 1280 else "-phone-dark"
            path = pictures / f"explore-{view.name}{kind}.png"
            page.screenshot(path=path, full_page=width == 1280)
        if page.locator(".figures").count():
            page.evaluate(
                "() => document.querySelectorAll('details').forEach(one => one.open = true)"
            )
            page.wait_for_selector(".figures tbody td")
            found = page.evaluate("axe.run('.figures')")["violations"]
            assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], view.name
    opened.context.close()
    assert opened.wrong == []
    assert len(list(pictures.glob("explore-*.png"))) >= len(VIEWS) * (
        (width == 1280) == (scheme == "light")
    )


def tab_to(page, selector, most=60):
    """Press Tab until the focus is on what the selector names."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_the_menu_and_the_runs_work_by_keyboard(opened, folders):
    page = opened.go("words", STATES["words"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page = opened.go("words", STATES["words"])
    tab_to(page, "#run-0")
    page.keyboard.press("Space")
    until(page, f"document.querySelectorAll('#table thead th').length <= {len(folders) + 1}")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')").startswith("/pairs#run=")
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-view=pairs][data-ready]")
    assert not page.locator("#run-0").is_checked()


def test_words_are_typed_and_chosen_by_keyboard(opened):
    page = opened.go("words")
    tab_to(page, "#text")
    page.keyboard.type("the people ")
    tab_to(page, "input[name=order]")
    page.keyboard.press("ArrowDown")
    tab_to(page, "button.word")
    word = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    kept = "" if word == "end of line" else word.replace("unknown word", "<unk>")
    until(page, "text => document.querySelector('#text').value === text",
                           arg=f"the people {kept} ")  # fmt: skip


def test_a_chosen_piece_is_joined_to_the_text(browser, tmp_path):
    pieces = pytest.importorskip("tiedlm.data.pieces")
    pytest.importorskip("tokenizers")
    make_run(tmp_path / "run", pieces.train_pieces(["the cat sees the cats"] * 4, "bpe", 280))
    server = Server(tmp_path / "run")
    try:
        opened = Opened(browser, server)
        page = opened.go("words", "text=the")
        for piece, text in [("▁cat", "the cat"), ("s", "the cats"), ("▁the", "the cats the")]:
            page.fill("#word", piece)
            until(
                page,
                "piece => document.querySelector('tr.looked bdi')?.innerText.endsWith(piece)",
                arg=piece,
            )
            page.click("tr.looked button")
            assert page.input_value("#text") == text
        page.fill("#word", "<0xE2>")
        until(page, "document.querySelector('tr.looked bdi').innerText === '<0xE2>'")
        assert page.locator("tr.looked button").count() == 0
        opened.context.close()
        assert opened.wrong == []
    finally:
        server.stop()


def test_the_sliders_move_the_soft_target_by_keyboard(opened):
    page = opened.go("target", STATES["target"])
    before = page.locator(".block .sum").first.inner_text()
    tab_to(page, "#tau")
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    until(page, "before => document.querySelector('.block .sum').innerText !== before", arg=before)
    shown = float(page.locator("#tau-shown").inner_text())
    assert shown < 4
    until(
        page,
        "t => document.querySelector('.block .sum').innerText.startsWith(`At τ = ${t},`)",
        arg=f"{shown:g}",
    )
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    until(page, "document.querySelector('#blocks').innerText.includes('α = γτ = ')")
    assert page.locator("#gamma-shown").inner_text() == "3"


WIDTHS = pytest.mark.parametrize("width", [1280, 390])


@WIDTHS
@pytest.mark.parametrize("view", ["target", "angles", "training"])
def test_the_numbers_of_a_chart_are_read_by_keyboard(browser, server, view, width):
    opened = Opened(browser, server, width)
    page = opened.go(view, STATES[view])
    tab_to(page, ".figures summary", 200)
    page.keyboard.press("Enter")
    page.wait_for_selector(".figures[open] tbody tr")
    table = page.locator(".figures table").first
    chart = page.locator(".js-plotly-plot").first
    points = chart.evaluate("node => node.data[0].y.map(value => value ?? null)")
    rows = table.locator("tbody tr").all_inner_texts()
    assert len(rows) >= len(points) > 0
    shown = float(rows[0].split("\t")[1].strip("°%"))
    assert shown == pytest.approx(points[0] * (100 if view == "target" else 1), abs=0.06)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('.figures .scroll')")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.context.close()
    assert opened.wrong == []


@WIDTHS
def test_the_map_is_walked_through_by_keyboard(browser, server, width):
    opened = Opened(browser, server, width)
    page = opened.go("map", "run=vd-lstm")
    tab_to(page, ".map")
    said = page.locator(".at").first
    come_to = set()
    for key in ["ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowLeft"]:
        page.keyboard.press(key)
        assert " of the vocabulary. Beside it on the map: " in said.inner_text()
        come_to.add(said.locator("b").inner_text())
    assert len(come_to) > 2
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    before = page.evaluate("document.querySelector('.map canvas').toDataURL()")
    page.keyboard.press("+")
    until(page, "before => document.querySelector('.map canvas').toDataURL() !== before",
          arg=before)  # fmt: skip
    page.keyboard.press("0")
    until(page, "before => document.querySelector('.map canvas').toDataURL() === before",
          arg=before)  # fmt: skip
    word = said.locator("b").inner_text()
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.sum')?.innerText.startsWith('Nearest to ')")
    kept = {"unknown word": "<unk>", "end of line": "<eos>"}.get(word, word)
    assert page.input_value("#word") == kept
    opened.context.close()
    assert opened.wrong == []


def test_the_map_shows_all_words_and_finds_one_that_is_not_shown(browser, tmp_path):
    words = ["<eos>", "<unk>", *(f"word{number}" for number in range(400))]
    make_run(tmp_path / "run", words)
    server = Server(tmp_path / "run")
    try:
        opened = Opened(browser, server)
        page = opened.go("map", "count=300&word=word399")
        assert "300 of 402 words" in page.locator("h2").inner_text()
        assert "Nearest to word399: " in page.locator(".block .sum").first.inner_text()
        tab_to(page, ".map")
        page.keyboard.press("ArrowDown")  # begins at the searched word
        assert "word399 is word 402 of the vocabulary" in page.locator(".at").inner_text()
        asked = []
        page.on("request", lambda request: asked.append(request.post_data_json))
        page.fill("#word", "word12")
        until(page, "document.querySelector('.sum').innerText.startsWith('Nearest to word12:')")
        assert [question["count"] for question in asked if "space" in question] == [0]
        page.select_option("#count", "50000")
        page.wait_for_selector(".map canvas[data-drawn='402']")
        assert "402 of 402 words" in page.locator("h2").inner_text()
        opened.context.close()
        assert opened.wrong == []
    finally:
        server.stop()


@pytest.mark.parametrize("view", ["neighbours", "map"])
def test_an_unknown_word_offers_others_by_keyboard(opened, view):
    page = opened.go(view, STATES[view])
    tab_to(page, "#word")
    page.keyboard.press("Control+A")
    page.keyboard.type("sen")
    until(
        page,
        "(chips => chips.length && chips.every(chip => chip.textContent.startsWith('sen')))"
        "([...document.querySelectorAll('button.chip')])",
    )
    tab_to(page, "button.chip")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#word').value.startsWith('sen')")
    until(page, "!document.querySelector('button.chip')")
    assert len(page.locator("#word").input_value()) > 3


def test_a_text_is_walked_through_and_its_table_downloaded_by_keyboard(opened):
    page = opened.go("surprisal", ready=False)
    tab_to(page, "#text")
    page.keyboard.type("the people\nof the zebra")
    until(page, "document.querySelectorAll('.colour .unknown').length > 0")
    until(  # the whole text is read
        page,
        "(all => all.every(one => one.querySelector('a[download]') &&"
        " one.querySelector('.colour').innerText.includes('zebra')))"
        "([...document.querySelectorAll('.block')])",
    )
    tab_to(page, ".colour")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert "bits, rank" in page.locator(".numbers").first.inner_text()
    assert page.locator(".colour .at").count() == 1
    tab_to(page, "a[download]")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    table = Path(download.value.path()).read_text()
    assert table.startswith("sentence\tposition\tword\t")
    assert download.value.suggested_filename.endswith(".tsv")
    assert table.count("\n") >= 7


def test_pairs_are_added_and_removed_by_keyboard(opened):
    page = opened.go("pairs", ready=False)
    tab_to(page, ".pair input")
    page.keyboard.type("the people are here")
    page.keyboard.press("Tab")
    page.keyboard.type("the people is here")
    page.wait_for_selector("#table tbody tr")
    tab_to(page, "#add")
    page.keyboard.press("Enter")
    page.keyboard.type("we have jobs")
    page.keyboard.press("Tab")
    page.keyboard.type("we has jobs")
    until(page, "document.querySelectorAll('#table tbody tr').length === 2")
    assert "of 2" in page.locator("#table tfoot").inner_text()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#table tbody tr').length === 1")


def test_the_address_keeps_the_state_and_not_the_token(opened):
    page = opened.go("words")
    page.fill("#text", "the people of & = # ü ")
    page.check("input[value=disagreement]")
    until(page, "location.hash.includes('disagreement')")
    rows = page.locator("#table tbody").inner_text()
    address = page.url
    assert "token" not in address
    kept = parse_qs(urlsplit(address).fragment)
    assert kept == {"text": ["the people of & = # ü "], "order": ["disagreement"]}
    opened.go("angles")
    page.goto(address)
    until(page, "rows => document.querySelector('#table tbody')?.innerText === rows",
                           arg=rows)  # fmt: skip
    assert page.input_value("#text") == "the people of & = # ü "


def test_twenty_keystrokes_a_second_do_not_queue_up(opened):
    page = opened.go("words")
    flying, most, asked = set(), [0], []

    def began(request):
        if request.url.endswith("/api/words"):
            flying.add(request)
            asked.append(request.post_data_json["text"])
            most[0] = max(most[0], len(flying))

    page.on("request", began)
    page.on("requestfinished", lambda request: flying.discard(request))
    page.on("requestfailed", lambda request: flying.discard(request))
    page.focus("#text")
    typed = "the people of the congress will have new jobs "
    started = time.monotonic()
    page.keyboard.type(typed, delay=50)
    took = time.monotonic() - started
    page.wait_for_timeout(50)
    deadline = time.monotonic() + 10
    while flying or asked[-1] != typed:
        assert time.monotonic() < deadline
        page.wait_for_timeout(20)
    assert most[0] == 1
    assert len(asked) <= len(typed) + 1
    assert took > 0.05 * len(typed)


def test_a_hundred_kilobytes_are_pasted_and_replaced(opened):
    page = opened.go("surprisal", "run=vd-lstm", ready=False)
    page.focus("#text")
    text = "the people of the world must have new energy and jobs\n" * 1850
    assert len(text) > 100_000 - 200
    page.keyboard.insert_text(text)
    until(page, "document.querySelectorAll('.colour span').length > 1000")
    page.keyboard.press("Control+A")
    page.keyboard.insert_text("the people")  # while the long text is being read
    until(page, "document.querySelectorAll('.colour span').length === 3")
    page.wait_for_selector("a[download]")
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)
    until(page, f"document.querySelectorAll('.colour span').length === {1850 * 12}", timeout=90_000)
    page.wait_for_selector("a[download]")
    page.keyboard.press("Control+A")
    page.keyboard.insert_text("x" * 200_001)
    until(page, "document.querySelector('#reading').innerText.includes('200,000')")


def test_hostile_words_names_and_files_are_only_text(browser, tmp_path):
    folder = tmp_path / "<img src=x onerror=alert(9)>"
    make_run(folder, HOSTILE)
    (folder / "metrics.jsonl").write_text(
        '{"epoch": 1, "valid_ppl": 9, "lr": 1}\n{"epoch": "<img src=x>", "valid_ppl": 8}\n'
    )
    server = Server(folder)
    try:
        opened = Opened(browser, server)
        hostile = "+".join(word.replace("&", "%26").replace("%{", "%25{") for word in HOSTILE[2:])
        for view in VIEWS:
            state = f"text={hostile}&word=plainword&good={hostile}&bad={hostile}+it"
            page = opened.go(view.name, state)
            assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
            assert page.locator("#runs bdi").inner_text() == folder.name
            assert page.locator("main a[href^='http']").count() == 0
            assert page.locator("main svg a").count() == 0
        page = opened.go("map", "word=<b>bold</b>".replace("/", "%2F"))
        tab_to(page, ".map")
        page.keyboard.press("ArrowRight")
        assert page.locator(".at b").inner_text() == "<b>bold</b>"
        opened.context.close()
        assert opened.wrong == []
    finally:
        server.stop()


def test_runs_of_other_vocabularies_are_said_not_to_be_comparable(browser, tmp_path, folders):
    make_run(tmp_path / "other", [*ENGLISH.split(), "zebra"])
    server = Server(*folders[:2], tmp_path / "other")
    try:
        opened = Opened(browser, server)
        page = opened.go("training")
        said = page.locator("#reading").inner_text()
        assert "can be compared only within a group" in said
        assert said.endswith(f"{folders[0].name}, {folders[1].name}; other.")
        page.uncheck("#run-2")
        until(page, "!document.querySelector('#reading').textContent")
        opened.context.close()
        assert opened.wrong == []
    finally:
        server.stop()


def test_a_run_is_followed_while_it_is_trained_and_when_it_vanishes(browser, under_way):
    folder, server = under_way
    opened = Opened(browser, server)
    page = opened.go("training")
    assert "not finished" in page.locator("#runs").inner_text()
    write_curve(folder, 3)
    until(page, "document.querySelector('#table').innerText.includes('3 of 2')")
    page = opened.go("words", STATES["words"])
    shutil.rmtree(folder)
    until(page, "document.querySelector('#runs').innerText.includes('gone')")
    before = page.locator("#table tbody").inner_text()
    page.focus("#text")
    page.keyboard.type("world ")
    until(
        page,
        "before => document.querySelector('#table tbody').innerText !== before",
        arg=before,
    )
    assert opened.wrong == []
    server.stop()
    page.keyboard.type("x")
    page.wait_for_selector("#problem:not([hidden])")
    assert "Start `tiedlm explore` again" in page.locator("#problem").inner_text()
    opened.context.close()


def test_a_question_without_an_answer_does_not_end_the_following(browser, under_way):
    folder, server = under_way
    opened = Opened(browser, server)
    page = opened.go("training")
    page.route("**/api/runs", lambda route: route.abort(), times=1)
    page.wait_for_selector("#problem:not([hidden])")
    shutil.rmtree(folder)
    until(page, "document.querySelector('#runs').innerText.includes('gone')")
    assert page.locator("#problem").is_hidden()
    assert all("Failed to load" in text for text in opened.wrong)
    opened.context.close()


@pytest.mark.parametrize("view", ["training", "words"])
def test_a_question_that_did_not_reach_the_server_is_asked_again(browser, under_way, view):
    folder, server = under_way
    opened = Opened(browser, server)
    page = opened.go(view)
    # Once the model is loaded, no change of the run makes the page ask again.
    until(page, "document.querySelector('#runs').innerText.includes('not finished')")
    with page.expect_event("requestfailed"):
        page.route(f"**/api/{view}", lambda route: route.abort(), times=1)
        if view == "words":
            page.fill("#word", "congress")
    if view == "training":
        write_curve(folder, 3)
    answered = {
        "training": "document.querySelector('#table').innerText.includes('3 of 2')",
        "words": "document.querySelector('#table tr.looked')",
    }
    until(page, answered[view])
    until(page, "document.querySelector('#problem').hidden")
    assert all("Failed to load" in text for text in opened.wrong)
    opened.context.close()
