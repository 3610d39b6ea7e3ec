#!/bin/sh
# Runs parity and the step benchmark with what lies in this folder, and nothing from outside but the GPU's driver.
#   run.sh [--device webgpu|cuda|cpu] [--out FOLDER] [--resolutions 256,512] [--ranks 16,128] [--steps 8]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# The machine's own Vulkan loader where it has one.
if ! { ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | grep -q 'libvulkan\.so\.1'; then
  export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
# Containers mount NVIDIA's driver where the loader does not look.
nvidia=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
if [ -z "${VK_DRIVER_FILES:-}" ] && [ -e "$nvidia" ]; then
  export VK_DRIVER_FILES="$nvidia"
fi
exec "$here/node/bin/node" "$here/.cache/tools/benchmarks/gpu/run.js" "$@"
