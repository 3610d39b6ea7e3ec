import { encodeFromFloat32, writeSafetensors, } from "../../src/safetensors/index.js";
/** Linear, both 1x1 convolutions (in four dimensions and in two), 3x3 convolution, cross attention, text encoder. */
export function everyKindOfModule(rank, convRank = rank) {
    const block = "lora_unet_down_blocks_1_attentions_0";
    const resnet = "lora_unet_down_blocks_1_resnets_0";
    const encoder = "lora_te_text_model_encoder_layers_0";
    return [
        { name: `${block}_proj_in`, kind: "conv1x1", rank, inFeatures: 32, outFeatures: 24 },
        { name: `${block}_proj_out`, kind: "linear", rank, inFeatures: 24, outFeatures: 32 },
        {
            name: `${block}_transformer_blocks_0_attn1_to_q`,
            kind: "linear",
            rank,
            inFeatures: 24,
            outFeatures: 24,
        },
        {
            name: `${block}_transformer_blocks_0_attn2_to_k`,
            kind: "linear",
            rank,
            inFeatures: 768,
            outFeatures: 24,
        },
        { name: `${resnet}_conv1`, kind: "conv3x3", rank: convRank, inFeatures: 16, outFeatures: 24 },
        { name: `${resnet}_conv_shortcut`, kind: "conv1x1", rank: convRank, inFeatures: 16, outFeatures: 24 },
        { name: `${encoder}_self_attn_q_proj`, kind: "linear", rank, inFeatures: 20, outFeatures: 20 },
        { name: `${encoder}_mlp_fc1`, kind: "linear", rank, inFeatures: 20, outFeatures: 80 },
    ];
}
/** The 192 U-Net and 72 text encoder modules that sd-scripts trains in SD 1.5, with their real shapes. */
export function sd15Modules(rank) {
    const blocks = [320, 640, 1280].flatMap((width, i) => [0, 1].map((j) => [`down_blocks_${i}_attentions_${j}`, width]));
    blocks.push(["mid_block_attentions_0", 1280]);
    for (const [i, width] of [1280, 640, 320].entries()) {
        for (const j of [0, 1, 2])
            blocks.push([`up_blocks_${i + 1}_attentions_${j}`, width]);
    }
    const modules = [];
    const add = (name, kind, inFeatures, outFeatures) => modules.push({ name, kind, rank, inFeatures, outFeatures });
    for (const [block, width] of blocks) {
        const name = `lora_unet_${block}`;
        const transformer = `${name}_transformer_blocks_0`;
        add(`${name}_proj_in`, "conv1x1", width, width);
        for (const [attention, contextWidth] of [
            ["attn1", width],
            ["attn2", 768],
        ]) {
            add(`${transformer}_${attention}_to_q`, "linear", width, width);
            add(`${transformer}_${attention}_to_k`, "linear", contextWidth, width);
            add(`${transformer}_${attention}_to_v`, "linear", contextWidth, width);
            add(`${transformer}_${attention}_to_out_0`, "linear", width, width);
        }
        add(`${transformer}_ff_net_0_proj`, "linear", width, 8 * width);
        add(`${transformer}_ff_net_2`, "linear", 4 * width, width);
        add(`${name}_proj_out`, "conv1x1", width, width);
    }
    for (let layer = 0; layer < 12; layer++) {
        const name = `lora_te_text_model_encoder_layers_${layer}`;
        for (const part of ["q", "k", "v", "out"])
            add(`${name}_self_attn_${part}_proj`, "linear", 768, 768);
        add(`${name}_mlp_fc1`, "linear", 768, 3072);
        add(`${name}_mlp_fc2`, "linear", 3072, 768);
    }
    return modules;
}
/** Writes a random adapter; an existing file is replaced. */
export async function writeRandomAdapter(path, options = {}) {
    const { modules = everyKindOfModule(8), dtype = "F16", alphaDtype = dtype, alpha = 4, seed = 1 } = options;
    const sources = modules.flatMap((module, index) => moduleSources(module, dtype, alphaDtype, module.alpha === undefined ? alpha : module.alpha, seed + index));
    return writeSafetensors(path, sources, {
        metadata: options.metadata ?? null,
        hashes: options.hashes ?? false,
        overwrite: true,
    });
}
function moduleSources(module, dtype, alphaDtype, alpha, seed) {
    const { name, kind, rank, inFeatures, outFeatures } = module;
    const kernel = kind === "linear" ? [] : kind === "conv1x1" ? [1, 1] : [3, 3];
    const factor = (part, shape, factorSeed) => ({
        name: `${name}.lora_${part}.weight`,
        dtype,
        shape,
        data: () => encodeFromFloat32(randomValues(shape.reduce((a, b) => a * b, 1), factorSeed), dtype),
    });
    const sources = [
        factor("down", [rank, inFeatures, ...kernel], seed * 2),
        factor("up", [outFeatures, rank, ...(kind === "linear" ? [] : [1, 1])], seed * 2 + 1),
    ];
    if (alpha !== null) {
        const data = () => alphaDtype === "I64"
            ? new Uint8Array(BigInt64Array.of(BigInt(alpha)).buffer)
            : encodeFromFloat32(Float32Array.of(alpha), alphaDtype);
        sources.push({ name: `${name}.alpha`, dtype: alphaDtype, shape: [], data });
    }
    return sources;
}
/** Uniform in [-0.1, 0.1), from a small generator (mulberry32): tests need variety, not quality. */
export function randomValues(count, seed) {
    const values = new Float32Array(count);
    let state = Math.imul(seed + 1, 0x9e3779b9);
    for (let i = 0; i < count; i++) {
        state = (state + 0x6d2b79f5) | 0;
        let bits = Math.imul(state ^ (state >>> 15), state | 1);
        bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
        values[i] = ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32 / 5 - 0.1;
    }
    return values;
}
//# sourceMappingURL=random-adapter.js.map