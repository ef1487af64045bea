// The labels of the open vocabulary with a filter and pages (for tens of thousands of labels), and the form for new labels.
import { problemOf } from "./api.js";
import { $, arrange, showProblem } from "./dom.js";
import { t } from "./i18n.js";
import { LabelRow } from "./label.js";
import { LabelListError, parseDocument, writeDocument } from "./label_lists.js";
import { patch } from "./vocabulary.js";

const ROWS_PER_PAGE = 100;
const FRESH_MS = 2500;

export class LabelList {
  constructor({ submit, say }) {
    this.submit = submit;
    this.say = say;
    this.clear("");
    this.#wire();
  }

  clear(vocabulary) {
    this.vocabulary = vocabulary;
    this.labels = [];
    this.ids = new Set();
    this.rows = new Map();
    this.page = 0;
    $("filter").value = "";
    $("add").value = "";
    this.#growAdd();
    showProblem($("add-problem"), null);
  }

  get isTyped() {
    return Boolean($("add").value.trim()) || this.isRowTyped;
  }

  get isRowTyped() {
    return [...this.rows.values()].some((row) => row.isTyped);
  }

  has(id) {
    return this.ids.has(id);
  }

  // `reveal`: shows the page with the new labels after an edit in this browser.
  set(labels, { reveal }) {
    const before = this.ids;
    this.labels = labels;
    this.ids = new Set(labels.map((label) => label.label_id));
    const fresh = reveal && before.size ? labels.filter((label) => !before.has(label.label_id)) : [];
    if (fresh.length) this.#turnTo(fresh[0]);
    for (const row of [...this.rows.values()]) if (!this.ids.has(row.id)) this.#part(row);
    this.show();
    for (const label of fresh.slice(0, ROWS_PER_PAGE)) this.#flash(label.label_id);
    if (fresh.length) this.rows.get(fresh[0].label_id)?.node.scrollIntoView({ block: "nearest" });
  }

  show() {
    const found = this.found();
    const last = Math.max(0, Math.ceil(found.length / ROWS_PER_PAGE) - 1);
    this.page = Math.min(this.page, last);
    const first = this.page * ROWS_PER_PAGE;
    const shown = found.slice(first, first + ROWS_PER_PAGE);
    const focus = this.#focusAfter(shown);
    arrange($("label-list"), shown.map((label) => this.#rowOf(label).node));
    this.#prune(new Set(shown.map((label) => label.label_id)));
    focus();
    this.#showCounts(found.length, first, shown.length);
  }

  found() {
    const wanted = $("filter").value.trim().toLowerCase();
    if (!wanted) return this.labels;
    const holds = (phrase) => phrase.toLowerCase().includes(wanted);
    return this.labels.filter(
      (label) => holds(label.name) || label.synonyms.some(holds) || label.negatives.some(holds),
    );
  }

  // Handles a label removed elsewhere: typed text is moved to the field for new labels.
  lost(row, problem) {
    const typed = row.name.isTyped ? row.name.value : row.label.name;
    this.rows.delete(row.id);
    this.#giveBack([typed]);
    showProblem($("add-problem"), { title: t("label.removed-meanwhile", { label: row.label.name }), detail: problem.detail });
  }

  // Adds missing labels; `labels` are names or {name, synonyms, negatives}.
  add(labels, what, { failed, dropped }) {
    this.submit({
      what,
      reveals: true,
      request: (version) => patch(this.vocabulary, version, { add: labels }),
      failed,
      dropped,
    });
  }

  missing(labels) {
    const known = new Set(this.labels.map((label) => comparable(label.name)));
    return labels.filter((label) => {
      const key = comparable(typeof label === "string" ? label : label.name);
      return !known.has(key) && known.add(key);
    });
  }

  #rowOf(label) {
    let row = this.rows.get(label.label_id);
    if (!row) this.rows.set(label.label_id, (row = new LabelRow(label, this)));
    else if (row.label !== label) row.show(label);
    return row;
  }

  // The label of a row was removed; edits in progress are still reported.
  #part(row) {
    if (row.isSaving) return;
    if (row.isTyped) this.lost(row, { detail: t("label.typed-kept") });
    else this.rows.delete(row.id);
  }

