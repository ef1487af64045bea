// The request form (labels or a vocabulary, and options) and the equivalent curl command.
import { $ } from "./dom.js";
import { LabelListError, parseDocument } from "./label_lists.js";
import { chosen } from "./video.js";

export function hasOwnLabels() {
  return Boolean($("labels").value.trim());
}

// Throws a LabelListError if the labels cannot be parsed.
export function options() {
  const labels = parseDocument($("labels").value);
  const asked = {
    top_k: Number($("top_k").value) || 5,
    num_clips: Number($("num_clips").value) || 1,
    num_crops: Number($("num_crops").value),
  };
  if (labels.length) asked.candidate_labels = labels;
  else if ($("vocabulary").value) asked.vocabulary = $("vocabulary").value;
  if ($("template").value.trim()) asked.hypothesis_template = $("template").value.trim();
  if ($("function_to_apply").value) asked.function_to_apply = $("function_to_apply").value;
  return asked;
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

export function showCurl() {
  $("request").hidden = true;
  if (!chosen.file) return;
  try {
    $("curl").textContent = curl();
    $("request").hidden = false;
  } catch (error) {
    if (!(error instanceof LabelListError)) throw error; // shown when the request is sent
  }
}

function curl() {
  const name = chosen.file.name;
  return [
    `curl -F ${quoted(`video=@"${name}"`)}`,
    `--form-string ${quoted(`options=${JSON.stringify(options())}`)}`,
    new URL("v1/classify", document.baseURI).href,
  ].join(" \\\n  ");
}

export function wireCurl() {
  $("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText($("curl").textContent);
    $("copy").textContent = "Copied";
  });
}
