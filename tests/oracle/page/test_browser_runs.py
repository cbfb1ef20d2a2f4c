"""Whole runs that a person labels by keys, in a real browser."""

import pytest

from tests.oracle.page.browser import Page, Run, chromium, events  # noqa: F401  # a fixture
from tests.oracle.page.page_script import truths

SCRIPT = "tests.oracle.page.page_script"


@pytest.fixture
def page(chromium):  # noqa: F811
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    made = Page(context.new_page())
    yield made
    context.close()
    assert made.problems == []


@pytest.fixture
def run_of(tmp_path):
    started = []

    def make(what, *more):
        run = Run("-m", SCRIPT, what, str(tmp_path / "run"), *map(str, more), log=tmp_path / "log.txt")
        started.append(run)
        return run

    yield make
    for run in started:
        run.kill()


def label_by_keys(page, keys_of, count, pressed, previous=None):
    """Answer so many items, and note what was answered."""
    for _ in range(count):
        id_ = page.item(other_than=previous)
        key = keys_of(id_)
        page.press(key)
        pressed[id_], previous = key, id_
    return previous


def test_digits_through_reload_and_kills(page, run_of, tmp_path):
    """Two rounds; a reload in the middle; the training and its server killed while a person labels on."""
    truth, pressed = truths(), {}
    run = run_of("digits", 0.03)
    page.open(run.start())
    key_of = lambda id_: str(truth[int(id_)])  # noqa: E731
    last = label_by_keys(page, key_of, 1, pressed)
    page.wait_text("#saved", "Saved.")
    assert "token" not in page.page.url
    page.page.reload()
    last = label_by_keys(page, key_of, 1, pressed, last)
    page.wait_text("#counts", "2 labelled, 2 to go")
    page.item(other_than=last)
    page.page.wait_for_function("fetch('/api/state').then(r => r.json()).then(s => s.counts.open === 2)")
    page.page.wait_for_timeout(1500)  # the last items come along beforehand
    run.kill()
    last = label_by_keys(page, key_of, 2, pressed, last)
    page.wait_text("#saved", "2 kept on this device")
    assert len(events(tmp_path / "run")) == 2
    run.start()
    page.wait_text("#counts", "4 labelled, 0 to go")
    page.wait_text("#saved", "Saved.")
    page.wait_text("#stage-words", "Training round 1 of 2")
    label_by_keys(page, key_of, 4, pressed, last)
    result = run.result()
    assert len(pressed) == 8
    assert {id_: result["labels"][id_] for id_ in pressed} == {id_: truth[int(id_)] for id_ in pressed}
    assert result["n"] == 3
    assert sorted(event["id"] for event in events(tmp_path / "run")) == sorted(pressed)  # each once


def test_text_with_undo_skip_note_and_correction(page, run_of, tmp_path):
    run = run_of("text", 0.01)
    page.open(run.start())
    first = page.item()
    assert page.page.inner_text("#item .text")
    page.press("2")
    second = page.item(other_than=first)
    page.page.reload()
    page.item(other_than=first)
    page.wait_text("#counts", "1 labelled")
    page.press("u")  # the first one again, after a reload
    page.page.wait_for_function(
        "id => document.getElementById('item').getAttribute('aria-label') === id", arg=f"Item {first}"
    )
    page.wait_text("#counts", "0 labelled")
    page.press("n")
    page.page.keyboard.type("really bad")
    page.press("Escape", "1")
    second = page.item(other_than=first)
    page.press("s")
    third = page.item(other_than=second)
    page.press("Enter")  # the suggestion, if there is one; else a class
    if page.waits(third):
        page.press("1")
    fourth = page.item(other_than=third)
    page.press("2")
    page.wait_text("#counts", "3 labelled, 1 skipped")
    page.press("r")  # correct the first one while the training goes on
    page.page.get_by_text("good", exact=True).first.wait_for()
    row = page.page.locator("#list button", has_text="note")
    row.first.wait_for()
    assert row.count() == 1
    row.click()
    page.wait_text("#standing", "Now: bad")
    assert page.page.input_value("#note") == "really bad"
    page.press("2")
    for _ in range(4):
        fourth = page.item(other_than=fourth)
        if fourth == first:
            fourth = page.item(other_than=first)
        page.press("1")
    result = run.result()
    assert result["labels"][first] == 1
    assert result["skipped"] == [int(second)]
    kinds = [event["action"] for event in events(tmp_path / "run")]
    assert kinds.count("undo") == 1
    assert any(event.get("note") == "really bad" for event in events(tmp_path / "run"))


