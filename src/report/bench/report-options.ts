/** Options of the page of a rank comparison, as data. */
import type { OptionTable } from "../../options/option-spec.js";

export const BENCH_REPORT_OPTIONS = {
  report: {
    type: "path",
    default: null,
    placeholder: "file.html",
    group: "Report",
    common: true,
    description: "also write one page with charts, tables and pictures of every rank",
  },
  report_prompts: {
    type: "text",
    default: null,
    placeholder: "prompts",
    group: "Report",
    description: "its pictures: a prompt, a file of prompts as for train --sample_prompts, or none",
    defaultText: "the captions of the first three images",
  },
  report_steps: {
    type: "integer",
    default: 12,
    min: 1,
    max: 1000,
    group: "Report",
    description: "steps from noise to picture",
  },
  report_resolution: {
    type: "resolution",
    default: null,
    placeholder: "px",
    group: "Report",
    description: "size of the pictures in pixels: 512, or width,height",
    defaultText: "as the losses",
  },
} as const satisfies OptionTable;
