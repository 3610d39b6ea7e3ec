/**
 * Times training steps at full size (SD 1.5 with random weights) through the product's own code.
 *
 *   npm run -s benchmark:train-step -- [--res 256] [--rank 16] [--unit 4] [--alpha 1] [--batch 1] [--steps 6]
 *     [--update_mode full|frozen] [--text-encoder] [--dtype fp16|fp32] [--model sd15|sd21] [--mode fast|lean]
 *     [--gradient_checkpointing] [--device cpu|webgpu|cuda] [--threads 2] [--profile] [--json]
 *     [--peer "COMMAND"] [--matrix]
 *
 * `--peer` times another trainer in the same run (peer.ts says how), `--matrix` measures the configurations that the
 * project promises figures for. Results are appended to `benchmarks/results/train-step.jsonl`.
 */

import { parseArgs } from "node:util";
import { writeDocument } from "../../src/cli/json.js";
import { processTerminal } from "../../src/cli/terminal.js";
import { appendResult, fail, setting } from "../setting.js";
import { CONFIGURATION_OPTIONS, describe, MATRIX, readConfiguration } from "./configuration.js";
import { measureConfiguration } from "./measurement.js";
import { Peer } from "./peer.js";
import { operatorTable, type Result, resultTable } from "./result-table.js";

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      ...CONFIGURATION_OPTIONS,
      peer: { type: "string" },
      matrix: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  const { stdout } = processTerminal();
  const asked = readConfiguration(values);
  const configurations = values.matrix ? MATRIX.map((changes) => ({ ...asked, ...changes })) : [asked];
  const peer = values.peer === undefined ? null : new Peer(values.peer);

  const results: Result[] = [];
  for (const configuration of configurations) {
    const onProgress = (text: string) => console.error(`${describe(configuration)}: ${text}`);
    const here = setting();
    const outcome = await measureConfiguration(configuration, onProgress);
    const compared =
      peer === null || "failure" in outcome
        ? {}
        : { peer: await peer.compare(configuration, outcome.measurement, onProgress) };
    const result: Result = {
      schemaVersion: 1,
      ...here,
      configuration,
      ...("failure" in outcome ? { failure: outcome.failure } : outcome.measurement),
      ...compared,
    };
    results.push(result);
    await appendResult("train-step", result);
    if ("failure" in outcome) onProgress(`failed: ${outcome.failure.message}`);
  }

  if (values.json) {
    const [only] = results;
    writeDocument(stdout, results.length === 1 && only !== undefined ? only : { results });
  } else {
    stdout.write(resultTable(results, stdout));
    for (const result of results) stdout.write(operatorTable(result, stdout));
  }
  if (results.some((result) => "failure" in result)) process.exitCode = 1;
}

await main().catch(fail);
