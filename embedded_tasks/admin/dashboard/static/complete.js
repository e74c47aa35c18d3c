// Completion of the search box: keys first, then the values of the key that is being written.
(async () => {
  "use strict";
  const box = document.querySelector("#q");
  const words = await (await fetch(box.dataset.words, { headers: { accept: "application/json" } })).json();
  const list = document.createElement("ul");
  list.id = "options";
  list.className = "options";
  list.hidden = true;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Completions");
  box.parentElement.append(list);
  for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-controls": "options", "aria-expanded": "false" })) box.setAttribute(name, value);

  let at = -1;
  const begin = () => box.value.slice(0, box.selectionStart).search(/(?:[^\s"]|"[^"]*"?)*$/);
  const found = () => {
    const text = box.value.slice(begin(), box.selectionStart), colon = text.indexOf(":");
    const key = text.slice(0, colon).toLowerCase();
    if (colon < 0) return Object.entries(words.keys).filter(([name]) => name.startsWith(text.toLowerCase())).map(([name, says]) => [`${name}:`, says]);
    const value = text.slice(colon + 1).toLowerCase();
    return (words[key] ?? []).filter((each) => each.toLowerCase().includes(value)).slice(0, 50).map((each) => [`${key}:${each}`, ""]);
  };
  const mark = (to) => {
    const items = [...list.children];
    at = items.length ? (to + items.length) % items.length : -1;
    items.forEach((item, index) => item.setAttribute("aria-selected", String(index === at)));
    if (at >= 0) { box.setAttribute("aria-activedescendant", items[at].id); items[at].scrollIntoView({ block: "nearest" }); }
    else box.removeAttribute("aria-activedescendant");
  };
  const show = (on) => {
    const some = on ? found() : [];
    list.replaceChildren(...some.map(([text, says], index) => {
      const item = document.createElement("li"), name = document.createElement("b"), note = document.createElement("span");
      item.id = `option-${index}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", "false");
      name.textContent = text;
      note.textContent = says;
      note.className = "soft";
      item.append(name, note);
      item.dataset.text = text;
      return item;
    }));
    list.hidden = !some.length;
    box.setAttribute("aria-expanded", String(!list.hidden));
    at = -1;
    box.removeAttribute("aria-activedescendant");
  };
  const take = (text) => {
    const from = begin(), rest = box.value.slice(box.selectionStart);
    const put = text.endsWith(":") ? text : `${text} `;
    box.value = box.value.slice(0, from) + put + rest.trimStart();
    box.setSelectionRange(from + put.length, from + put.length);
    show(true);
  };
  box.addEventListener("input", () => show(true));
  box.addEventListener("focus", () => show(true));
  box.addEventListener("blur", () => setTimeout(show, 150, false));
  box.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); if (list.hidden) show(true); mark(at + (event.key === "ArrowDown" ? 1 : at < 0 ? 0 : -1)); }
    else if (event.key === "Escape" && !list.hidden) { event.preventDefault(); show(false); }
    else if ((event.key === "Enter" || event.key === "Tab") && at >= 0) { event.preventDefault(); take(list.children[at].dataset.text); }
  });
  list.addEventListener("mousedown", (event) => {
    const item = event.target.closest("li");
    if (item) { event.preventDefault(); take(item.dataset.text); }
  });
  if (document.activeElement === box) show(true);
})();
