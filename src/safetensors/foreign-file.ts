/** What a file that is no safetensors file probably is, so that the error can say what to do. */

const SIGNATURES: readonly { readonly bytes: string; readonly note: string }[] = [
  {
    bytes: "PK\x03\x04",
    note: "It looks like a PyTorch checkpoint (.ckpt, .pt: a pickle, which can run code when loaded). Convert it to safetensors with a tool you trust.",
  },
  {
    bytes: "\x80\x02",
    note: "It looks like a pickle (an old PyTorch file), which can run code when loaded. Convert it to safetensors with a tool you trust.",
  },
  {
    bytes: "version https://git-lfs",
    note: "It is a Git LFS pointer, not the file itself: run `git lfs pull`, or download the file.",
  },
  { bytes: "<!", note: "It is a web page: the download went to a page instead of the file." },
  { bytes: "<html", note: "It is a web page: the download went to a page instead of the file." },
  { bytes: "GGUF", note: "It is a GGUF file, which dylora does not read." },
  { bytes: "{", note: "It is a JSON file." },
  { bytes: "\x89PNG", note: "It is a picture." },
  { bytes: "\xff\xd8\xff", note: "It is a picture." },
];

/** How many bytes of the file `recogniseForeignFile` needs. */
export const SIGNATURE_BYTES = 32;

/** A note for the error, or undefined where the first bytes say nothing. */
export function recogniseForeignFile(firstBytes: Uint8Array): string | undefined {
  const text = Buffer.from(firstBytes.buffer, firstBytes.byteOffset, firstBytes.length).toString("latin1");
  return SIGNATURES.find(({ bytes }) => text.startsWith(bytes))?.note;
}
