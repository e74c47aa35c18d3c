// What a page can do beyond links and forms. Everything here is an extra: without it all works.
(() => {
  "use strict";
  const root = document.documentElement;
  const kept = (key, value) => {
    try {
      return value === undefined ? localStorage.getItem(key) : localStorage.setItem(key, value);
    } catch { return null; }
  };
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];

  // Before anything is drawn: no flash of the other theme.
  const themes = ["system", "light", "dark"];
  const theme = (name) => {
    root.dataset.theme = name;
    const words = one("#theme-words");
    if (words) words.textContent = name;
  };
  theme(themes.includes(kept("tasks-theme")) ? kept("tasks-theme") : "system");

  const nextTheme = () => {
    const name = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
    kept("tasks-theme", name);
    theme(name);
  };

  // Times grow older while a page is looked at.
  const steps = [[86400, "d"], [3600, "h"], [60, "min"], [0, "s"]];
  const ago = (at) => {
    const past = (Date.now() - at) / 1000, far = Math.abs(past);
    if (far < 5) return "now";
    const [length, unit] = steps.find(([length]) => far >= length);
    const text = `${Math[past > 0 ? "floor" : "round"](far / (length || 1))} ${unit}`;
    return past > 0 ? `${text} ago` : `in ${text}`;
  };
  const age = () => {
    for (const time of all("time[data-ago]")) {
      const at = new Date(time.dateTime), text = ago(at);
      if (time.textContent !== text) time.textContent = text;
      time.title = at.toLocaleString();
    }
  };

  // Live: events say that something has changed, then the page is read anew and morphed.
  const pause = 1500, slow = 5000;
  let waiting = null, reading = false, missed = false, last = 0, polling = null, took = 0;
  const live = () => root.dataset.live !== "off";
  const say = (how) => {
    root.dataset.live = how;
    const words = one("#live-words"), button = one("#live-switch");
    if (words) words.textContent = { on: "Live", off: "Not live", poll: "Live, slowly", wait: "Connecting" }[how];
    if (button) button.setAttribute("aria-pressed", String(how !== "off"));
  };
  const read = async () => {
    waiting = null;
    if (!live() || document.hidden || !window.htmx) { missed = true; return; }
    reading = true;
    missed = false;
    const begun = performance.now();
    try {
      await htmx.ajax("GET", location.href, { source: one("#live"), target: "#live", select: "#live", swap: "outerMorph" });
    } finally {
      reading = false;
      last = performance.now();
      took = last - begun;
      if (missed) soon();
    }
  };
  const soon = (within = 0.15) => {
    if (!live() || document.hidden || reading) { missed = true; return; }
    if (waiting) return;
    // A server that takes long is asked less often, and of many who look at it not all ask at once.
    const rest = Math.max(pause, 20 * took) - (performance.now() - last);
    waiting = setTimeout(read, Math.max(rest, 0) + 1000 * within * Math.random());
  };
  const poll = (on) => {
    clearInterval(polling);
    polling = on ? setInterval(() => soon(), slow) : null;
  };
  const pauseLive = () => {
    const off = live();
    kept("tasks-live", off ? "off" : "on");
    say(off ? "off" : "on");
    if (!off) soon();
  };
  const follow = () => {
    if (!one("#stream")) return;
    say(kept("tasks-live") === "off" ? "off" : "wait");
    const change = (how) => live() && say(how);
    document.addEventListener("htmx:sse:after:connection", () => { poll(false); change("on"); });
    document.addEventListener("htmx:sse:error", () => { poll(true); change("poll"); });
    document.addEventListener("htmx:response:error", (event) => {
      if (event.target?.id === "stream") { poll(true); change("poll"); }
    });
    document.addEventListener("htmx:sse:before:message", (event) => {
      const { event: name, data } = event.detail.message;
      if (name === "changed") soon(JSON.parse(data).within);
      else if (name !== "open") soon();
    });
    document.addEventListener("visibilitychange", () => { if (!document.hidden && missed) soon(); });
    setTimeout(() => { if (root.dataset.live === "wait") { poll(true); change("poll"); } }, 10000);
  };

  // Rows, by keys.
  const rows = () => all("[data-row]");
  const mark = () => one("[data-row][data-at]");
  const move = (by) => {
    const list = rows(), from = list.indexOf(mark());
    const to = list[Math.min(Math.max(from + by, 0), list.length - 1)];
    if (!to) return;
    mark()?.removeAttribute("data-at");
    to.setAttribute("data-at", "");
    to.querySelector("th a, a")?.focus();
    to.scrollIntoView({ block: "nearest" });
  };
  const picked = () => {
    const boxes = all("#chosen input[name=id]"), words = one("#picked"), every = one("#pick-all");
    if (!words || !every) return;
    const count = boxes.filter((box) => box.checked).length;
    words.textContent = count ? `${count} chosen` : "this page";
    every.checked = count > 0 && count === boxes.length;
    every.indeterminate = count > 0 && count < boxes.length;
  };

  let g = 0;
  const keys = {
    "/": () => { one("#q") ? one("#q").focus() : location.assign(one("[data-go=j]").href); },
    "?": () => one("#help")?.showModal(),
    j: () => move(1),
    k: () => move(-1),
    p: () => one("#stream") && pauseLive(),
    x: () => { const box = mark()?.querySelector("input[type=checkbox]"); if (box) box.click(); },
    g: () => { g = Date.now(); },
  };
  const typed = (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || one("dialog[open]")) return;
    if (event.target.closest?.("input:not([type=checkbox]), textarea, select")) return;
    const going = Date.now() - g < 1500 && one(`[data-go="${CSS.escape(event.key)}"]`);
    g = 0;
    const act = going ? () => going.click() : keys[event.key];
    if (act) { event.preventDefault(); act(); }
  };

  const copy = async (button) => {
    const text = button.dataset.copyText ?? button.parentElement.querySelector("pre").textContent;
    const said = one("#said");
    try {
      await navigator.clipboard.writeText(text);
      if (said) said.textContent = "Copied.";
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy by hand";
    }
  };
  const edit = (link) => {
    const box = one("#q"), from = box.value.indexOf(link.dataset.edit);
    box.focus();
    if (from >= 0) box.setSelectionRange(from, from + link.dataset.edit.length);
  };
  const complete = () => {
    const box = one("#q");
    if (!box || box.dataset.loaded) return;
    box.dataset.loaded = "yes";
    const script = document.createElement("script");
    script.src = box.dataset.complete;
    document.head.append(script);
  };
  const dress = () => {
    for (const extra of all("[data-script]")) extra.hidden = false;
    theme(root.dataset.theme);
    age();
    picked();
  };
  // What was just done is told once.
  const forget = () => {
    const here = new URL(location.href), before = here.search;
    for (const key of ["did", "n", "more"]) here.searchParams.delete(key);
    if (here.search !== before) history.replaceState(history.state, "", here);
  };

  document.addEventListener("DOMContentLoaded", () => {
    dress();
    // On a phone the pages are a strip that is wider than the screen.
    one("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center", behavior: "instant" });
    forget();
    follow();
    setInterval(age, 10000);
    document.addEventListener("keydown", typed);
    document.addEventListener("focusin", (event) => { if (event.target.id === "q") complete(); });
    document.addEventListener("htmx:after:swap", () => { dress(); root.dataset.read = String(Number(root.dataset.read ?? 0) + 1); });
    document.addEventListener("change", (event) => {
      if (event.target.id === "pick-all") for (const box of all("#chosen input[name=id]")) box.checked = event.target.checked;
      picked();
    });
    document.addEventListener("click", (event) => {
      const at = event.target.closest?.("button, a[data-edit]");
      if (!at) return;
      if (at.id === "theme-switch") nextTheme();
      else if (at.id === "live-switch") pauseLive();
      else if (at.id === "help-switch") one("#help").showModal();
      else if (at.matches("[data-copy], [data-copy-text]")) copy(at);
      else if (at.matches("[data-edit]")) { event.preventDefault(); edit(at); }
    });
  });
})();
