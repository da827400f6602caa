"use strict";
(() => {
  /** So many rows of a table are laid out at first; a button shows the others. */
  const MOST_ROWS = 50;
  /** Pixels on the screen within which a point is meant by hovering, and by clicking. */
  const NEAR = 28, HIT = 12;
  /** Of a plot that is saved: ink by the viewer's preference, as in the files of `attnbench report`. */
  const SAVED_STYLE = ".figure{color:#1f2328}@media (prefers-color-scheme:dark){.figure{color:#e6edf3}}";
  const SVG = "http://www.w3.org/2000/svg";

  const first = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const data = JSON.parse(first("#data").textContent);
  const live = first("#live");
  document.documentElement.classList.add("js");

  /** An element with attributes and children; text is always text. */
  function make(tag, attributes = {}, ...children) {
    const isDrawn = ["svg", "path", "circle"].includes(tag);
    const element = isDrawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(name, value);
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }

  // --- filters

  const chosen = data.facets.map(() => new Set());
  let searched = "";
  let known = new Map();

  /** Whether a record with these facets (`0.3.1.2.0.0`) is selected; `-` is every value of one. */
  function passes(key) {
    if (!known.has(key)) {
      const parts = key.split(".");
      known.set(key, chosen.every((values, at) => !values.size || parts[at] === "-" || values.has(parts[at])));
    }
    return known.get(key);
  }

  const isNamed = (name) => !searched || name.toLowerCase().includes(searched);

  function buildFilters() {
    const form = first("#filters");
    data.facets.forEach(([, label, values], at) => {
      if (values.length < 2) return;
      const count = make("span");
      const boxes = values.map((value, index) => {
        const box = make("input", { type: "checkbox", value: index, change: () => {
          chosen[at][box.checked ? "add" : "delete"](String(index));
          refresh();
        } });
        return make("label", {}, box, make("span", {}, value || "–"));
      });
      const facet = make("details", { class: "facet", name: "facet" }, make("summary", {}, label, count), make("div", {}, ...boxes));
      facet.update = () => {
        count.textContent = chosen[at].size ? ` (${chosen[at].size})` : "";
        facet.toggleAttribute("data-on", chosen[at].size > 0);
        if (!chosen[at].size) all("input", facet).forEach((box) => { box.checked = false; });
      };
      form.append(facet);
    });
    const search = make("input", { type: "search", placeholder: "Variant", "aria-label": "Variants whose name contains", input: () => {
      searched = search.value.trim().toLowerCase();
      refresh();
    } });
    const reset = make("button", { type: "button", id: "reset", hidden: true, click: () => {
      chosen.forEach((values) => values.clear());
      search.value = searched = "";
      refresh();
    } }, "Reset");
    form.append(search, reset, make("output", { "aria-live": "polite" }));
    form.addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("click", (event) => {
      all(".facet[open]").forEach((facet) => { if (!facet.contains(event.target)) facet.open = false; });
    });
    form.addEventListener("keydown", (event) => {
      const facet = event.target.closest(".facet[open]");
      if (event.key !== "Escape" || !facet) return;
      facet.open = false;
      first("summary", facet).focus();
    });
  }

  function refresh() {
    known = new Map();
    tables.forEach((table) => table.refresh());
    charts.forEach((chart) => chart.refresh());
    all(".facet").forEach((facet) => facet.update());
    const isOn = searched !== "" || chosen.some((values) => values.size);
    first("#reset").hidden = !isOn;
    const records = tables.find((table) => table.element.id === "records-table");
    first("#filters output").textContent = isOn ? `${records.count} of ${records.rows.length} records` : "";
  }

  // --- tables

  const collator = new Intl.Collator("en", { numeric: true });

  class Table {
    constructor(element) {
      this.element = element;
      this.body = first("tbody", element);
      this.rows = all("tr", this.body).map((row) => {
        const names = all("[title]", first("th", row)).map((one) => one.title);
        return { row, keys: (row.dataset.k || "").split(" "), name: [first("th", row).textContent, ...names].join(" ") };
      });
      this.most = Number(element.dataset.most || MOST_ROWS);
      this.count = this.rows.length;
      this.said = make("span");
      this.button = make("button", { type: "button", click: () => { this.most = Infinity; this.refresh(); } });
      this.more = make("p", { class: "more-rows", hidden: true }, this.said, " ", this.button);
      element.closest(".scroll").after(this.more);
      if (element.classList.contains("sortable")) this.buildHeads();
    }

    buildHeads() {
      all("thead th", this.element).forEach((head, at) => {
        const button = make("button", { type: "button", click: () => this.sort(head, at) });
        const unit = first("small", head);
        button.append(...[...head.childNodes].filter((node) => node !== unit));
        head.prepend(button);
        head.classList.toggle("n", this.rows.some(({ row }) => this.isNumber(row.cells[at])));
      });
    }

    /** In a table of numbers all cells are, save those of the class `t`. */
    isNumber(cell) {
      if (!this.element.classList.contains("numbers")) return cell.classList.contains("n") && "v" in cell.dataset;
      return cell.tagName === "TD" && !cell.classList.contains("t");
    }

    /** Numbers from the largest first on the second click; what is unknown is last in both directions. */
    sort(head, at) {
      const isDown = head.getAttribute("aria-sort") === "ascending";
      all("[aria-sort]", this.element).forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
      const keyed = this.rows.map((one, index) => {
        const cell = one.row.cells[at];
        const number = this.isNumber(cell) ? Number.parseFloat(cell.dataset.v ?? cell.textContent) : null;
        return { one, index, number, text: cell.textContent.trim() };
      });
      const isNumeric = keyed.some((key) => key.number !== null);
      const isEmpty = (key) => (isNumeric ? key.number === null : key.text === "");
      const compared = (a, b) => (isNumeric ? a.number - b.number : collator.compare(a.text, b.text));
      keyed.sort((a, b) => isEmpty(a) - isEmpty(b) || (isEmpty(a) ? 0 : compared(a, b) * (isDown ? -1 : 1)) || a.index - b.index);
      this.rows = keyed.map((key) => key.one);
      this.body.replaceChildren(); // moving thousands of rows one by one takes seconds
      this.body.append(...this.rows.map((one) => one.row));
      this.refresh();
      live.textContent = `sorted by ${first("button", head).textContent}, ${isDown ? "descending" : "ascending"}`;
    }

    refresh() {
      let count = 0;
      for (const { row, keys, name } of this.rows) {
        const isShown = keys.some(passes) && isNamed(name);
        count += isShown;
        row.hidden = !isShown || count > this.most;
      }
      this.count = count;
      this.more.hidden = count > 0 && count <= this.most;
      this.button.hidden = count === 0;
      this.said.textContent = count ? `${this.most} of ${count} rows.` : "No row matches the filter.";
      this.button.textContent = `Show all ${count}`;
    }
  }

  // --- what a hover tells

  const tip = first("#tip");
  /** Four significant digits; an exponent for the small errors only. */
  function spelt(value) {
    const number = Number(value), size = Math.abs(number);
    return size >= 10000 ? number.toFixed(0) : size > 0 && size < 0.001 ? number.toExponential(2) : number.toPrecision(4);
  }

  function showTip(lines, x, y) {
    tip.replaceChildren(...lines.filter(([, text]) => text).map(([kind, text]) => make(kind === "name" ? "b" : "div", { class: kind }, text)));
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const right = x + 16 + width > innerWidth ? x - 16 - width : x + 16;
    tip.style.left = `${Math.max(4, Math.min(right, innerWidth - width - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 16, innerHeight - height - 4))}px`;
  }

  // --- plots

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.kind = figure.dataset.kind;
      this.isOfLines = ["lines", "history"].includes(this.kind);
      this.unit = figure.dataset.unit;
      this.svg = first("svg.plot", figure);
      this.viewBox = this.svg.getAttribute("viewBox");
      const bySeries = new Map(all(".legend-label", this.svg).map((label) => [label.dataset.series, label]));
      const elements = all(".series", this.svg).reverse(); // painted last is best
      this.series = elements.map((element) => this.readSeries(element, bySeries.get(element.id)));
      this.series.forEach((one) => this.describe(one));
      this.active = null;
      this.buildUnder();
      this.svg.addEventListener("pointermove", (event) => this.hover(event));
      this.svg.addEventListener("pointerdown", (event) => {
        this.isFirstTap = event.pointerType === "touch" && this.active !== this.hit(event, NEAR)?.point;
        this.hover(event);
      });
      this.svg.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") this.leave(); });
      this.svg.addEventListener("click", (event) => this.click(event));
      this.svg.addEventListener("keydown", (event) => this.key(event));
      this.svg.addEventListener("focusin", (event) => this.focused(event.target));
      this.svg.addEventListener("focusout", () => this.leave());
    }

    readSeries(element, label) {
      const name = element.dataset.variant;
      const about = data.variants[`${this.figure.dataset.gpu}|${name}`] || { what: "", docs: "", aka: [], versions: "" };
      const one = { element, label, name, about, isOff: false, isFiltered: false };
      one.points = all(".point", element).map((point) => {
        const moved = /translate\(([-\d.e]+)[ ,]+([-\d.e]+)\)/.exec(point.getAttribute("transform") || "");
        const x = Number(point.getAttribute("cx") ?? moved?.[1] ?? 0), y = Number(point.getAttribute("cy") ?? moved?.[2] ?? 0);
        const known = data.points[`${this.figure.dataset.gpu}|${name}|${point.dataset.workload}`];
        return { element: point, series: one, x, y, isFiltered: false, told: known ? known.t : [], keys: known ? known.k : null };
      });
      return one;
    }

    /** Roles, labels and places in the order of keys. */
    describe(one) {
      const role = one.about.docs ? "link" : "img";
      for (const point of one.points) {
        point.element.setAttribute("tabindex", "-1");
        point.element.setAttribute("role", role);
        point.element.setAttribute("aria-label", this.lines(point).map(([, text]) => text).filter(Boolean).join("; "));
        point.element.target = point;
      }
      if (!one.label) return;
      one.label.setAttribute("tabindex", "-1");
      one.label.setAttribute("role", role);
      one.label.setAttribute("aria-label", `${one.name}${one.about.docs ? ", documentation" : ""}`);
      one.label.target = { element: one.label, series: one, isLabel: true };
    }

    lines(point) {
      const { value, low, high, x, inner, seq, workload, told } = point.element.dataset;
      const unit = this.unit ? ` ${this.unit}` : "";
      const about = point.series.about;
      if (this.kind === "history") {
        return [
          ["name", point.series.name],
          ["figure", `${value > 0 ? "+" : ""}${Number(value).toFixed(2)} % against the first session`],
          ...told.split(" · ").map((text) => ["", text]),
          ["", `${seq} tokens, ${workload}`],
          ["quiet", about.docs ? "Click or Enter: documentation" : ""],
        ];
      }
      const figure = this.kind === "scatter" ? `${spelt(x)} ms, rel. L2 ${spelt(value)}` : `${spelt(value)}${unit}`;
      const band = low === undefined ? "" : `20 to 80 %: ${spelt(low)} to ${spelt(high)} ${this.kind === "scatter" ? "ms" : this.unit}`;
      const own = told === undefined ? [] : told.split(" · ").map((text, at) => [at ? "" : "figure", text]);
      return [
        ["name", point.series.name],
        ...own,
        ["figure", own.length ? "" : inner === undefined ? figure : `${figure}, of which the attention kernel ${spelt(inner)}${unit}`],
        ["", own.length ? "" : band],
        ["", `${seq} tokens, ${workload}`],
        ...point.told.map((text) => ["", text]),
        ["quiet", about.what],
        ["quiet", about.versions],
        ["quiet", about.aka.length ? `also known as ${about.aka.join(", ")}` : ""],
        ["quiet", about.docs ? "Click or Enter: documentation" : ""],
      ];
    }

    buildUnder() {
      const boxes = this.series.map((one) => {
        const box = make("input", { type: "checkbox", checked: true, change: () => this.turn(one, !box.checked) });
        one.box = box;
        const sample = first(".line path", one.element), mark = one.points[0]?.element;
        const painted = (name) => [sample, mark].map((from) => from?.getAttribute(name)).find((value) => value && value !== "none");
        const colour = painted("stroke") || painted("fill") || "currentColor";
        const swatch = make("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, make("path", { d: "M0 5H26", fill: "none", stroke: colour, "stroke-width": 2.4, "stroke-dasharray": sample?.getAttribute("stroke-dasharray") || null }));
        const docs = one.about.docs ? [make("a", { href: one.about.docs, target: "_blank", rel: "noopener noreferrer", "aria-label": `documentation of ${one.name}` }, "docs")] : [];
        one.item = make("li", {}, make("label", {}, box, swatch, make("span", {}, one.name)), ...docs);
        return one.item;
      });
      const turnAll = (isOff) => () => { this.series.forEach((one) => this.turn(one, isOff)); };
      first(".under", this.figure).append(
        make("button", { type: "button", click: () => this.save() }, "Save SVG"),
        make("details", {},
          make("summary", {}, `${this.series.length} series: switch off, documentation`),
          make("p", {}, make("button", { type: "button", click: turnAll(true) }, "All off"), " ", make("button", { type: "button", click: turnAll(false) }, "All on")),
          make("ul", { class: "series-list" }, ...boxes)),
      );
    }

    turn(one, isOff) {
      one.isOff = isOff;
      this.draw(one);
      this.settle();
      live.textContent = `${one.name} ${isOff ? "off" : "on"}`;
    }

    refresh() {
      for (const one of this.series) {
        one.points.forEach((point) => {
          point.isFiltered = !isNamed(one.name) || (point.keys !== null && !point.keys.some(passes));
          point.element.classList.toggle("off", point.isFiltered);
        });
        const left = one.points.filter((point) => !point.isFiltered).length;
        one.isFiltered = left === 0;
        one.element.classList.toggle("partly", left < one.points.length);
        this.draw(one);
      }
      this.figure.hidden = this.series.every((one) => one.isFiltered);
      this.settle();
    }

    draw(one) {
      one.element.classList.toggle("off", one.isOff || one.isFiltered);
      one.label?.classList.toggle("off", one.isOff || one.isFiltered);
      one.box.checked = !one.isOff;
      one.item.hidden = one.isFiltered;
    }

    get visible() { return this.series.filter((one) => !one.isOff && !one.isFiltered); }

    /** One element of the plot is in the order of the Tab key: the focused one, else the first of the best series. */
    settle(target) {
      const now = first('[tabindex="0"]', this.svg)?.target;
      const isThere = now && (now.isLabel || (this.visible.includes(now.series) && !now.isFiltered));
      const one = target || (isThere ? now : this.open(this.visible[0])[0] || this.series[0]?.label?.target);
      all('[tabindex="0"]', this.svg).forEach((element) => element.setAttribute("tabindex", "-1"));
      one?.element.setAttribute("tabindex", "0");
    }

    open(one) { return one ? one.points.filter((point) => !point.isFiltered) : []; }

    /** The plot without the blank around what is shown. */
    fit() {
      const box = first(".figure", this.svg).getBBox();
      if (!box.width) return;
      ["width", "height"].forEach((name) => this.svg.removeAttribute(name)); // else they, not the box, make the ratio
      this.svg.setAttribute("viewBox", [box.x - 6, box.y - 6, box.width + 12, box.height + 12].map((n) => n.toFixed(1)).join(" "));
    }

    hit(event, within) {
      const label = event.target.closest(".legend-label");
      if (label) return { series: label.target.series, point: this.open(label.target.series).at(-1), label };
      const matrix = this.svg.getScreenCTM();
      let best = null, least = within;
      for (const one of this.visible) {
        for (const point of this.open(one)) {
          const away = Math.hypot(matrix.a * point.x + matrix.e - event.clientX, matrix.d * point.y + matrix.f - event.clientY);
          if (away <= least) [best, least] = [{ series: one, point }, away];
        }
      }
      const group = best ? null : event.target.closest(".series");
      const one = group && this.series.find((series) => series.element === group);
      return best || (one ? { series: one, point: this.open(one).at(-1) } : null);
    }

    hover(event) {
      const found = this.hit(event, NEAR);
      if (found?.point) this.activate(found.point, event.clientX, event.clientY, found.label ? null : found.point);
      else if (!this.svg.contains(document.activeElement)) this.leave();
    }

    activate(point, x, y, here) {
      if (this.active !== point || this.here !== here) {
        this.leave();
        this.active = point;
        this.here = here;
        this.svg.classList.add("has-active");
        point.series.element.classList.add("active");
        point.series.label?.classList.add("active");
        here?.element.classList.add("here");
      }
      showTip(this.lines(point), x, y);
    }

    leave() {
      if (this.active) {
        this.svg.classList.remove("has-active");
        all(".active, .here", this.svg).forEach((element) => element.classList.remove("active", "here"));
        this.active = this.here = null;
      }
      tip.hidden = true;
    }

    click(event) {
      const found = this.hit(event, HIT);
      if (!found) return;
      if (found.label && event.target.closest("text") === null) this.turn(found.series, !found.series.isOff);
      else if (!this.isFirstTap) this.visit(found.series);
    }

    visit(one) { if (one.about.docs) window.open(one.about.docs, "_blank", "noopener,noreferrer"); }

    focused(element) {
      const target = element.closest("[tabindex]")?.target;
      if (!target) return;
      this.settle(target);
      const box = target.element.getBoundingClientRect();
      const point = target.isLabel ? this.open(target.series).at(-1) : target;
      if (point && !target.series.isOff) this.activate(point, box.right, box.bottom, target.isLabel ? null : point);
      else this.leave();
    }

    key(event) {
      const target = event.target.closest("[tabindex]")?.target;
      if (!target || event.ctrlKey || event.altKey || event.metaKey) return;
      const moves = {
        ArrowLeft: () => this.along(target, -1),
        ArrowRight: () => this.along(target, 1),
        ArrowUp: () => this.across(target, -1),
        ArrowDown: () => this.across(target, 1),
        Home: () => this.open(target.series)[0],
        End: () => this.open(target.series).at(-1),
        Enter: () => void this.visit(target.series),
        " ": () => this.switched(target),
        Escape: () => void (tip.hidden = true),
      };
      if (!(event.key in moves)) return;
      event.preventDefault();
      moves[event.key]()?.element.focus();
    }

    /** Along the series, from its last point to its name; where each has one point only, to the next one by position. */
    along(target, step) {
      const mine = this.open(target.series);
      if (target.isLabel) return step < 0 ? mine.at(-1) : undefined;
      const next = mine[mine.indexOf(target) + step];
      if (next || this.kind !== "scatter") return next || (step > 0 ? target.series.label?.target : undefined);
      const others = this.visible.flatMap((one) => this.open(one)).sort((a, b) => a.x - b.x);
      return others[others.indexOf(target) + step];
    }

    /** To the series above or below: by value at the same length, by name among names. */
    across(target, step) {
      if (target.isLabel) {
        const labels = this.series.filter((one) => one.label && !one.isFiltered).map((one) => one.label.target);
        const placed = labels.map((label) => [label, label.element.getBoundingClientRect().top]).sort((a, b) => a[1] - b[1]).map(([label]) => label);
        return placed[placed.indexOf(target) + step];
      }
      const column = this.visible.map((one) => {
        const mine = this.open(one);
        return one === target.series ? target : mine.reduce((best, point) => (Math.abs(point.x - target.x) < Math.abs(best.x - target.x) ? point : best), mine[0]);
      }).filter(Boolean);
      if (this.isOfLines) {
        const here = column.filter((point) => Math.abs(point.x - target.x) < 1).sort((a, b) => a.y - b.y);
        return here[here.indexOf(target) + step];
      }
      column.sort((a, b) => a.y - b.y);
      return column[column.indexOf(target) + step];
    }

    switched(target) {
      this.turn(target.series, !target.series.isOff);
      return target.series.isOff ? target.series.label?.target : target;
    }

    save() {
      const copy = this.svg.cloneNode(true);
      all(".series.off, .legend-label.off, .point.off, .series.partly > .line, .series.partly > .band, .series.partly > .leader", copy).forEach((element) => element.remove());
      for (const element of [copy, ...all("*", copy)]) {
        ["tabindex", "role", "aria-label"].forEach((name) => element.removeAttribute(name));
        element.classList.remove("has-active", "active", "here", "off", "partly");
      }
      copy.setAttribute("viewBox", this.viewBox);
      ["width", "height"].forEach((name, at) => copy.setAttribute(name, this.viewBox.split(" ")[2 + at]));
      const style = document.createElementNS(SVG, "style");
      style.textContent = SAVED_STYLE;
      copy.prepend(style);
      save(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }), `${this.figure.dataset.stem}.svg`);
    }
  }

  function buildTabs() {
    const tabs = all('[role="tab"]');
    const select = (tab) => {
      for (const one of tabs) {
        const isChosen = one === tab;
        one.setAttribute("aria-selected", isChosen);
        one.tabIndex = isChosen ? 0 : -1;
        first(`#${CSS.escape(one.getAttribute("aria-controls"))}`).hidden = !isChosen;
      }
      fitAll();
    };
    tabs.forEach((tab, at) => {
      tab.addEventListener("click", () => select(tab));
      tab.addEventListener("keydown", (event) => {
        const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: tabs.length - 1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        const next = tabs[(to + tabs.length) % tabs.length];
        select(next);
        next.focus();
      });
    });
    if (tabs.length) select(tabs[0]);
  }

  const fitAll = () => charts.forEach((chart) => chart.fit());

  // --- saving and copying

  function save(blob, name) {
    const link = make("a", { href: URL.createObjectURL(blob), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  /** What a text of this file holds, inflated. */
  async function unpacked(id) {
    const element = first(`#${id}`);
    const bytes = Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
    const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
    return "shared" in element.dataset ? restored(text) : text;
  }

  /** Lines of JSON whose letters beyond ASCII stand for parts, with the parts put back (attnbench/report/page/packing.py). */
  function restored(text) {
    const [parts, lines] = text.startsWith("\n") ? ["", text.slice(1)] : text.split("\n\n");
    const known = parts.split("\n"), whole = new Map();
    const filled = (short) => short.replace(/[^\0-\x7f]/gu, (letter) => {
      const point = letter.codePointAt(0), at = point - (point < 0xd800 ? 0x100 : 0x900);
      if (!whole.has(at)) whole.set(at, filled(known[at]));
      return whole.get(at);
    });
    return lines ? lines.split("\n").map((line) => `${filled(line)}\n`).join("") : "";
  }

  function buildDownloads() {
    all("[data-download]").forEach((button) => button.addEventListener("click", async () => {
      const { download, file, type } = button.dataset;
      save(new Blob([await unpacked(download)], { type }), file);
    }));
    charts.forEach((chart) => {
      const button = make("button", { type: "button", click: () => chart.save() }, `${chart.figure.dataset.stem}.svg`);
      first("#downloads .script-only").append(" ", button);
    });
    all(".command").forEach((command) => {
      const code = first("code", command);
      const copy = make("button", { type: "button", "aria-label": "copy the command", click: async () => {
        try {
          await navigator.clipboard.writeText(code.textContent);
          copy.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(code);
        }
      } }, "Copy");
      command.append(copy);
    });
  }

  const charts = all("figure.chart").map((figure) => new Chart(figure));
  const tables = all("table.filtered").map((table) => new Table(table));
  fitAll();
  buildFilters();
  buildTabs();
  buildDownloads();
  refresh();
  matchMedia("(max-width: 40rem)").addEventListener("change", fitAll);
  addEventListener("beforeprint", fitAll);
})();
