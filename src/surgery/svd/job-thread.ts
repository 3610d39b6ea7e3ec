/** What a thread of a `JobPool` runs. */
import { parentPort } from "node:worker_threads";
import { type JobReply, type JobRequest, toThread, transferables } from "./job-messages.js";
import { MODULE_JOBS } from "./module-jobs.js";

parentPort!.on("message", ({ ticket, name, input }: JobRequest) => {
  try {
    const result = (MODULE_JOBS[name] as (input: unknown) => unknown)(input);
    parentPort!.postMessage({ ticket, result } satisfies JobReply, transferables(result));
  } catch (error) {
    parentPort!.postMessage({ ticket, error: toThread(error) } satisfies JobReply);
  }
});
