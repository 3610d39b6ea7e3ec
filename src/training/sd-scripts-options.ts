/**
 * What dylora answers to the options of sd-scripts' `train_network.py` that it does not have.
 *
 * A command line or TOML file that was written for sd-scripts should either run, or say in one sentence what has to
 * change. An option is *ignored* (with a note) when nothing is lost without it, and *refused* when the result would be
 * another one than was asked for.
 */
import type { ForeignOption, ForeignOptions } from "../options/read-options.js";

type Taking = ForeignOption["takes"];

function ignored(takes: Taking, reason: string, harmless?: readonly unknown[]): ForeignOption {
  return { answer: "ignored", takes, reason, ...(harmless === undefined ? {} : { harmless }) };
}

function refused(takes: Taking, reason: string, harmless?: readonly unknown[]): ForeignOption {
  return { answer: "refused", takes, reason, ...(harmless === undefined ? {} : { harmless }) };
}

const ATTENTION = "attention is always computed without keeping its probabilities.";
const NO_TORCH = "there is no PyTorch underneath.";
const MASTER_FLOAT32 =
  "Weights of the base model are read as they are and computed in float32: leave it out.";
const NO_UPLOAD = "dylora sends nothing anywhere: upload the finished file yourself.";
const MSE_ONLY = "The loss is the mean squared error (l2): leave it out.";
const DATASET_FILE = "Name the parent folder of <repeats>_<class> folders with --train_data_dir instead.";

