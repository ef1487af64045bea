// Creates a vocabulary from a name and labels: typed, from a file, or copied from another vocabulary.
import { problemOf } from "./api.js";
import { $, element, showProblem } from "./dom.js";
import { t } from "./i18n.js";
import { readLabelFile, withSplitNames } from "./label_files.js";
import { parseDocument } from "./label_lists.js";
import { names, took } from "./vocabularies.js";
import { create, read } from "./vocabulary.js";

const chosen = { file: null };

export function openCreation(typed) {
  $("new-vocabulary").reset();
  chosen.file = null;
  $("new-labels").value = typed;
  $("new-copy").replaceChildren(...[t("editor.copy-nothing"), ...names()].map((name) => element("option", "", name)));
  $("new-copy").options[0].value = "";
  showProblem($("new-problem"), null);
  showFile();
  $("new-vocabulary").hidden = false;
  $("new-name").focus();
}

export function closeCreation() {
  $("new-vocabulary").hidden = true;
}

export function wireCreation(made) {
  $("new-file").addEventListener("change", (event) => takeFile(event.target.files[0]));
  $("new-vocabulary").addEventListener("submit", async (event) => {
    event.preventDefault();
    $("new-create").disabled = true;
    try {
      const facts = await create($("new-name").value.trim(), await documentOf());
      took(facts);
      made(facts);
    } catch (error) {
      showProblem($("new-problem"), problemOf(error));
      if (error.problem?.status === 412) $("new-name").focus();
    } finally {
      $("new-create").disabled = false;
    }
  });
}

export async function takeFile(file) {
  if (!file) return;
  showProblem($("new-problem"), null);
  try {
    chosen.file = { name: file.name, found: await readLabelFile(file) };
  } catch (error) {
    chosen.file = null;
    showProblem($("new-problem"), { title: t("import.unusable", { name: file.name }), detail: error.message });
  }
  showFile();
}

function showFile() {
  const { file } = chosen;
  $("new-file-text").textContent = file ? `${file.name}: ${t("count.labels", { count: file.found.labels.length })}` : "";
  $("new-split-line").hidden = !file;
}

// Joins the labels: copied, from the file, typed. Other fields come from the file if it has them, else from the copy.
async function documentOf() {
  const copy = $("new-copy").value ? contentOf(await read($("new-copy").value)) : {};
  const file = chosen.file?.found ?? { labels: [] };
  const fromFile = $("new-split").checked ? withSplitNames(file.labels) : file.labels;
  const labels = [...(copy.labels ?? []), ...fromFile, ...parseDocument($("new-labels").value)];
  return { ...copy, ...file, labels: labels.map(plain) };
}

function contentOf({ labels, templates, phrase_rule, background, acceptance, description, metadata }) {
  return { labels, templates, phrase_rule, background, acceptance, description, metadata };
}

// Returns a label without label_id and clips, which belong to the original vocabulary.
function plain(label) {
  if (typeof label === "string") return label;
  const { label_id, examples, ...kept } = label;
  return kept;
}
