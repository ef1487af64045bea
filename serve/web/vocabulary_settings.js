// Other fields of a vocabulary: description, background phrases, templates, phrase rule; and its deletion.
import { problemOf } from "./api.js";
import { $, lines, showProblem } from "./dom.js";
import { Field } from "./field.js";
import { t } from "./i18n.js";
import { erase, patch } from "./vocabulary.js";

const LINES = { read: lines, write: (phrases) => (phrases ?? []).join("\n") };
const KINDS = [
  { key: "description", form: {} },
  { key: "background", form: LINES },
  { key: "templates", form: LINES },
  { key: "phrase_rule", form: {} },
];

export class VocabularySettings {
  constructor({ submit, erased }) {
    this.submit = submit;
    this.erased = erased;
    this.vocabulary = "";
    this.fields = KINDS.map((kind) => ({ ...kind, field: new Field($(`setting-${kind.key}`), kind.form) }));
    for (const setting of this.fields) this.#wire(setting);
    $("delete-name").addEventListener("input", () => this.#showDelete());
    $("delete-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#erase();
    });
  }

  get isTyped() {
    return this.fields.some(({ field }) => field.isTyped);
  }

  clear(vocabulary) {
    this.vocabulary = vocabulary;
    for (const setting of this.fields) {
      setting.field.revert();
      this.#tell(setting, null);
    }
    $("delete-name").value = "";
    $("delete-name").placeholder = vocabulary;
    showProblem($("delete-problem"), null);
    this.#showDelete();
  }

  set(content, version) {
    this.version = version;
    for (const { key, field } of this.fields) field.show(content[key]);
  }

  #wire(setting) {
    const { input } = setting.field;
    input.addEventListener("change", () => this.#save(setting));
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#save(setting);
      if (event.key !== "Escape") return;
      setting.field.revert();
      this.#tell(setting, null);
    });
  }

  #save(setting) {
    const { key, field } = setting;
    this.#tell(setting, null);
    if (!field.isTyped) return;
    const value = field.value;
    this.submit({
      what: t("edit.field", { field: t(`field.${key}`) }),
      request: (version) => patch(this.vocabulary, version, { [key]: value }),
      done: () => field.took(value),
      failed: (error) => this.#tell(setting, problemOf(error), () => this.#save(setting)),
      dropped: () => field.revert(),
    });
  }

  #tell(setting, problem, again) {
    setting.field.mark(Boolean(problem));
    showProblem($(`problem-${setting.key}`), problem, again);
  }

  #showDelete() {
    $("delete").disabled = $("delete-name").value.trim() !== this.vocabulary;
  }

  async #erase() {
    if ($("delete").disabled) return;
    $("delete").disabled = true;
    try {
      await erase(this.vocabulary, this.version);
      this.erased(this.vocabulary);
    } catch (error) {
      showProblem($("delete-problem"), problemOf(error));
      this.#showDelete();
    }
  }
}
