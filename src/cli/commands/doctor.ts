import { examineMachine } from "../../runtime/doctor.js";
import { defineCommand } from "../command.js";
import { doctorText } from "../doctor-output.js";
import { writeDocument } from "../json.js";
import { ProgressLine } from "../progress-line.js";

export const doctorCommand = defineCommand({
  command: "doctor",
  flagStyle: "kebab",
  positional: "",
  table: {},
  details:
    "Every device is tried with a small computation in a process of its own, so a broken driver does no harm. Nothing is installed or changed.",
  examples: [
    { comment: "what can this machine do?", command: "dylora doctor" },
    { comment: "for a bug report", command: "dylora doctor --json > doctor.json" },
    {
      comment: "try WebGPU on a machine without a GPU (SwiftShader)",
      command: "VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json dylora doctor",
    },
  ],
  onInterrupt: "stopping",

  async run(_, context) {
    const line = new ProgressLine(context.stderr);
    try {
      const report = await examineMachine({
        onProgress: (task) => line.update(task),
        signal: context.signal,
      });
      line.clear();
      if (context.json) writeDocument(context.stdout, report);
      else context.stdout.write(doctorText(report, context.stdout.style));
    } finally {
      line.clear();
    }
    return undefined;
  },
});
