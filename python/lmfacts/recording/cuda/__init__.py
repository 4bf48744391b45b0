"""The GPU path: values on CUDA devices are counted where they lie.

Nothing has to be configured. A tensor's device decides: on a CUDA device that `probe.find_device` can use, a hook
queues kernels on torch's current stream (`site_states`), which read the tensor and add to buffers that torch has
allocated on the same device. Which tokens the rows are is worked out on the device too, from the arguments of the
model's call (`passes`), and told to the host by copies that nothing waits for. So a hook does not copy to the host,
wait, or allocate after its first pass, and can be captured into a CUDA graph; in a model under `torch.compile` it is
one operator in the graph (`lmfacts.recording.compiled_hooks`). When a run is made, the buffers are copied once and
become the same states as on the CPU.

What kernels do not count (float64 values, more than 512 outliers, 2^32 values at once, other devices) is copied to the
host and counted there; the run says how many tensors were.
"""

from __future__ import annotations

__all__: list[str] = []
