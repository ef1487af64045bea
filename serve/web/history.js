// The versions of the open vocabulary: authors, times, differences between any two, and rollback.
import { problemOf } from "./api.js";
import { authorOf, timeOf } from "./author.js";
import { diffView } from "./diff.js";
import { $, button, element, showProblem } from "./dom.js";
import { t } from "./i18n.js";
import { diff, rollBack, versions } from "./vocabulary.js";

const VERSIONS_PER_PAGE = 20;

export class VersionHistory {
  constructor({ submit, seen }) {
    this.submit = submit;
    this.seen = seen; // the version that is open
    this.clear("");
    $("older").addEventListener("click", () => this.#more());
    $("history-list").addEventListener("change", () => this.#compare());
  }

  clear(vocabulary) {
    this.vocabulary = vocabulary;
    this.items = [];
    this.token = null;
    this.turn = (this.turn ?? 0) + 1;
    $("history-list").replaceChildren();
    $("history-diff").replaceChildren();
    showProblem($("history-problem"), null);
  }

  // Loads the versions, newest first, and compares the last two.
  async show() {
    this.clear(this.vocabulary);
    await this.#more();
    this.#check("to", this.items[0]);
    this.#check("from", this.items[1] ?? this.items[0]);
    await this.#compare();
  }

  async #more() {
    const turn = this.turn;
    try {
      const page = await versions(this.vocabulary, { token: this.token, size: VERSIONS_PER_PAGE });
      if (turn !== this.turn) return;
      this.token = page.next_page_token;
      this.items.push(...page.versions);
      $("history-list").append(...page.versions.map((item) => this.#rowOf(item)));
    } catch (error) {
      showProblem($("history-problem"), problemOf(error), () => this.show());
    }
    $("older").hidden = !this.token;
  }

  #rowOf(item) {
    const row = element("li", "version");
    const facts = element("span", "facts");
    const labels = t("count.labels", { count: item.num_labels });
    facts.append(element("strong", "", t("history.version", { version: String(item.version) })), t("history.by", { author: authorOf(item) }));
    facts.append(timeOf(item), `, ${labels}${item.note ? `, ${item.note}` : ""}`);
    row.append(this.#choice("from", item), this.#choice("to", item), facts);
    if (item.version !== this.seen()) {
      const back = button(t("history.roll-back"), () => this.#confirm(row, item, back));
      back.setAttribute("aria-label", t("history.roll-back-to", { version: String(item.version) }));
      row.append(back);
    }
    return row;
  }

  #choice(side, item) {
    const label = element("label", "side", t(`history.${side}`));
    const radio = element("input");
    Object.assign(radio, { type: "radio", name: `history-${side}`, value: String(item.version) });
    radio.setAttribute("aria-label", t(`history.compare-${side}`, { version: String(item.version) }));
    label.prepend(radio);
    return label;
  }

  #check(side, item) {
    const radio = $("history-list").querySelector(`input[name="history-${side}"][value="${item?.version}"]`);
    if (radio) radio.checked = true;
  }

  #checked(side) {
    return $("history-list").querySelector(`input[name="history-${side}"]:checked`)?.value;
  }

  async #compare() {
    const [from, to, turn] = [this.#checked("from"), this.#checked("to"), this.turn];
    if (!from || !to) return;
    try {
      const found = await diff(this.vocabulary, from, to);
      if (turn !== this.turn || from !== this.#checked("from") || to !== this.#checked("to")) return;
      $("history-diff").replaceChildren(element("h3", "", t("history.difference", { from, to })), diffView(found));
      showProblem($("history-problem"), null);
    } catch (error) {
      showProblem($("history-problem"), problemOf(error), () => this.#compare());
    }
  }

  // Asks for confirmation in the page, with the differences of a rollback.
  async #confirm(row, item, back) {
    const box = element("div", "confirm");
    const close = () => {
      box.remove();
      back.hidden = false;
      back.focus();
    };
    const act = button(t("history.restore", { version: String(item.version) }), () => this.#rollBack(item), "main");
    box.append(element("p", "", t("history.restore-hint")));
    box.append(act, button(t("cancel"), close));
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
    });
    back.hidden = true;
    row.append(box);
    act.focus();
    try {
      const found = await diff(this.vocabulary, this.seen(), item.version);
      box.firstElementChild.after(diffView(found));
    } catch (error) {
      showProblem($("history-problem"), problemOf(error));
    }
  }

  #rollBack(item) {
    $("history-heading").focus();
    this.submit({
      what: t("edit.roll-back", { version: String(item.version) }),
      reveals: true,
      request: (version) => rollBack(this.vocabulary, version, item.version),
      failed: (error) => showProblem($("history-problem"), problemOf(error)),
    });
  }
}
