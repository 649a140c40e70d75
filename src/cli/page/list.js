// Turns each list of the page, which is data, into a table to sort, filter, leaf through and print.
// What the cluster gave is only ever text here: nothing is parsed as markup.
"use strict";
(() => {
  const PAGE = 100; // rows at a time: a browser lays out so many in a few milliseconds
  const PRINTED = 2000; // rows on paper, some forty sheets
  const SLICE = 12; // milliseconds of work before others have their turn
  const FEW = 15; // rows that need no tools

  // As html::Text: what draws nothing, or turns how its neighbours are drawn, is spelt out.
  const HIDDEN = /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
  const shown = (text) => text.replace(HIDDEN, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);
  const count = (number) => number.toLocaleString("en");

  const make = (name, attributes, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };

  class List {
    constructor(section) {
      this.section = section;
      this.columns = JSON.parse(section.querySelector("script.columns").textContent);
      this.width = this.columns.length;
      this.group = this.columns.findIndex((column) => column.role === "group");
      this.tone = this.columns.findIndex((column) => column.tones.length > 0);
      this.isGrouped = this.group >= 0;
      this.choices = new Map(); // column -> word that rows must have there
      this.terms = [];
      this.sort = { column: -1, descending: false };
      this.page = 0;
      this.size = PAGE;
    }

    // Reads the rows. A cell is a word, or the number of one that came before; here each word is kept once, and the
    // cells of all rows stand in one array of numbers.
    async load() {
      const blocks = [...this.section.querySelectorAll("script.rows")];
      const total = Number(this.section.dataset.rows);
      this.cells = new Int32Array(total * this.width);
      this.words = [];
      const [known, given] = [new Map(), []];
      let [at, began] = [0, performance.now()];
      for (const block of blocks) {
        for (const row of JSON.parse(block.textContent)) {
          for (const cell of row) {
            let word = typeof cell === "number" ? given[cell] : known.get(cell);
            if (word === undefined) {
              word = this.words.push(cell) - 1;
              known.set(cell, word);
            }
            if (typeof cell !== "number") given.push(word);
            this.cells[at++] = word;
          }
        }
        block.remove();
        if (performance.now() - began > SLICE) {
          await new Promise((resume) => setTimeout(resume));
          began = performance.now();
        }
      }
      this.total = at / this.width;
      this.ranks = new Map();
    }

    cell(row, column) {
      return this.cells[row * this.width + column];
    }

    // The words of a column in the order of their first rows.
    distinct(column) {
      const words = new Set();
      for (let at = column; at < this.cells.length; at += this.width) words.add(this.cells[at]);
      return [...words];
    }

    // The place of each word of a column: as given, or else by its tones or its letters.
    rank(column, asGiven) {
      const key = asGiven ? -1 : column;
      let rank = this.ranks.get(key);
      if (rank) return rank;
      const words = this.distinct(column);
      const { tones } = this.columns[column];
      if (!asGiven && tones.length > 0) {
        const place = new Map(tones.map(([word], index) => [word, index]));
        words.sort((a, b) => place.get(this.words[a]) - place.get(this.words[b]));
      } else if (!asGiven) {
        words.sort((a, b) => (this.words[a] < this.words[b] ? -1 : 1));
      }
      rank = new Int32Array(this.words.length);
      words.forEach((word, index) => (rank[word] = index));
      this.ranks.set(key, rank);
      return rank;
    }

    // Which rows are shown, and in which order.
    select() {
      const hits = this.terms.map((term) => {
        this.lower ??= this.words.map((word) => word.toLowerCase());
        return this.lower.map((word) => word.includes(term));
      });
      const rows = [];
      for (let row = 0; row < this.total; row++) {
        if (this.has(row, hits)) rows.push(row);
      }
      const by = [];
      const { column, descending } = this.sort;
      if (this.isGrouped) {
        const isSorted = column === this.group;
        by.push([this.group, this.rank(this.group, !isSorted), isSorted && descending]);
      }
      if (column >= 0 && !(this.isGrouped && column === this.group)) {
        by.push([column, this.rank(column, false), descending]);
      }
      if (column >= 0) {
        rows.sort((a, b) => {
          for (const [at, rank, turned] of by) {
            const order = rank[this.cell(a, at)] - rank[this.cell(b, at)];
            if (order !== 0) return turned ? -order : order;
          }
          return a - b;
        });
      }
      this.rows = rows;
      this.tally();
    }

    has(row, hits) {
      for (const [column, word] of this.choices) {
        if (this.cell(row, column) !== word) return false;
      }
      return hits.every((hit) => {
        for (let column = 0; column < this.width; column++) {
          if (hit[this.cell(row, column)]) return true;
        }
        return false;
      });
    }

    // How many rows of each tone a group has among those shown.
    tally() {
      this.tallies = new Map();
      if (!this.isGrouped) return;
      for (const row of this.rows) {
        const group = this.cell(row, this.group);
        const tally = this.tallies.get(group) ?? this.tallies.set(group, new Map()).get(group);
        const tone = this.tone < 0 ? -1 : this.cell(row, this.tone);
        tally.set(tone, (tally.get(tone) ?? 0) + 1);
      }
    }

    // The columns of the table: not that of the group where its name stands above, nor what stands below another.
    visible() {
      return this.columns
        .map((column, index) => ({ ...column, index }))
        .filter(({ role, index }) => role !== "fix" && !(this.isGrouped && index === this.group));
    }

    build() {
      this.status = make("p", { class: "status", role: "status" });
      this.head = make("tr", {});
      this.table = make("table", { class: "rows", "aria-labelledby": this.section.querySelector("h2").id });
      this.pages = make("nav", { class: "pages", "aria-label": "Pages" });
      this.section.append(...(this.total > FEW ? [this.tools()] : []), this.status, this.table, this.pages);
      this.section.addEventListener("click", (event) => this.clicked(event));
      this.refresh();
    }

    tools() {
      const tools = make("form", { class: "tools" });
      const search = make("input", { type: "search", placeholder: "words in any column", spellcheck: "false" });
      let pause = 0;
      search.addEventListener("input", () => {
        clearTimeout(pause);
        pause = setTimeout(() => {
          this.terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
          this.refresh();
        }, 120);
      });
      tools.append(make("label", { class: "wide" }, "Search", search));
      this.selects = new Map();
      this.columns.forEach((column, index) => {
        if (column.role === "group" || column.role === "choice") tools.append(this.chooser(column, index));
      });
      if (this.group >= 0) {
        const box = make("input", { type: "checkbox" });
        box.checked = true;
        box.addEventListener("change", () => {
          this.isGrouped = box.checked;
          this.refresh();
        });
        tools.append(make("label", { class: "box" }, box, `Group by ${this.columns[this.group].name.toLowerCase()}`));
      }
      tools.addEventListener("submit", (event) => event.preventDefault());
      return tools;
    }

    chooser({ name, tones }, column) {
      const rank = this.rank(column, column === this.group);
      const words = this.distinct(column).sort((a, b) => rank[a] - rank[b]);
      const counts = new Int32Array(this.words.length);
      for (let row = 0; row < this.total; row++) counts[this.cell(row, column)]++;
      const select = make("select", {}, make("option", { value: "" }, tones.length > 0 ? "any" : `any of ${count(words.length)}`));
      for (const word of words) {
        select.append(make("option", { value: String(word) }, `${shown(this.words[word])} (${count(counts[word])})`));
      }
      select.addEventListener("change", () => this.choose(column, select.value));
      this.selects.set(column, select);
      return make("label", {}, name, select);
    }

    choose(column, value) {
      if (value === "") this.choices.delete(column);
      else this.choices.set(column, Number(value));
      this.refresh();
    }

    // Follows a link such as #rule=cpu-limit; true where there is such a column and value.
    follow(wanted) {
      let found = false;
      for (const [column, select] of this.selects ?? []) {
        const value = wanted.get(this.columns[column].name.toLowerCase());
        const word = value === null ? -1 : this.words.indexOf(value);
        select.value = word < 0 ? "" : String(word);
        if (select.value === "") this.choices.delete(column);
        else {
          this.choices.set(column, word);
          found = true;
        }
      }
      this.refresh();
      return found;
    }

    refresh() {
      this.page = 0;
      this.select();
      this.draw();
    }

    draw() {
      const from = this.page * this.size;
      const rows = this.rows.slice(from, from + this.size);
      const columns = this.visible();
      this.head.replaceChildren(...columns.map((column) => this.heading(column)));
      const bodies = [];
      let [body, last] = [null, -1];
      for (const row of rows) {
        const group = this.isGrouped ? this.cell(row, this.group) : 0;
        if (body === null || group !== last) {
          body = make("tbody", {});
          if (this.isGrouped) body.append(this.caption(group, columns.length, bodies.length === 0 && this.continues(from)));
          bodies.push(body);
          last = group;
        }
        body.append(this.line(row, columns));
      }
      this.table.replaceChildren(make("thead", {}, this.head), ...bodies);
      this.tell();
      this.leaf();
    }

    continues(from) {
      return from > 0 && this.cell(this.rows[from - 1], this.group) === this.cell(this.rows[from], this.group);
    }

    heading({ name, index }) {
      const { column, descending } = this.sort;
      const order = column !== index ? "none" : descending ? "descending" : "ascending";
      const button = make("button", { type: "button", class: "sort", "data-column": String(index) }, name);
      return make("th", { scope: "col", "aria-sort": order }, button);
    }

    caption(group, width, isRest) {
      const tones = this.tone < 0 ? [] : this.columns[this.tone].tones;
      const title = make("bdi", {}, shown(this.words[group]));
      const cell = make("th", { scope: "rowgroup", colspan: String(width) }, title, isRest ? " (continued)" : "");
      const tally = this.tallies.get(group);
      for (const [name, tone] of tones) {
        const number = tally.get(this.words.indexOf(name));
        if (number) cell.append(make("span", { class: `chip ${tone}` }, `${count(number)} ${name}`));
      }
      return make("tr", { class: "group" }, cell);
    }

    line(row, columns) {
      const line = make("tr", {});
      for (const { name, index, role, tones } of columns) {
        const word = this.words[this.cell(row, index)];
        const cell = make("td", { class: role, "data-name": name });
        const tone = tones.find(([known]) => known === word);
        cell.append(tone ? make("span", { class: `chip ${tone[1]}` }, shown(word)) : make("bdi", {}, shown(word)));
        const below = this.columns[index + 1];
        if (below?.role === "fix") this.fix(cell, this.words[this.cell(row, index + 1)]);
        line.append(cell);
      }
      return line;
    }

    // The first line of a fix says where it belongs, the others are YAML. What is copied is what is seen.
    fix(cell, text) {
      if (text === "") return;
      const end = text.indexOf("\n");
      const yaml = make("pre", { tabindex: "0" }, shown(text.slice(end + 1).trimEnd()));
      const copy = make("button", { type: "button", class: "copy" }, "Copy");
      const place = make("code", {}, shown(text.slice(0, end)));
      cell.append(make("details", {}, make("summary", {}, "To fix, in ", place), make("div", { class: "paste" }, yaml, copy)));
    }

    tell() {
      const all = this.rows.length === this.total;
      const text = all ? count(this.total) : `${count(this.rows.length)} of ${count(this.total)}`;
      this.status.textContent = this.total === 1 ? "1 row" : `${text} rows`;
      const left = this.rows.length - this.size;
      if (this.size === PRINTED && left > 0) this.status.append(`; the last ${count(left)} are not printed: filter first`);
    }

    leaf() {
      const pages = Math.ceil(this.rows.length / this.size);
      const step = (label, to) => {
        const button = make("button", { type: "button", "data-page": String(to) }, label);
        button.disabled = to < 0 || to >= pages || to === this.page;
        return button;
      };
      this.pages.replaceChildren();
      if (pages < 2) return;
      const last = pages - 1;
      const where = make("span", {}, `page ${count(this.page + 1)} of ${count(pages)}`);
      this.pages.append(step("First", 0), step("Previous", this.page - 1), where, step("Next", this.page + 1), step("Last", last));
    }

    clicked({ target }) {
      const button = target.closest("button");
      if (button === null) return;
      if (button.dataset.column !== undefined) this.sortBy(Number(button.dataset.column));
      else if (button.dataset.page !== undefined) this.turn(button);
      else if (button.className === "copy") copy(button);
    }

    // Up, down, and as given again. The focus stays on the heading that is new by then.
    sortBy(column) {
      if (this.sort.column !== column) this.sort = { column, descending: false };
      else if (!this.sort.descending) this.sort = { column, descending: true };
      else this.sort = { column: -1, descending: false };
      this.refresh();
      this.head.querySelector(`[data-column="${column}"]`).focus();
    }

    turn(button) {
      const { textContent } = button;
      this.page = Number(button.dataset.page);
      this.draw();
      const buttons = [...this.pages.querySelectorAll("button")];
      const same = buttons.find((other) => other.textContent === textContent && !other.disabled);
      (same ?? buttons.find((other) => !other.disabled)).focus({ preventScroll: true });
      this.status.scrollIntoView({ block: "start" });
    }

    // On paper: more rows, and every fix.
    print(begins) {
      this.size = begins ? PRINTED : PAGE;
      if (begins) this.before = this.page;
      this.page = begins ? 0 : this.before;
      this.draw();
      for (const details of this.table.querySelectorAll("details")) details.open = begins;
    }
  }

  // Where the browser gives no clipboard the text is marked, for Ctrl+C.
  async function copy(button) {
    const yaml = button.parentNode.querySelector("pre");
    try {
      await navigator.clipboard.writeText(`${yaml.textContent}\n`);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(yaml);
      button.textContent = "Marked: press Ctrl+C";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }

  async function begin() {
    const lists = [...document.querySelectorAll("section.list")].map((section) => new List(section));
    for (const list of lists) {
      await list.load();
      list.build();
    }
    const follow = () => {
      const wanted = new URLSearchParams(location.hash.slice(1));
      const first = lists.filter((list) => list.follow(wanted))[0];
      first?.section.scrollIntoView({ block: "start" });
    };
    if (location.hash.length > 1) follow();
    addEventListener("hashchange", follow);
    document.addEventListener("click", (event) => {
      const link = event.target.closest('a[href^="#"]');
      if (link && link.hash === location.hash) follow(); // no change, so nobody else tells
    });
    addEventListener("beforeprint", () => lists.forEach((list) => list.print(true)));
    addEventListener("afterprint", () => lists.forEach((list) => list.print(false)));
    document.documentElement.dataset.ready = "";
  }

  begin();
})();
