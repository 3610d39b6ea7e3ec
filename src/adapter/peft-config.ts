/** `adapter_config.json` as PEFT's `LoraConfig.save_pretrained` writes it. */
import { buildLoraConfig, type ConfiguredModule, LoraConfig, sortedJson } from "./lora-config.js";

/** The text of the file for the modules of one component. */
export function buildPeftConfig(modules: readonly ConfiguredModule[]): string {
  return sortedJson({
    ...buildLoraConfig(modules),
    base_model_name_or_path: null,
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: "LORA",
    task_type: null,
    use_dora: false,
    use_rslora: false,
  });
}

/**
 * A configuration brought up to date with the modules that are there now: its own text where it still says the truth,
 * otherwise with the fields for ranks and alphas replaced.
 */
export function updatePeftConfig(text: string, modules: readonly ConfiguredModule[]): string {
  if (describesModules(text, modules)) return text;
  try {
    return sortedJson({ ...parseObject(text), ...buildLoraConfig(modules), use_rslora: false });
  } catch {
    // Nested too deeply to be written again: no configuration of PEFT's.
    return buildPeftConfig(modules);
  }
}

/** Whether a configuration gives each module its rank and, as float32, its alpha. */
export function describesModules(text: string, modules: readonly ConfiguredModule[]): boolean {
  const fields = parseObject(text);
  if (fields === null) return false;
  try {
    const config = new LoraConfig(fields, "check");
    return modules.every(
      ({ path, rank, alpha }) =>
        config.rankOf(path) === rank && Math.fround(config.alphaOf(path, rank)) === Math.fround(alpha),
    );
  } catch {
    return false;
  }
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}
