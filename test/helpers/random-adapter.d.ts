/** Random adapters with kohya's names: every kind of module, or the whole of SD 1.5. */
import type { ModuleKind } from "../../src/adapter/index.js";
import { type Dtype, type WriteResult } from "../../src/safetensors/index.js";
export interface RandomModule {
    readonly name: string;
    /** A `linear` may stand for a 1x1 convolution that is stored in two dimensions. */
    readonly kind: ModuleKind;
    readonly rank: number;
    readonly inFeatures: number;
    readonly outFeatures: number;
    /** Null: the file has no alpha for this module. Default: the adapter's alpha. */
    readonly alpha?: number | null;
}
export interface RandomAdapterOptions {
    /** Default: one module of every kind, see `everyKindOfModule`. */
    readonly modules?: readonly RandomModule[];
    /** Default F16. */
    readonly dtype?: Dtype;
    /** Type of the alphas. Default: as the factors. */
    readonly alphaDtype?: Dtype;
    /** Of modules that name none. Default 4; null writes none. */
    readonly alpha?: number | null;
    /** Default: none. */
    readonly metadata?: Readonly<Record<string, string>> | null;
    /** Add the `sshs_` hashes to the metadata. Default false. */
    readonly hashes?: boolean;
    /** The same seed gives the same file. Default 1. */
    readonly seed?: number;
}
/** Linear, both 1x1 convolutions (in four dimensions and in two), 3x3 convolution, cross attention, text encoder. */
export declare function everyKindOfModule(rank: number, convRank?: number): RandomModule[];
/** The 192 U-Net and 72 text encoder modules that sd-scripts trains in SD 1.5, with their real shapes. */
export declare function sd15Modules(rank: number): RandomModule[];
/** Writes a random adapter; an existing file is replaced. */
export declare function writeRandomAdapter(path: string, options?: RandomAdapterOptions): Promise<WriteResult>;
/** Uniform in [-0.1, 0.1), from a small generator (mulberry32): tests need variety, not quality. */
export declare function randomValues(count: number, seed: number): Float32Array;
