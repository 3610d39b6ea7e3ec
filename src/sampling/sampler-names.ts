/** The samplers, under sd-scripts' names (`--sample_sampler`). */

export const SAMPLER_NAMES = ["ddim", "euler", "euler_a", "dpmsolver++"] as const;
export type SamplerName = (typeof SAMPLER_NAMES)[number];

/** How the noise levels of the steps are spaced: evenly in the timestep, or as Karras et al. 2022 propose. */
export const NOISE_SPACINGS = ["uniform", "karras"] as const;
export type NoiseSpacing = (typeof NOISE_SPACINGS)[number];

/** Other spellings: sd-scripts', stable-diffusion-webui's and k-diffusion's. */
export const SAMPLER_ALIASES: Readonly<Record<string, SamplerName>> = {
  k_euler: "euler",
  k_euler_a: "euler_a",
  euler_ancestral: "euler_a",
  "euler a": "euler_a",
  dpmsolverpp: "dpmsolver++",
  dpmpp_2m: "dpmsolver++",
  k_dpmpp_2m: "dpmsolver++",
  "dpm++ 2m": "dpmsolver++",
};

const SECOND_ORDER = "Use dpmsolver++: a second-order solver with one evaluation a step.";

/** sd-scripts' other samplers. */
export const SAMPLERS_ELSEWHERE: Readonly<Record<string, string>> = {
  pndm: SECOND_ORDER,
  lms: SECOND_ORDER,
  k_lms: SECOND_ORDER,
  heun: SECOND_ORDER,
  dpm_2: SECOND_ORDER,
  k_dpm_2: SECOND_ORDER,
  dpm_2_a: "Use euler_a, which draws noise at every step, too.",
  k_dpm_2_a: "Use euler_a, which draws noise at every step, too.",
  dpmsolver: "Use dpmsolver++: it is the form of the solver that holds up under guidance.",
  dpmsingle: "Use dpmsolver++: the multistep form of the same solver.",
};

/** The names that stable-diffusion-webui writes into the parameters of a picture. */
export const SAMPLER_LABELS: Readonly<Record<SamplerName, string>> = {
  ddim: "DDIM",
  euler: "Euler",
  euler_a: "Euler a",
  "dpmsolver++": "DPM++ 2M",
};
