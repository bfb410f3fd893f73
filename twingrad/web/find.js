// Search with a list of the best results, filter, links by name, open and close all, and the mark of
// the current section.
// The page is whole without this script, which finds, unfolds and copies, and asks for nothing.
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const form = document.querySelector("form.find");
  const found = form.querySelector("output");
  const words = form.querySelector("input");
  const selects = all("select", form);

  const hits = form.querySelector(".hits");

  const FEW = 300; // so many finds are unfolded; more would only be a long page, and slow

  // What can be found: rows of tables, definitions of code, plots; and what disappears when
  // nothing in it is found.
  const items = all("main tbody tr, main .definition, main .plot")
    .filter((element) => !element.parentElement.closest(".definition"))
    .filter((element) => !element.querySelector(".group"))
    .map(entry);
  const BEST = 12; // so many results are listed
  const boxes = all("main section, main details, main .part, main .wide, main tbody").filter(
    (box) => !box.closest(".definition") && (box.matches("section") || box.querySelector("tr, .definition, .plot")),
  );

  // One entry: its own words and those of the headings over it, and the values it is filtered by.
  function entry(element) {
    const titles = [];
    for (let box = element.parentElement; box && box.tagName !== "MAIN"; box = box.parentElement) {
      const title = box.querySelector(":scope > summary :is(h2, h3) a, :scope > h2, :scope > h3");
      if (title) titles.push(title.textContent);
    }
    const facets = {};
    for (const { dataset } of selects) {
      const owner = element.closest(`[data-${dataset.facet}]`);
      facets[dataset.facet] = owner ? owner.dataset[dataset.facet] : "";
    }
    const name = element.querySelector(":scope > h4, :scope > th[scope=row], :scope > figcaption");
    const title = name ? name.textContent.trim() : "";
    const captions = all("caption", element).map((caption) => caption.textContent);
    const own = captions.reduce((text, caption) => text.replace(caption, " "), element.textContent);
    const text = [...titles, title, element.dataset.words || "", own].join(" ").toLowerCase();
    return { element, facets, title, place: titles[0] || "", text, kind: kindOf(element) };
  }

  function kindOf(element) {
    if (element.dataset.kind) return element.dataset.kind;
    if (element.matches(".definition")) return "definition";
    return element.matches("tr") ? (element.closest("#tensors, [data-tensors]") ? "tensor" : "row") : "plot";
  }

  // Choices that occur on this page; a choice of one is none.
  for (const select of selects) {
    const values = new Set(items.map(({ facets }) => facets[select.dataset.facet]).filter(Boolean));
    for (const value of values) select.add(new Option(value));
    select.parentElement.hidden = values.size < 2;
  }

  let openBefore = null; // which details were open before a search opened others
  let before = ""; // the search that is shown

  function search() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = selects.filter((select) => select.value).map((select) => [select.dataset.facet, select.value]);
    const active = wanted.length + chosen.length > 0;
    const key = JSON.stringify([wanted, chosen]);
    if (key === before) return;
    before = key;
    const details = all("main details");
    if (active && !openBefore) openBefore = details.filter((one) => one.open);
    const shown = new Set();
    const counts = {};
    for (const { element, facets, text, kind } of items) {
      const fits = wanted.every((word) => text.includes(word)) && chosen.every(([name, value]) => facets[name] === value);
      element.hidden = !fits;
      if (!fits) continue;
      counts[kind] = (counts[kind] || 0) + 1;
      for (let box = element.parentElement; box && !shown.has(box); box = box.parentElement) shown.add(box);
    }
    for (const box of boxes) box.hidden = active && !shown.has(box);
    const many = Object.values(counts).reduce((sum, n) => sum + n, 0);
    if (active) for (const one of details) one.open = shown.has(one) && (many <= FEW || openBefore.includes(one));
    else if (openBefore) {
      for (const one of details) one.open = openBefore.includes(one);
      openBefore = null;
    }
    const said = Object.entries(counts).map(([kind, n]) => `${n.toLocaleString("en")} ${kind}${n === 1 ? "" : "s"}`);
    found.value = active ? said.join(", ") || "nothing found" : "";
    listBest(wanted);
    mark();
  }

  // The best results as links: first the definitions, phrases and defaults whose name has what was
  // typed, then other names that have it, then what has it in its text.
  function listBest(wanted) {
    const typed = wanted.join(" ");
    const rank = ({ title, kind }) => {
      const name = title.toLowerCase();
      const fit = name === typed ? 3 : name.startsWith(typed) ? 2 : wanted.every((word) => name.includes(word)) ? 1 : 0;
      const order = ["default", "phrase", "definition"].indexOf(kind);
      return (fit && order >= 0 ? 20 : 0) + 4 * fit + order;
    };
    const shown = typed ? items.filter(({ element, title }) => element.id && title && !element.hidden) : [];
    const ranked = shown.map((item) => [rank(item), item]).sort(([a], [b]) => b - a);
    hits.replaceChildren(...ranked.slice(0, BEST).map(([, { element, title, place, kind }]) => {
      const link = document.createElement("a");
      link.href = `#${element.id}`;
      const where = document.createElement("span");
      where.textContent = place ? `${kind}, ${place}` : kind;
      link.append(title, " ", where);
      const item = document.createElement("li");
      item.append(link);
      return item;
    }));
    hits.hidden = !ranked.length;
  }

  // The arrow keys go from the search field through the results and back.
  form.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || hits.hidden || !event.target.closest("input, .hits a")) return;
    const places = [words, ...all("a", hits)];
    const next = places[places.indexOf(event.target) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
  // Away from the field and its results the list is closed, and open again with the next visit.
  form.addEventListener("focusin", (event) => {
    hits.hidden = !hits.children.length || !event.target.closest("input, .hits");
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest("form.find") || event.target.closest(".hits a")) hits.hidden = true;
  });

  function clear() {
    words.value = "";
    for (const select of selects) select.value = "";
    search();
  }

  let waiting = 0;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 30); // a page that is not being painted searches too
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search();
    const first = items.find(({ element }) => !element.hidden);
    hits.hidden = true;
    if (first) first.element.scrollIntoView({ block: "center" });
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      words.focus();
    } else if (event.key === "Escape" && form.contains(event.target)) {
      clear();
      words.focus();
    }
  });

  const more = form.querySelector(".more");
  more.addEventListener("click", () => {
    const open = document.getElementById("find-facets").classList.toggle("open");
    more.setAttribute("aria-expanded", open);
  });
  for (const button of all("[data-all]", form)) {
    button.addEventListener("click", () => {
      for (const one of all("main details")) if (!one.hidden) one.open = button.dataset.all === "open";
    });
  }

  // A link by name unfolds what it points at, even if a filter hides it.
  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || !target.closest("main")) return;
    if (target.closest("[hidden]")) clear();
    for (let box = target; box; box = box.parentElement) if (box.matches("details")) box.open = true;
    target.scrollIntoView({ behavior: "instant" });
    requestAnimationFrame(() => target.scrollIntoView({ behavior: "instant" })); // what came into view has its height now
  }
  window.addEventListener("hashchange", reveal);

  // A click on a name copies the link to it; the address bar shows it as well.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.self");
    if (!link) return;
    const copied = navigator.clipboard ? navigator.clipboard.writeText(link.href) : Promise.reject();
    copied.then(
      () => { found.value = "link copied"; },
      () => { found.value = `link: ${link.hash}`; },
    );
  });

  // The section being read is marked in the navigation, which scrolls along.
  const bar = document.querySelector(".bar");
  const list = document.querySelector("nav ul");
  const links = all("nav a");
  function mark() {
    const line = bar.getBoundingClientRect().bottom + 40;
    const ended = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    const sections = links
      .map((link) => [link, document.getElementById(link.hash.slice(1))])
      .filter(([, section]) => section && !section.hidden);
    const past = sections.filter(([, section]) => section.getBoundingClientRect().top <= line);
    const [current] = (ended && scrollY ? sections.at(-1) : past.at(-1)) || [];
    for (const link of links) {
      if (link !== current) link.removeAttribute("aria-current");
      else if (!link.hasAttribute("aria-current")) {
        link.setAttribute("aria-current", "true");
        list.scrollLeft = link.offsetLeft - list.offsetLeft - 40;
      }
    }
  }
  let marking = 0;
  window.addEventListener("scroll", () => {
    cancelAnimationFrame(marking);
    marking = requestAnimationFrame(mark);
  }, { passive: true });
  new ResizeObserver(() => {
    document.documentElement.style.setProperty("--head", `${bar.offsetHeight}px`);
  }).observe(bar);

  form.hidden = false;
  document.documentElement.style.setProperty("--head", `${bar.offsetHeight}px`);
  reveal();
  mark();
})();
