// The chosen video: player, metadata, and the sampled frames on a time axis.
import { $, element } from "./dom.js";

export const chosen = { file: null, url: null };

export function play(file) {
  if (chosen.url) URL.revokeObjectURL(chosen.url);
  chosen.file = file;
  chosen.url = URL.createObjectURL(file);
  $("drop").hidden = true;
  $("player").hidden = false;
  $("unplayable").hidden = true;
  const isPicture = file.type.startsWith("image/");
  for (const [id, isUsed] of [["picture", isPicture], ["video", !isPicture]]) {
    $(id).hidden = !isUsed;
    if (isUsed) $(id).src = chosen.url;
    else $(id).removeAttribute("src");
  }
  $("axis").replaceChildren();
  $("facts").textContent = `${file.name}, ${(file.size / 1e6).toFixed(2)} MB`;
}

export function showSampling(sampling) {
  const { num_frames: frames, width, height, fps, duration_seconds: seconds } = sampling;
  const rate = `${fps.toFixed(2)} per second, ${seconds.toFixed(2)} s`;
  $("facts").textContent = `${chosen.file.name}: ${frames} frames, ${width} × ${height}, ${rate}`;
  const duration = Math.max(seconds, 1e-3);
  const marks = sampling.pts_seconds.flatMap((clip, c) =>
    clip.map((pts, i) => markOf(pts, sampling.frame_indices[c][i], duration)),
  );
  $("axis").replaceChildren(...marks);
}

export function clearSampling() {
  $("axis").replaceChildren();
}

function markOf(pts, frame, duration) {
  const mark = element("button");
  mark.type = "button";
  mark.style.left = `${Math.min(1, pts / duration) * 100}%`;
  mark.title = `frame ${frame} at ${pts.toFixed(2)} s`;
  mark.setAttribute("aria-label", mark.title);
  mark.dataset.pts = String(pts);
  mark.addEventListener("click", () => {
    $("video").pause();
    $("video").currentTime = pts;
  });
  return mark;
}

export function wirePlayer() {
  for (const id of ["video", "picture"]) {
    $(id).addEventListener("error", () => {
      if (!$(id).hasAttribute("src")) return; // removed for a file of the other kind
      $("unplayable").hidden = false;
      $(id).hidden = true;
    });
  }
}
