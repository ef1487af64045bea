// What is asked about a video: labels or a vocabulary, and options.
import { batch, computed, signal } from "./lib.js";
import { parseDocument } from "./label_lists.js";
import { chosenName } from "./vocabularies.js";

const DEFAULTS = { template: "", top_k: "5", num_clips: "1", num_crops: "1", function_to_apply: "" };
export const ownLabels = signal("");
export const settings = signal(DEFAULTS); // as typed
export const hasOwnLabels = computed(() => Boolean(ownLabels.value.trim()));

export function setOption(name, value) {
  settings.value = { ...settings.value, [name]: value };
}

export function chooseVocabulary(name) {
  batch(() => {
    chosenName.value = name;
    ownLabels.value = "";
  });
}

export function addOwnLabel(label) {
  const before = ownLabels.value.trimEnd();
  if (before.split("\n").includes(label)) return;
  ownLabels.value = before ? `${before}\n${label}` : label;
}

// Returns the options that name the labels. Throws a LabelListError if they cannot be parsed.
export function labelOptions() {
  const labels = parseDocument(ownLabels.value);
  const asked = {};
  if (labels.length) asked.candidate_labels = labels;
  else if (chosenName.value) asked.vocabulary = chosenName.value;
  if (settings.value.template.trim()) asked.hypothesis_template = settings.value.template.trim();
  return asked;
}

// Returns the options that apply to the features of a video, which may be stored.
export function scoreOptions() {
  const { top_k, function_to_apply } = settings.value;
  return {
    top_k: Number(top_k) || 5,
    ...labelOptions(),
    ...(function_to_apply ? { function_to_apply } : {}),
  };
}

// Returns the options that decide which frames are read.
export function viewOptions() {
  const { num_clips, num_crops } = settings.value;
  return { num_clips: Number(num_clips) || 1, num_crops: Number(num_crops) };
}
