// The stored videos of the server, and the files of those that were stored or chosen on this page.
import { getJson, send } from "./api.js";
import { signal } from "./lib.js";

const PAGE_SIZE = 100;
export const videos = signal(null); // null until they are read
export const hasMore = signal(false);
export const files = signal(new Map()); // video_id -> File, until the page is closed

export async function readVideos() {
  const page = await getJson(`v1/videos?page_size=${PAGE_SIZE}`);
  videos.value = page.videos;
  hasMore.value = Boolean(page.next_page_token);
}

export async function deleteVideo(video_id) {
  await send("DELETE", `v1/videos/${encodeURIComponent(video_id)}`);
  await readVideos();
}

// Remembers the file of a stored video, so that its windows can be played.
export function attach(video_id, file) {
  files.value = new Map(files.value).set(video_id, file);
}

export function nameOf(video_id) {
  const video = videos.value?.find((stored) => stored.video_id === video_id);
  return video?.source.filename ?? files.value.get(video_id)?.name ?? video_id;
}