def test_two_people_get_items_of_their_own_and_see_conflicts(chromium, run_of, tmp_path):  # noqa: F811
    run = run_of("digits")
    address = run.start()
    ann, bob = (Page(chromium.new_context().new_page()).open(address) for _ in range(2))
    a = ann.item()
    ann.page.wait_for_timeout(1000)
    b = bob.item()
    assert a != b
    # Bob answers Ann's item behind her back, as somebody whose lease ran out does
    key = ann.page.evaluate("document.querySelector('#item img').src.split('/')[4]")
    status = bob.page.evaluate(
        """key => fetch('/api/answer', {method: 'POST', headers: {'Content-Type': 'application/json', 'X-Diffal': '1'},
        body: JSON.stringify({uid: 'x'.repeat(16), key, action: 'label', label: [1], base: 0})}).then(r => r.status)""",
        key,
    )
    assert status == 200
    ann.press("7")
    ann.wait_text("#saved", "Somebody else answered")
    bob.wait_text("#conflicts", "One item has two different answers")
    bob.page.click("#settle")
    bob.page.locator("#list button").first.click()
    bob.wait_text("#standing", "People said different things: 1 / 7")
    bob.press("7")
    bob.page.wait_for_selector("#conflicts", state="hidden")
    last = bob.item()
    bob.press("3")
    last = bob.item(other_than=last)
    bob.press("3")
    bob.page.wait_for_selector("#rest")
    bob.wait_text("#rest", "Others have the last 1 before them")
    said = [event["label"] for event in events(tmp_path / "run") if event["id"] == a]
    assert said == [[1], [7], [7]]
    for person in (ann, bob):
        person.page.context.close()
        assert person.problems == []


def test_hostile_names_are_text(page, run_of):
    run = run_of("hostile")
    page.open(run.start())
    for _ in range(4):
        page.item()
        assert '<img src=x onerror="document.title=`hacked`">' in page.text("#item .text")
        assert page.page.locator("#item img").count() == 0
        assert page.page.locator("#classes img, #classes script").count() == 0
        page.press("n")
        page.page.fill("#note", "<script>document.title='hacked'</script>")
        page.press("Escape")
        current = page.item()
        page.press("1")
        page.page.wait_for_timeout(300)
    page.press("r")
    page.page.locator("#list button").first.wait_for()
    assert page.page.locator("#list img[src='x'], #list script").count() == 0
    assert "hacked" not in page.page.title()
    assert current.startswith("../../<img")


def test_several_classes_an_item(page, run_of):
    run = run_of("multilabel", 0.01)
    page.open(run.start())
    pressed = {}
    wanted = [("1", "3"), ("2",), (), ("1", "2", "3"), ("1",), ("3",), (), ("2", "3")]
    last = None
    for keys in wanted:
        last = page.item(other_than=last)
        page.press(*keys, "Enter")
        pressed[last] = [int(str(n) in keys) for n in (1, 2, 3)]
    result = run.result()
    assert {id_: result["labels"][id_] for id_ in pressed} == pressed


def test_on_a_phone_nothing_is_cut_off(chromium, run_of):  # noqa: F811
    context = chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = Page(context.new_page()).open(run_of("digits").start())
    first = page.item()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.page.locator("#skip").bounding_box()
    assert box["y"] + box["height"] <= 844
    page.page.locator("#classes button").nth(4).tap()
    page.item(other_than=first)
    page.wait_text("#saved", "Saved.")
    context.close()
