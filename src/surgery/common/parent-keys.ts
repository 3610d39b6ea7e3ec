/** What a file says about the file that it was made from. */

export const PARENT_HASH_KEY = "dylora_parent_hash";
export const PARENT_RANK_KEY = "dylora_parent_rank";
export const PARENT_RULE_KEY = "dylora_alpha_rule";

/** Replaced, once the parent has been read, by a hash of the same length. */
export const PARENT_HASH_PLACEHOLDER = "0".repeat(64);
