// One label as a row: name, synonyms, negative phrases, example clips, removal; its problem is shown below.
import { problemOf } from "./api.js";
import { $, lines, showProblem } from "./dom.js";
import { LabelExamples } from "./examples.js";
import { Field } from "./field.js";
import { t } from "./i18n.js";
import { patch } from "./vocabulary.js";

const LINES = { read: lines, write: (phrases) => phrases.join("\n") };
let made = 0;

export class LabelRow {
  constructor(label, list) {
    this.id = label.label_id;
    this.list = list;
    this.waiting = 0; // running edits
    this.node = $("label-row").content.firstElementChild.cloneNode(true);
    const find = (selector) => this.node.querySelector(selector);
    [this.more, this.panel, this.problem] = [find(".more"), find(".phrases"), find(".problem")];
    this.remove = find(".remove");
    this.name = new Field(find(".label-name"));
    this.synonyms = new Field(find(".synonyms"), LINES);
    this.negatives = new Field(find(".negatives"), LINES);
    this.panel.id = `label-panel-${(made += 1)}`;
    this.more.setAttribute("aria-controls", this.panel.id);
    this.examples = new LabelExamples(this);
    this.#wire();
    this.show(label);
  }

  get fields() {
    return [this.name, this.synonyms, this.negatives];
  }

  get isTyped() {
    return this.fields.some((field) => field.isTyped);
  }

  show(label) {
    this.label = label;
    this.name.show(label.name);
    this.synonyms.show(label.synonyms);
    this.negatives.show(label.negatives);
    this.examples.show(label);
    this.node.classList.remove("leaving");
    this.name.input.setAttribute("aria-label", t("label.name", { label: label.name }));
    this.remove.setAttribute("aria-label", t("label.remove", { label: label.name }));
    this.more.textContent = summaryOf(label);
    this.more.setAttribute("aria-label", t("label.phrases-of", { label: label.name, summary: summaryOf(label) }));
  }

  get isSaving() {
    return this.waiting > 0;
  }

  revert() {
    for (const field of this.fields) field.revert();
    this.node.classList.remove("leaving");
    this.tell(null);
  }

  rename() {
    const to = this.name.value;
    if (!this.name.isTyped) return this.tell(null);
    return this.submit(this.name, {
      what: t("edit.rename", { label: this.label.name, to }),
      request: (version) => patch(this.list.vocabulary, version, { rename: [{ label: this.id, to }] }),
      done: () => {
        this.name.took(to);
        this.label = { ...this.label, name: to };
      },
    });
  }

  // Synonyms and negative phrases are sent together, with the saved name.
  rephrase(field) {
    if (!field.isTyped) return this.tell(null);
    const phrases = { synonyms: this.synonyms.value, negatives: this.negatives.value };
    const update = (name) => ({ update: [{ label_id: this.id, name, ...phrases }] });
    return this.submit(field, {
      what: t("edit.phrases", { label: this.label.name }),
      request: (version) => patch(this.list.vocabulary, version, update(this.label.name)),
      done: () => {
        this.synonyms.took(phrases.synonyms);
        this.negatives.took(phrases.negatives);
      },
    });
  }

  leave() {
    this.node.classList.add("leaving");
    this.submit(null, {
      what: t("edit.remove", { label: this.label.name }),
      request: (version) => patch(this.list.vocabulary, version, { remove: [this.id] }),
    });
  }

  open(isOpen) {
    this.panel.hidden = !isOpen;
    this.more.setAttribute("aria-expanded", String(isOpen));
  }

  submit(field, edit) {
    this.#count(1);
    this.tell(null);
    this.list.submit({
      ...edit,
      done: (facts) => {
        this.#count(-1);
        edit.done?.(facts);
      },
      failed: (error) => this.#failed(error, field, edit),
      dropped: () => {
        this.#count(-1);
        this.revert();
      },
    });
  }

  #count(by) {
    this.waiting += by;
    this.node.classList.toggle("saving", this.isSaving);
  }

  #failed(error, field, edit) {
    this.#count(-1);
    this.node.classList.remove("leaving");
    this.list.say(t("editor.not-saved", { what: edit.what }));
    if (error.name === "AbortError") return this.tell(null);
    if (!this.list.has(this.id)) return this.list.lost(this, problemOf(error));
    field?.mark(true);
    return this.tell(problemOf(error), () => this.submit(field, edit));
  }

  tell(problem, again) {
    if (!problem) for (const field of this.fields) field.mark(false);
    showProblem(this.problem, problem, again);
  }

  #wire() {
    this.more.addEventListener("click", () => this.open(this.panel.hidden));
    this.remove.addEventListener("click", () => this.leave());
    this.name.input.addEventListener("change", () => this.rename());
    for (const field of [this.synonyms, this.negatives]) {
      field.input.addEventListener("change", () => this.rephrase(field));
      field.input.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.rephrase(field);
      });
    }
    this.node.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.isSaving) this.revert();
    });
  }
}

function summaryOf(label) {
  const parts = [];
  if (label.synonyms.length) parts.push(t("label.also", { phrases: label.synonyms.join(", ") }));
  if (label.negatives.length) parts.push(t("label.not", { phrases: label.negatives.join(", ") }));
  if (label.examples?.length) parts.push(t("count.clips", { count: label.examples.length }));
  return parts.join(" · ") || t("label.none");
}
