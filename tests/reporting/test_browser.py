"""The report page's script, in a real browser."""

import json
import re
import shutil
import subprocess

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
TENSOR = "tensor/gpt2/124m/float32/h.3.attn.c_attn.weight"
# What is typed, and the address and the kind of the result that is listed first.
MASKS = "Masks, gather, scatter, segments, top-k and sort"
BEST = {
    "median even": ("default/median-of-an-even-number", "default, Defaults that differ"),
    "CausalSelfAttention": ("gpt2.py/CausalSelfAttention", "definition, gpt2.py"),
    "causal mask tril": ("phrase/causal_mask", f"phrase, {MASKS}"),
}
# What a reader does, and what the page then shows, written into the title.
DRIVER = """
const seen = {};
const at = (id) => document.getElementById(id);
const rows = () => [...document.querySelectorAll("#tensors tbody tr")];
const box = document.querySelector(".find input");
const turn = () => new Promise((done) => setTimeout(done, 1000));
const type = async (text) => {
  box.value = text;
  box.dispatchEvent(new Event("input", { bubbles: true }));
  await turn();
};
(async () => {
  await turn();
  seen.unfolded = at(TENSOR).closest("details").open;
  seen.top = at(TENSOR).getBoundingClientRect().top;
  seen.bar = document.querySelector(".bar").getBoundingClientRect().bottom;
  seen.current = document.querySelector("nav a[aria-current]")?.textContent;
  seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const before = [...document.querySelectorAll("details")].map((one) => one.open);
  await type("h.3.ln_1.weight 124m float32");
  seen.found = rows().filter((row) => !row.hidden).map((row) => row.id);
  seen.said = document.querySelector(".found").value;
  seen.sources = at("sources").hidden;
  await type("nothing is called this");
  seen.none = document.querySelector(".found").value;
  location.hash = "#gpt2.py/Block";
  await turn();
  seen.cleared = box.value === "" && !at("gpt2.py/Block").closest("[hidden]");
  document.querySelector("[data-all=open]").click();
  seen.open = [...document.querySelectorAll("details")].every((one) => one.open);
  document.querySelector("[data-all=close]").click();
  seen.closed = [...document.querySelectorAll("details")].every((one) => !one.open);
  const hits = () => [...document.querySelectorAll(".hits a")];
  const press = (key) => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  box.focus();
  seen.best = [];
  for (const text of WORDS) {
    await type(text);
    seen.best.push(hits().map((link) => [link.hash, link.lastChild.textContent])[0]);
  }
  seen.listed = !document.querySelector(".hits").hidden;
  const area = document.querySelector(".hits").getBoundingClientRect();
  seen.inside = area.left >= 0 && area.right <= innerWidth && area.bottom <= innerHeight;
  press("ArrowDown");
  seen.down = document.activeElement === hits()[0];
  press("ArrowDown");
  press("ArrowUp");
  press("ArrowUp");
  seen.up = document.activeElement === box;
  press("ArrowDown");
  const aim = document.activeElement.hash.slice(1);
  document.activeElement.click();
  await turn();
  seen.followed = location.hash.slice(1) === aim && !at(aim).closest("[hidden]")
    && at(aim).closest("details").open && document.querySelector(".hits").hidden;
  const place = at(aim).getBoundingClientRect().top;
  const bar = document.querySelector(".bar").getBoundingClientRect().bottom;
  seen.visible = bar <= place && place < innerHeight;
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "/", bubbles: true }));
  seen.slash = document.activeElement === box && !document.querySelector(".hits").hidden;
  press("Escape");
  await turn();
  seen.escaped = box.value === "" && document.querySelector(".hits").hidden
    && document.activeElement === box;
  seen.wideAtLast = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  document.title = JSON.stringify(seen);
})();
"""


@pytest.fixture(scope="module")
def dump(text, tmp_path_factory):
    """The page after ``script``, at the width of a telephone."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    folder = tmp_path_factory.mktemp("browser")

    def opened(script, anchor=""):
        page = folder / "page.html"
        # The page's policy would stop the driver, as it stops every script but its own.
        free = re.sub(r"<meta http-equiv=.*\n", "", text) if script.startswith("const") else text
        page.write_text(free.replace("</body>", f"<script>{script}</script></body>"), "utf-8")
        call = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=420,900"]
        call += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=30000"]
        call += ["--dump-dom", f"{page.as_uri()}#{anchor}"]
        return subprocess.run(call, capture_output=True, text=True, check=True, timeout=120).stdout

    return opened


@pytest.mark.slow
def test_links_search_and_folds_do_what_they_say(dump):
    constants = f"const TENSOR = {json.dumps(TENSOR)}; const WORDS = {json.dumps([*BEST])};"
    html = dump(f"{constants}{DRIVER}", TENSOR)
    seen = json.loads(re.search(r"<title>(.*?)</title>", html)[1])
    assert seen["unfolded"]
    assert seen["bar"] <= seen["top"] < seen["bar"] + 60
    assert seen["current"] == "Tensors"
    assert seen["wide"] == 0
    assert seen["found"] == ["tensor/gpt2/124m/float32/h.3.ln_1.weight"]
    assert seen["said"] == "1 tensor"
    assert seen["sources"]
    assert seen["none"] == "nothing found"
    assert seen["cleared"]
    assert seen["open"]
    assert seen["closed"]
    assert dict(zip(BEST, seen["best"], strict=True)) == {
        words: [f"#{place}", kind] for words, (place, kind) in BEST.items()
    }
    assert seen["listed"]
    assert seen["inside"]
    assert seen["down"]
    assert seen["up"]
    assert seen["followed"]
    assert seen["visible"]
    assert seen["slash"]
    assert seen["escaped"]
    assert seen["wideAtLast"] == 0


@pytest.mark.slow
def test_no_other_script_runs(dump):
    html = dump("document.title = 'ran'")
    assert "<title>ran</title>" not in html
    assert re.search(r'<form class="find" role="search">', html)  # our own did
