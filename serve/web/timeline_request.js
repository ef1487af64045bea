// Requests a timeline of an uploaded video: directly, or as a job with progress if the video is long.
import { getLines, ProblemError, send, uploadVideo } from "./api.js";
import { followJob } from "./job_events.js";
import { durationOf } from "./video.js";

const LONG_SECONDS = 60;
const LONG_BYTES = 60e6; // used where the browser cannot tell the duration

// `onProgress({share, done})`: of the upload, then of the work if it is known.
export async function requestTimeline(file, options, { signal, onProgress }) {
  const headers = (await isLong(file)) ? { Prefer: "respond-async" } : {};
  const upload = { headers, signal, onProgress: (share) => onProgress({ share }) };
  const found = await uploadVideo("v1/timeline", file, options, upload);
  return found.request_counts ? resultOf(found, { signal, onProgress }) : found;
}

async function resultOf(job, { signal, onProgress }) {
  signal.addEventListener("abort", () => send("DELETE", `v1/jobs/${job.id}`).catch(() => {}));
  onProgress({ share: 1, done: 0 });
  const onEvent = ({ type, data }) => type === "progress" && onProgress({ share: 1, done: data.progress });
  await followJob(job.id, { signal, onEvent });
  const [line] = await getLines(`v1/jobs/${job.id}/output`);
  if (line) return line.result;
  const [fault] = await getLines(`v1/jobs/${job.id}/errors`);
  throw new ProblemError(fault?.problem ?? (await send("GET", `v1/jobs/${job.id}`)).problem ?? { title: "Job", detail: job.id });
}

async function isLong(file) {
  const seconds = await durationOf(file);
  return seconds === null ? file.size > LONG_BYTES : seconds > LONG_SECONDS;
}
