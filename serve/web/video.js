// The chosen video, shared by the views of the page.
import { signal } from "./lib.js";

const METADATA_MS = 3000;
export const chosen = signal(null); // {file, url, isPicture}

export function play(file) {
  if (chosen.value) URL.revokeObjectURL(chosen.value.url);
  chosen.value = { file, url: URL.createObjectURL(file), isPicture: file.type.startsWith("image/") };
}

// Returns the duration of a video in seconds; null if the browser cannot read it.
export function durationOf(file) {
  const url = URL.createObjectURL(file);
  const video = document.createElement("video");
  video.preload = "metadata";
  const found = new Promise((resolve) => {
    video.addEventListener("loadedmetadata", () => resolve(Number.isFinite(video.duration) ? video.duration : null));
    video.addEventListener("error", () => resolve(null));
    setTimeout(() => resolve(null), METADATA_MS);
  });
  video.src = url;
  return found.finally(() => URL.revokeObjectURL(url));
}