export const SD_SCRIPTS_OPTIONS: ForeignOptions = {
  // Attention and memory
  xformers: ignored("nothing", ATTENTION),
  sdpa: ignored("nothing", ATTENTION),
  mem_eff_attn: ignored("nothing", ATTENTION),
  lowram: ignored(
    "nothing",
    "weights stay mapped from the file; --execution_mode lean needs the least memory.",
  ),
  highvram: ignored("nothing", "nothing is moved out of the device's memory between steps."),
  no_half_vae: ignored("nothing", "the VAE is always computed in float32."),
  full_fp16: refused("nothing", MASTER_FLOAT32),
  full_bf16: refused("nothing", MASTER_FLOAT32),
  fp8_base: refused("nothing", MASTER_FLOAT32),
  fp8_base_unet: refused("nothing", MASTER_FLOAT32),
  torch_compile: ignored("nothing", NO_TORCH),
  dynamo_backend: ignored("value", NO_TORCH),
  cpu_offload_checkpointing: ignored("nothing", "use --gradient_checkpointing or --execution_mode lean."),
  disable_mmap_load_safetensors: ignored("nothing", "files are read piece by piece."),
  ddp_timeout: ignored("value", "a run uses one machine and one device."),
  ddp_gradient_as_bucket_view: ignored("nothing", "a run uses one machine and one device."),
  ddp_static_graph: ignored("nothing", "a run uses one machine and one device."),
  deepspeed: refused("nothing", "A run uses one machine and one device: leave it out."),
  zero_stage: ignored("value", "a run uses one machine and one device."),
  offload_optimizer_device: ignored("value", "a run uses one machine and one device."),
  offload_optimizer_nvme_path: ignored("value", "a run uses one machine and one device."),
  offload_param_device: ignored("value", "a run uses one machine and one device."),
  offload_param_nvme_path: ignored("value", "a run uses one machine and one device."),
  zero3_init_flag: ignored("nothing", "a run uses one machine and one device."),
  zero3_save_16bit_model: ignored("nothing", "a run uses one machine and one device."),
  fp16_master_weights_and_gradients: refused("nothing", MASTER_FLOAT32),
  blocks_to_swap: refused(
    "value",
    "It belongs to other models; --gradient_checkpointing lowers the memory here.",
    [0],
  ),

  // Model
  tokenizer_cache_dir: ignored("value", "the CLIP vocabulary is part of the package."),
  max_token_length: refused("value", "Captions have up to 75 tokens: leave it out.", [75]),
  base_weights: refused("values", "Merge LoRA files into the checkpoint first, then train on the result."),
  base_weights_multiplier: ignored("values", "it only works with base_weights."),

  // Network
  network_dropout: refused(
    "value",
    "There is no dropout inside the adapter (DyLoRA drops ranks by design): leave it out.",
    [0],
  ),
  scale_weight_norms: refused(
    "value",
    "Max-norm regularisation is not built; --optimizer_args weight_decay=0.1 holds weights down.",
    [0],
  ),
  no_metadata: refused("nothing", "The metadata holds what `extract` and `inspect` need: leave it out."),

  // Data
  dataset_config: refused("value", DATASET_FILE),
  in_json: refused("value", DATASET_FILE),
  dataset_repeats: ignored("value", "it only works with in_json; repeats stand in the folder names.", [1]),
  dataset_class: refused("value", DATASET_FILE),
  debug_dataset: refused("nothing", "The start of every run lists what was found in the data folder."),
  reg_data_dir: refused("value", "Regularisation images are not built: leave it out."),
  prior_loss_weight: ignored("value", "there are no regularisation images it could weigh.", [1]),
  resize_interpolation: ignored("value", "images are resized by sharp (Lanczos)."),
  random_crop: refused("nothing", "Images are cropped at the centre: leave it out."),
  color_aug: refused("nothing", "Colours are not changed: leave it out."),
  face_crop_aug_range: refused("value", "Images are cropped at the centre: leave it out."),
  alpha_mask: refused("nothing", "Masked losses are not built: leave it out."),
  masked_loss: refused("nothing", "Masked losses are not built: leave it out."),
  conditioning_data_dir: refused("value", "Masked losses are not built: leave it out."),
  caption_extention: refused("value", "Write it as --caption_extension."),
  caption_separator: refused("value", "Parts of a caption are separated by commas.", [",", ", "]),
  keep_tokens_separator: refused("value", "Use --keep_tokens with the number of leading parts."),
  secondary_separator: refused("value", "Parts of a caption are separated by commas."),
  enable_wildcard: refused("nothing", "Captions are used as they are, first line only: leave it out."),
  weighted_captions: refused(
    "nothing",
    "Captions are used as they are, without (weights:1.2): leave it out.",
  ),
  caption_dropout_every_n_epochs: refused("value", "Use --caption_dropout_rate.", [0]),
  caption_tag_dropout_rate: refused("value", "Use --caption_dropout_rate, which drops whole captions.", [0]),
  token_warmup_min: ignored("value", "it only works with token_warmup_step.", [1]),
  token_warmup_step: refused(
    "value",
    "All parts of a caption are used from the first step: leave it out.",
    [0],
  ),
  vae_batch_size: ignored(
    "value",
    "latents are encoded one image at a time, so caches do not depend on it.",
    [1],
  ),
  skip_cache_check: ignored("nothing", "cached latents are found by the content they were made from."),
  cache_info: ignored("nothing", "reading image sizes and captions takes no time worth keeping."),
  persistent_data_loader_workers: ignored("nothing", "workers always live as long as the run."),
  cache_text_encoder_outputs: ignored("nothing", "text that does not train is always encoded once."),
  cache_text_encoder_outputs_to_disk: ignored("nothing", "text that does not train is always encoded once."),
  text_encoder_batch_size: ignored("value", "text that does not train is always encoded once."),

  // Optimizer
  use_8bit_adam: refused(
    "nothing",
    "Use AdamW (the default): optimizer state of a LoRA is small, and AdamW is exact.",
  ),
  use_lion_optimizer: refused("nothing", "Use --optimizer_type Lion."),
  lr_scheduler_type: refused("value", "Classes cannot be loaded by name: use one of --lr_scheduler's."),
  fused_backward_pass: refused("nothing", "It belongs to Adafactor: leave it out."),

  // Noise and loss
  loss_type: refused("value", MSE_ONLY, ["l2"]),
  huber_schedule: ignored("value", "the loss is the mean squared error (l2).", ["snr"]),
  huber_c: ignored("value", "the loss is the mean squared error (l2).", [0.1]),
  huber_scale: ignored("value", "the loss is the mean squared error (l2).", [1]),
  debiased_estimation_loss: refused("nothing", "Use --min_snr_gamma 5 for a weighting by timestep."),
  scale_v_pred_loss_like_noise_pred: refused(
    "nothing",
    "Use --min_snr_gamma 5, which knows about v prediction.",
  ),
  v_pred_like_loss: refused("value", "Use --min_snr_gamma 5 for a weighting by timestep.", [0]),
  multires_noise_iterations: refused("value", "Pyramid noise is not built: use --noise_offset 0.05.", [0]),
  multires_noise_discount: ignored("value", "it only works with multires_noise_iterations.", [0.3]),
  adaptive_noise_scale: refused("value", "Use a fixed --noise_offset.", [0]),
  noise_offset_random_strength: refused("nothing", "Use a fixed --noise_offset."),
  ip_noise_gamma: refused("value", "Input perturbation is not built: leave it out.", [0]),
  ip_noise_gamma_random_strength: ignored("nothing", "it only works with ip_noise_gamma."),
  weighting_scheme: refused("value", "It belongs to flow-matching models: leave it out.", [
    "none",
    "uniform",
  ]),
  logit_mean: ignored("value", "it belongs to flow-matching models.", [0]),
  logit_std: ignored("value", "it belongs to flow-matching models.", [1]),
  mode_scale: ignored("value", "it belongs to flow-matching models.", [1.29]),

  // Saving and resuming
  use_safetensors: ignored("nothing", "files are always safetensors."),
  save_n_epoch_ratio: refused("value", "Use --save_every_n_epochs."),
  save_last_n_epochs: refused("value", "Use --save_every_n_steps with --save_last_n_steps."),
  save_last_n_epochs_state: refused("value", "Use --save_every_n_steps with --save_last_n_steps_state."),
  save_state_on_train_end: refused("nothing", "Use --save_state, which saves the state at the end too."),
  initial_epoch: refused(
    "value",
    "Use `dylora resume STATE_DIR`: it goes on at the step where the state was saved.",
  ),
  initial_step: refused(
    "value",
    "Use `dylora resume STATE_DIR`: it goes on at the step where the state was saved.",
  ),
  skip_until_initial_step: refused(
    "nothing",
    "Use `dylora resume STATE_DIR`: it always goes on at the right step.",
  ),
  output_config: refused(
    "nothing",
    "Every run keeps its configuration in its state; a TOML file takes the same names as the options.",
  ),
  huggingface_repo_id: refused("value", NO_UPLOAD),
  huggingface_repo_type: refused("value", NO_UPLOAD),
  huggingface_path_in_repo: refused("value", NO_UPLOAD),
  huggingface_token: refused("value", NO_UPLOAD),
  huggingface_repo_visibility: refused("value", NO_UPLOAD),
  save_state_to_huggingface: refused("nothing", NO_UPLOAD),
  resume_from_huggingface: refused(
    "nothing",
    "dylora downloads nothing: fetch the state folder, then `dylora resume` it.",
  ),
  async_upload: refused("nothing", NO_UPLOAD),

  // Metadata
  metadata_usage_hint: refused("value", "Put it into --metadata_description."),
  metadata_trigger_phrase: refused("value", "Put it into --training_comment or --metadata_description."),
  metadata_thumbnail: refused("value", "Thumbnails are not written: leave it out."),
  metadata_merged_from: refused("value", "A trained file is not merged from others: leave it out."),
  metadata_is_negative_embedding: refused("value", "A LoRA is not an embedding: leave it out."),
  metadata_preprocessor: refused("value", "It belongs to ControlNet: leave it out."),

  // Logging
  log_prefix: ignored("value", "event files lie in --logging_dir, in a folder of the output's name."),
  log_tracker_name: ignored("value", "event files lie in --logging_dir, in a folder of the output's name."),
  log_tracker_config: ignored("value", "TensorBoard files need no configuration."),
  log_config: ignored("nothing", "the configuration is part of every state and of the file's metadata."),
  wandb_run_name: ignored("value", "dylora sends nothing anywhere."),
  wandb_api_key: ignored("value", "dylora sends nothing anywhere."),
  console_log_level: ignored("value", "use --debug for more, or --json for one event a line."),
  console_log_file: ignored("value", "redirect stderr, or use metrics.jsonl in the output folder."),
  console_log_simple: ignored("nothing", "output is plain text wherever stderr is no terminal."),
};
