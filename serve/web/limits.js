// The limits of the server, from /v1/limits.
import { getJson } from "./api.js";

export const limits = {};

export async function readLimits() {
  Object.assign(limits, await getJson("v1/limits"));
}
