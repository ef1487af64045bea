// Imports a file of labels into the open vocabulary: shows a count, then adds the labels or replaces all.
import { problemOf } from "./api.js";
import { $, showProblem } from "./dom.js";
import { t } from "./i18n.js";
import { readLabelFile, withSplitNames } from "./label_files.js";
import { replace } from "./vocabulary.js";

const chosen = { name: "", found: null };

export function wireImports(list, content) {
  $("import-file").addEventListener("change", (event) => offer(event.target.files[0], list));
  $("import-split").addEventListener("change", () => showOffer(list));
  $("import-cancel").addEventListener("click", () => closeOffer());
  $("import-add").addEventListener("click", () => addAll(list));
  $("import-replace").addEventListener("click", () => replaceAll(list, content()));
}

export async function offer(file, list) {
  if (!file) return;
  chosen.name = file.name;
  chosen.found = null;
  showProblem($("import-problem"), null);
  $("import").hidden = false;
  try {
    chosen.found = await readLabelFile(file);
  } catch (error) {
    showProblem($("import-problem"), { title: t("import.unusable", { name: file.name }), detail: error.message });
  }
  showOffer(list);
  $(chosen.found ? "import-add" : "import-cancel").focus();
}

// Updates the count when the labels change.
export function refreshOffer(list) {
  if (chosen.found && !$("import").hidden) showOffer(list);
}

export function closeOffer() {
  if (!$("import").hidden && $("import").contains(document.activeElement)) $("add").focus();
  $("import").hidden = true;
  $("import-file").value = "";
  chosen.found = null;
}

function labels() {
  return $("import-split").checked ? withSplitNames(chosen.found.labels) : chosen.found.labels;
}

function showOffer(list) {
  for (const id of ["import-add", "import-replace", "import-options"]) $(id).hidden = !chosen.found;
  $("import-text").textContent = "";
  if (!chosen.found) return;
  const [all, missing] = [labels(), list.missing(labels())];
  const here = all.length - missing.length;
  const known = here ? t("import.known", { number: here }) : "";
  const example = all.slice(0, 3).map((label) => `“${label.name ?? label}”`).join(", ");
  $("import-text").textContent = t("import.text", { name: chosen.name, labels: t("count.labels", { count: all.length }), known, example });
  $("import-add").disabled = !missing.length;
  $("import-add").textContent = t("editor.add-many", { labels: t("count.labels", { count: missing.length }) });
}

function addAll(list) {
  const added = list.missing(labels()).map(plain);
  list.add(added, t("edit.import", { labels: t("count.labels", { count: added.length }), name: chosen.name }), reopening());
  closeOffer();
}

// Replaces the labels; other fields are replaced if the JSON file has them.
function replaceAll(list, content) {
  const { templates, phrase_rule, background, acceptance, description, metadata } = content;
  const kept = { templates, phrase_rule, background, acceptance, description, metadata };
  const document = { ...kept, ...chosen.found, labels: labels().map((label) => continued(label, content.labels)) };
  list.submit({
    what: t("edit.replace", { name: chosen.name }),
    reveals: true,
    request: (version) => replace(list.vocabulary, version, document),
    ...reopening(),
  });
  closeOffer();
}

// Shows the import again when its edit fails or is dropped.
function reopening() {
  const { name, found } = chosen;
  const back = (problem) => {
    Object.assign(chosen, { name, found });
    $("import").hidden = false;
    showProblem($("import-problem"), problem);
    for (const id of ["import-add", "import-replace", "import-options"]) $(id).hidden = false;
  };
  return { failed: (error) => back(problemOf(error)), dropped: () => back(null) };
}

// Returns a label for PUT; fields missing in the file and existing clips are kept.
function continued(label, before) {
  const given = typeof label === "string" ? { name: label } : label;
  const same = before.find(({ label_id, name }) => label_id === given.label_id || name === given.name.trim());
  const { examples, threshold = same?.threshold ?? null, ...rest } = given;
  const here = new Set((same?.examples ?? []).map((example) => example.example_id));
  const clips = examples?.filter((example) => here.has(example.example_id));
  return { ...rest, threshold, ...(clips ? { examples: clips } : {}) };
}

// Returns a label for PATCH, without a label_id of another vocabulary.
function plain(label) {
  if (typeof label === "string") return label;
  return { name: label.name, synonyms: label.synonyms ?? [], negatives: label.negatives ?? [] };
}
