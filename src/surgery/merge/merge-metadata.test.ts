import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { mergeFiles as merge } from "../../../test/helpers/merge-files.js";
import { everyKindOfModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { openAdapter } from "../../adapter/index.js";

describe("metadata", () => {
  test("is the first adapter's, with the network put right and the parents named", async () => {
    const folder = await tempFolder();
    const [a, b] = [join(folder, "cat.safetensors"), join(folder, "dog.safetensors")];
    await writeRandomAdapter(a, {
      hashes: true,
      metadata: {
        ss_network_module: "networks.dylora",
        ss_network_dim: "8",
        ss_network_alpha: "4.0",
        ss_network_args: '{"unit": "2"}',
        ss_tag_frequency: '{"cat": 3}',
        ss_output_name: "cat",
        dylora_parent_hash: "f".repeat(64),
        "modelspec.title": "cat",
        "modelspec.hash_sha256": "0xdead",
      },
    });
    await writeRandomAdapter(b, {
      metadata: { ss_base_model_version: "sd_v1", ss_tag_frequency: '{"dog": 1}' },
    });
    const path = join(folder, "both.safetensors");
    const report = await merge(
      [
        { path: a, ratio: 0.5 },
        { path: b, ratio: -1, blockWeights: "OUT=0.5" },
      ],
      { path, date: new Date(2026, 0, 2) },
    );
    await using merged = await openAdapter(path);
    const { metadata } = merged;
    expect(metadata).toMatchObject({
      ss_network_module: "networks.lora",
      ss_network_dim: "16",
      ss_network_alpha: "8.0",
      ss_tag_frequency: '{"cat": 3}',
      ss_base_model_version: "sd_v1",
      ss_output_name: "both",
      "modelspec.title": "both",
      "modelspec.merged_from": "cat, dog",
      sshs_model_hash: report.dataSha256,
    });
    expect(metadata).not.toHaveProperty("dylora_parent_hash");
    expect(metadata).not.toHaveProperty("modelspec.hash_sha256");
    expect(merged.dylora.isDylora).toBe(false);
    const parents = JSON.parse(metadata.dylora_merged_from!);
    expect(parents).toMatchObject([
      { name: "cat", ratio: 0.5, sshs_model_hash: report.inputs[0]!.dataSha256 },
      { name: "dog", ratio: -1, blockWeights: { OUT03: 0.5 }, sshs_model_hash: report.inputs[1]!.dataSha256 },
    ]);
    await using first = await openAdapter(a);
    expect(report.inputs[0]!.dataSha256).toBe(first.metadata.sshs_model_hash);
    expect(JSON.parse(metadata.ss_network_args!)).toEqual({ conv_dim: "16", conv_alpha: "8.0" });
  });

  test("says nothing of one rank, or of a parent's unit, where modules have several", async () => {
    const folder = await tempFolder();
    const a = join(folder, "cat.safetensors");
    await writeRandomAdapter(a, {
      modules: everyKindOfModule(8, 4),
      metadata: { ss_network_dim: "8", ss_network_args: '{"unit": "2"}' },
    });
    const path = join(folder, "both.safetensors");
    await merge([{ path: a, ratio: 0.5 }], { path });
    await using merged = await openAdapter(path);
    expect(merged.metadata).toMatchObject({ ss_network_dim: "Dynamic", ss_network_alpha: "2.0" });
    expect(merged.metadata).not.toHaveProperty("ss_network_args");
  });
});
