// Describes the differences between two versions.
import { element } from "./dom.js";
import { t } from "./i18n.js";

const MOST_NAMED = 30;
const FIELDS = ["templates", "phrase_rule", "background", "acceptance", "description", "metadata"];

export function diffView(diff) {
  const view = element("ul", "diff");
  const parts = [
    ["added", diff.added, (name) => name],
    ["removed", diff.removed, (name) => name],
    ["renamed", diff.renamed, ([from, to]) => `${from} → ${to}`],
    ["changed", diff.changed, (name) => name],
  ];
  for (const [kind, items, write] of parts) if (items.length) view.append(partOf(kind, items, write));
  if (diff.moved) view.append(element("li", "", t("diff.moved")));
  const fields = diff.fields.map((key) => (FIELDS.includes(key) ? t(`field.${key}`) : key));
  if (fields.length) view.append(element("li", "", t("diff.fields", { fields: fields.join(", ") })));
  if (!view.children.length) view.append(element("li", "", t("diff.none")));
  return view;
}

function partOf(kind, items, write) {
  const part = element("li", kind);
  part.append(element("span", "kind", t(`diff.${kind}`, { labels: t("count.labels", { count: items.length }) })));
  const named = element("ul");
  named.append(...items.slice(0, MOST_NAMED).map((item) => element("li", "", write(item))));
  if (items.length > MOST_NAMED) {
    named.append(element("li", "rest", t("diff.more", { number: items.length - MOST_NAMED })));
  }
  part.append(named);
  return part;
}
