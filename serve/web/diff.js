// Describes the differences between two versions.
import { count, element } from "./dom.js";

const MOST_NAMED = 30;
const FIELDS = {
  templates: "templates",
  phrase_rule: "phrase rule",
  background: "background phrases",
  acceptance: "thresholds",
  description: "description",
  metadata: "metadata",
};

export function diffView(diff) {
  const view = element("ul", "diff");
  const parts = [
    ["added", diff.added, (name) => name],
    ["removed", diff.removed, (name) => name],
    ["renamed", diff.renamed, ([from, to]) => `${from} → ${to}`],
    ["changed", diff.changed, (name) => name],
  ];
  for (const [kind, items, write] of parts) if (items.length) view.append(partOf(kind, items, write));
  if (diff.moved) view.append(element("li", "", "order of labels changed"));
  const fields = diff.fields.map((key) => FIELDS[key] ?? key);
  if (fields.length) view.append(element("li", "", `changed: ${fields.join(", ")}`));
  if (!view.children.length) view.append(element("li", "", "no differences"));
  return view;
}

function partOf(kind, items, write) {
  const part = element("li", kind);
  part.append(element("span", "kind", `${count(items.length, "label")} ${kind}`));
  const named = element("ul");
  named.append(...items.slice(0, MOST_NAMED).map((item) => element("li", "", write(item))));
  if (items.length > MOST_NAMED) {
    named.append(element("li", "rest", `and ${(items.length - MOST_NAMED).toLocaleString("en")} more`));
  }
  part.append(named);
  return part;
}
