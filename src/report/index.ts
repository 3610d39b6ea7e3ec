/** Reports: what was measured and trained, as pages that need nothing else. */
export { type BenchPageContent, benchPage } from "./bench/bench-page.js";
export { type BenchReportOptions, reportBench } from "./bench/report-bench.js";
export { type EnergyMap, readEnergyMap } from "./energy/energy-map.js";
export { type BenchPictureOptions, drawBenchPictures } from "./pictures/bench-pictures.js";
export { rebuildReport } from "./rebuild-report.js";
export { readRunLog } from "./training/run-log.js";
export { RunReport, type RunReportOptions, type WrittenReport } from "./training/run-report.js";
export { trainingPage } from "./training/training-page.js";
export { writeReport } from "./write-report.js";
