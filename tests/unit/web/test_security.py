"""Only the page that has the token is answered, and nothing of a run can act in it."""

import re
from importlib import resources

import pytest

pytest.importorskip("starlette")
pytest.importorskip("plotly")

from tiedlm.web.views import VIEWS
from web_support import HOSTILE, PORT, TOKEN, Page, TestClient, make_run

HOST = f"127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web") / "run"
    make_run(folder)
    return Page(folder)


@pytest.fixture
def stranger(page):
    """Return a client without a token."""
    return TestClient(page.app, base_url=f"http://{HOST}")


def test_without_the_token_nothing_is_answered(stranger):
    for path in ("/", "/words", "/static/page.js", "/nothing"):
        assert stranger.get(path).status_code == 403
        assert stranger.get(f"{path}?token=wrong").status_code == 403
        assert stranger.get(f"{path}?token=").status_code == 403
    assert stranger.post("/api/runs", json={}).status_code == 403
    assert "open the address" in stranger.get("/").text
    assert not stranger.cookies


def test_the_token_in_the_address_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(
    stranger,
):
    cookie = stranger.get(f"/?token={TOKEN}").headers["set-cookie"]
    assert f"tiedlm-{PORT}={TOKEN}" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert stranger.get("/words").status_code == 200
    assert TOKEN not in stranger.get("/words").text


def test_the_token_may_come_in_a_header(stranger):
    headers = {"x-tiedlm-token": TOKEN}
    assert stranger.post("/api/runs", json={}, headers=headers).status_code == 200
    assert not stranger.cookies


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", f"127.0.0.1:{PORT + 1}", ""])
def test_another_host_is_refused_even_with_the_token(page, host):
    assert page.client.get("/", headers={"host": host}).status_code == 403


def test_localhost_is_the_same_address(stranger):
    headers = {"host": f"localhost:{PORT}", "x-tiedlm-token": TOKEN}
    assert stranger.get("/", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": f"http://127.0.0.1:{PORT + 1}"},
        {"origin": "null"},
        {"origin": f"https://{HOST}"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_another_page_is_refused_even_with_the_cookie(page, headers):
    assert page.client.post("/api/runs", json={}, headers=headers).status_code == 403
    assert page.client.get("/static/page.js", headers=headers).status_code == 403


def test_the_page_itself_may_ask(page):
    headers = {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}
    assert page.client.post("/api/runs", json={}, headers=headers).status_code == 200


def test_a_link_from_elsewhere_needs_the_token(page):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert page.client.get("/words", headers=headers).status_code == 403
    assert page.client.get(f"/words?token={TOKEN}", headers=headers).status_code == 200


def test_every_answer_forbids_everything_but_this_server(page, stranger):
    answers = [page.client.get(f"/{view.name}") for view in VIEWS]
    answers += [page.post("runs"), page.client.get("/static/page.js"), stranger.get("/")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; ")
        assert "unsafe-inline" not in policy
        assert "unsafe-eval" not in policy
        assert "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"


def test_no_file_of_the_page_names_another_server():
    for folder in ("static", "templates"):
        for file in resources.files("tiedlm.web").joinpath(folder).iterdir():
            text = file.read_text(encoding="utf-8")
            found = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", text)
            assert set(found) <= {"http://www.w3.org"}, file.name


def test_no_script_sets_html():
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
    for file in resources.files("tiedlm.web").joinpath("static").iterdir():
        assert not re.search(forbidden, file.read_text(encoding="utf-8")), file.name


def test_pages_are_read_only(page):
    for method in ("put", "delete", "patch"):
        assert getattr(page.client, method)("/api/words").status_code == 405
    assert page.client.get("/api/words").status_code == 405
    assert page.client.post("/words").status_code == 405


@pytest.mark.parametrize("name", ["..%2fserver.py", "%2e%2e/server.py", "nothing.js", "..%5cx.js"])
def test_only_the_pages_own_files_are_served(page, name):
    assert page.client.get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"[]", b'"x"', b"\xff", b'{"text": 3}', b'{"runs": "all"}', b'{"top": 1e99}',
     b'{"top": NaN}', b'{"order": "worst"}', b'{"top": 2.5}', b"[" * 100_000,
     b'{"text": "' + b"x" * 2_100_000 + b'"}', b'{"text": "' + b"x" * 200_001 + b'"}'],
)  # fmt: skip
def test_a_wrong_question_is_refused(page, body):
    headers = {"content-type": "application/json"}
    response = page.client.post("/api/words", content=body, headers=headers)
    assert response.status_code == 400
    assert len(response.text) < 400


def test_a_question_that_a_form_could_send_is_refused(page):
    response = page.client.post("/api/words", content=b"{}", headers={"content-type": "text/plain"})
    assert response.status_code == 400


def test_asking_changes_nothing_in_the_run_folder(tmp_path):
    make_run(tmp_path / "run")
    page = Page(tmp_path / "run")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    for view in VIEWS:
        page.ask(view.name, word="cat", text="the cat", good=["the cat"], bad=["cat the"])
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_a_hostile_folder_name_and_hostile_words_are_data_in_every_answer(tmp_path):
    name = "<img src=x onerror=alert(1)>\u202e\n'\""
    make_run(tmp_path / name, HOSTILE)
    page = Page(tmp_path / name)
    (run,) = page.ask("runs")
    assert run["name"] == "<img src=x onerror=alert(1)>\\u202e\\n'\""  # text, not HTML
    for view in VIEWS:
        html = page.client.get(f"/{view.name}").text
        assert "onerror" not in html
        for word in HOSTILE[2:12]:
            assert word not in html
        question = {"word": HOSTILE[2], "text": " ".join(HOSTILE[2:]), "good": [HOSTILE[2]]}
        response = page.post(view.name, **question, bad=[HOSTILE[3]])
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(("application/json", "application/x-nd"))
        assert response.text.isascii()
    shown = {row["word"] for row in page.ask("words", top=50)["rows"]}
    assert shown == set(HOSTILE)


def test_half_a_character_is_no_trouble(page):
    body = b'{"text": "the \\ud800 cat", "runs": ["\\ud800"]}'
    headers = {"content-type": "application/json"}
    assert page.client.post("/api/words", content=body, headers=headers).status_code == 400
