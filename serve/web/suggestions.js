// Suggested labels: the first ten of the default vocabulary; a click adds one to the entered labels.
import { getJson } from "./api.js";
import { $, button } from "./dom.js";
import { factsOf, names } from "./vocabularies.js";

const SHOWN = 10;

export async function showSuggestions() {
  const name = names().find((known) => factsOf(known).is_default);
  if (name === undefined) return;
  const { labels } = await getJson(`v1/vocabularies/${encodeURIComponent(name)}`);
  const made = labels.slice(0, SHOWN).map((label) => button(label.name, () => add(label.name), "quiet suggestion"));
  $("suggestions").replaceChildren("Try ", ...made);
  $("suggestions").hidden = false;
}

function add(label) {
  const before = $("labels").value.trimEnd();
  if (before.split("\n").includes(label)) return;
  $("labels").value = before ? `${before}\n${label}` : label;
  $("labels").dispatchEvent(new Event("input"));
}