  #prune(shown) {
    for (const row of this.rows.values()) {
      const isDone = !row.isTyped && !row.isSaving && row.problem.hidden;
      if (isDone && !shown.has(row.id)) this.rows.delete(row.id);
    }
  }

  #turnTo(label) {
    if ($("filter").value && !this.found().includes(label)) $("filter").value = "";
    this.page = Math.floor(this.found().indexOf(label) / ROWS_PER_PAGE);
  }

  #flash(id) {
    const node = this.rows.get(id)?.node;
    node?.classList.add("fresh");
    setTimeout(() => node?.classList.remove("fresh"), FRESH_MS);
  }

  // When the focused row is removed, focuses the same part of the row at its position.
  #focusAfter(shown) {
    const part = document.activeElement;
    const node = part?.closest("#label-list > li");
    const index = Math.min([...$("label-list").children].indexOf(node), shown.length - 1);
    return () => {
      if (!node || node.isConnected) return;
      const row = this.rows.get(shown[index]?.label_id);
      if (!row) $("add").focus();
      else (part.matches(".remove") ? row.remove : row.name.input).focus();
    };
  }

  #showCounts(found, first, shown) {
    const isFiltered = Boolean($("filter").value.trim());
    const labels = t("count.labels", { count: found });
    $("label-count").textContent = isFiltered ? t("label.found", { labels, all: this.labels.length }) : labels;
    $("remove-found").hidden = !isFiltered || !found || found === this.labels.length;
    $("remove-found").textContent = t("label.remove-found", { count: found });
    $("pager").hidden = found <= ROWS_PER_PAGE;
    $("pager-text").textContent = t("label.page", { first: first + 1, last: first + shown });
    $("page-before").disabled = this.page === 0;
    $("page-after").disabled = first + shown >= found;
  }

  #turn(by) {
    this.page += by;
    this.show();
    $("label-list").scrollIntoView({ block: "start" });
  }

  #addTyped() {
    let typed;
    try {
      typed = parseDocument($("add").value);
    } catch (error) {
      showProblem($("add-problem"), problemOf(error));
      return;
    }
    if (!typed.length) return;
    const labels = this.missing(typed);
    const here = typed.length - labels.length;
    if (!labels.length) {
      const words = typed.length === 1 ? t("label.exists", { label: typed[0] }) : t("label.all-exist", { number: typed.length });
      showProblem($("add-problem"), { title: t("label.nothing"), detail: words });
      return;
    }
    showProblem($("add-problem"), null);
    if (here) this.say(t("label.skipped", { labels: t("count.labels", { count: here }) }));
    $("add").value = "";
    this.#growAdd();
    const what = labels.length === 1 ? t("edit.add", { label: labels[0] }) : t("edit.add-many", { labels: t("count.labels", { count: labels.length }) });
    this.add(labels, what, {
      failed: (error) => {
        this.#giveBack(labels);
        showProblem($("add-problem"), problemOf(error), () => this.#addTyped());
      },
      dropped: () => this.#giveBack(labels),
    });
  }

  #giveBack(names) {
    const typed = this.#typed();
    $("add").value = typed ? writeDocument([...names, ...typed]) : `${writeDocument(names)}\n${$("add").value}`;
    this.#growAdd();
  }

  // Returns the typed labels; null while they cannot be parsed, e.g. with an open quote.
  #typed() {
    try {
      return parseDocument($("add").value);
    } catch (error) {
      if (error instanceof LabelListError) return null;
      throw error;
    }
  }

  #growAdd() {
    const typed = this.#typed()?.length ?? 0;
    $("add").rows = Math.min(8, Math.max(1, $("add").value.split("\n").length));
    $("add-button").textContent = typed > 1 ? t("editor.add-many", { labels: t("count.labels", { count: typed }) }) : t("editor.add");
  }

  #removeFound() {
    const found = this.found();
    this.submit({
      what: t("edit.remove-many", { labels: t("count.labels", { count: found.length }) }),
      request: (version) => patch(this.vocabulary, version, { remove: found.map((label) => label.label_id) }),
      done: () => {
        $("filter").value = "";
        $("filter").focus();
      },
    });
  }

  #wire() {
    $("filter").addEventListener("input", () => {
      this.page = 0;
      this.show();
    });
    $("page-before").addEventListener("click", () => this.#turn(-1));
    $("page-after").addEventListener("click", () => this.#turn(1));
    $("remove-found").addEventListener("click", () => this.#removeFound());
    $("add").addEventListener("input", () => this.#growAdd());
    $("add-button").addEventListener("click", () => {
      this.#addTyped();
      $("add").focus();
    });
    $("add").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#addTyped();
    });
  }
}

// Returns the key to detect existing labels. The server checks further rules.
// As on the server, labels may differ only in case; a warning names models that merge them.
function comparable(name) {
  return name.normalize("NFKC").replace(/[‘’ʼ´`]/g, "'").split(/\s+/).filter(Boolean).join(" ");
}
