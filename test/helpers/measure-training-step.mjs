/**
 * Runs steps of a training session in a process of its own and prints the memory that was estimated for it and the memory
 * that it took. Arguments: checkpoint file, execution mode, "true" for gradient checkpointing.
 */
import { buildDenoiserGraph } from "../../dist/denoiser/denoiser-graph.js";
import { branchNames } from "../../dist/denoiser/factors.js";
import { estimateActivationBytes } from "../../dist/graph/memory.js";
import { lowerToOnnx } from "../../dist/graph/onnx/lower.js";
import { openCheckpoint } from "../../dist/models/checkpoint/index.js";
import { loraTargets } from "../../dist/models/lora-targets.js";
import { estimateRunBytes } from "../../dist/runtime/memory-estimate.js";
import { peakRssBytes } from "../../dist/runtime/peak-memory.js";
import { float32, Session } from "../../dist/runtime/session.js";

const MAX_RANK = 16;
const [path, mode, gradientCheckpointing] = process.argv.slice(2);
const checkpoint = await openCheckpoint(path);
const configs = { unet: checkpoint.unet.config, textEncoder: checkpoint.textEncoder.config };
const targets = loraTargets(configs, { unetOnly: true });
const { graph, outputs } = buildDenoiserGraph({
  checkpoint,
  targets,
  purpose: "train",
  ...{ batch: 1, height: 32, width: 32, tokens: 77 },
  includeTextEncoder: false,
  gradientCheckpointing: gradientCheckpointing === "true",
  foldsConstants: mode === "fast",
});
const lowering = { weightConversionPerUse: mode === "lean" };
const symbols = Object.fromEntries(targets.map((target) => [branchNames(target).rank, MAX_RANK]));
const memory = estimateActivationBytes(graph, outputs, {
  symbols,
  foldsConstants: mode === "fast",
  ...lowering,
});
const { totalBytes } = estimateRunBytes({ phases: [[{ name: "step", mode, memory }]] });

const model = lowerToOnnx(graph, outputs, lowering);
const session = await Session.create(model, { device: "cpu", mode });
for (const rank of [4, MAX_RANK, 8, MAX_RANK]) {
  const feeds = model.inputs.map(({ name, shape }) => {
    const lengths = shape.map((dim) => (typeof dim === "number" ? dim : rank));
    const count = lengths.reduce((product, length) => product * length, 1);
    return [
      name,
      float32(
        Float32Array.from({ length: count }, (_, i) => Math.sin(i)),
        lengths,
      ),
    ];
  });
  await session.run(Object.fromEntries(feeds));
}
console.log(JSON.stringify({ estimatedBytes: totalBytes, peakBytes: peakRssBytes() }));
