// What is asked about the video: labels or a vocabulary, and options; the same request for curl.
import { $ } from "/web/dom.js";
import { chosen } from "/web/video.js";

export function ownLabels() {
  return $("labels").value.split(/\n/).map((line) => line.trim()).filter(Boolean);
}

export function options() {
  const labels = ownLabels();
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
  const name = chosen.file ? chosen.file.name : "clip.mp4";
  $("curl").textContent = [
    `curl -F ${quoted(`video=@"${name}"`)}`,
    `--form-string ${quoted(`options=${JSON.stringify(options())}`)}`,
    `${location.origin}/v1/classify`,
  ].join(" \\\n  ");
  $("request").hidden = !chosen.file;
}

export function wireCurl() {
  $("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText($("curl").textContent);
    $("copy").textContent = "Copied";
  });
}
