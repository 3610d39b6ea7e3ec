/** The safetensors format: bytes only, no knowledge of what the tensors are for. */
export { buildHeader, type DataLayout, layoutData } from "./build-header.js";
export * from "./codecs.js";
export * from "./dtype.js";
export { readHeader, SafetensorsFile } from "./file.js";
export { HashPool } from "./hash-pool.js";
export type { SafetensorsHeader, TensorInfo, TensorSpec } from "./header.js";
export { MAX_HEADER_BYTES } from "./header.js";
export { computeModelHash, HASH_PLACEHOLDERS, LEGACY_HASH_KEY, MODEL_HASH_KEY } from "./model-hashes.js";
export { type ParseHeaderOptions, parseHeader } from "./parse-header.js";
export { type StreamHash, sha256Stream } from "./stream-hash.js";
export { type TensorSource, type WriteOptions, writeSafetensors } from "./write.js";
export { SafetensorsWriter, type WriteResult, type WriterOptions } from "./writer.js";
