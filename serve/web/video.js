// The chosen video, shared by the views of the page.
import { signal } from "./lib.js";

export const chosen = signal(null); // {file, url, isPicture}

export function play(file) {
  if (chosen.value) URL.revokeObjectURL(chosen.value.url);
  chosen.value = { file, url: URL.createObjectURL(file), isPicture: file.type.startsWith("image/") };
}
