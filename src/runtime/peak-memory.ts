/** Memory of this process. */

/** The most memory that the process has had resident so far, in bytes. */
export function peakRssBytes(): number {
  // libuv reports kilobytes on every platform.
  return process.resourceUsage().maxRSS * 1024;
}
