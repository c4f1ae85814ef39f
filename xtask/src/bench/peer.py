"""The other side of `cargo xtask bench`: PyTorch's attention on the CPU, one JSON request a line, one answer a line."""

import gc
import json
import signal
import sys
import time

import numpy
import safetensors.torch
import torch
from torch.nn.functional import scaled_dot_product_attention


class Peer:
    tensors = None

    def facts(self, request):
        return {
            "torch": torch.__version__,
            "capability": torch.backends.cpu.get_cpu_capability(),
            "numpy": numpy.__version__,
            "python": sys.version.split()[0],
        }

    def load(self, request):
        file = safetensors.torch.load_file(request["path"])
        self.tensors = [file[name].contiguous() for name in ("query", "key", "value")]
        return {}

    def threads(self, count, busy):
        """Sets the number of threads and keeps the team busy for `busy` seconds, which is not part of a call."""
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)
        if busy == 0.0:
            return
        small = [tensor[:, :, :64].contiguous() for tensor in self.tensors]
        start = time.perf_counter()
        while time.perf_counter() - start < busy:
            scaled_dot_product_attention(*small)

    def time(self, request):
        query, key, value = self.tensors
        causal, calls = request["causal"], request["calls"]
        self.threads(request["threads"], request["busy"])
        start = time.perf_counter()
        for _ in range(calls):
            scaled_dot_product_attention(query, key, value, is_causal=causal)
        return {"seconds": time.perf_counter() - start}

    def output(self, request):
        self.threads(request["threads"], 0.0)
        output = scaled_dot_product_attention(*self.tensors, is_causal=request["causal"])
        safetensors.torch.save_file({"output": output.contiguous()}, request["path"])
        return {}


def main():
    # Ctrl-C reaches every process of the terminal; the parent says when this one ends, by closing its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    peer = Peer()
    verbs = {"facts": peer.facts, "load": peer.load, "time": peer.time, "output": peer.output}
    with torch.inference_mode():
        for line in sys.stdin:
            try:
                request = json.loads(line)
                answer = verbs[request["do"]](request)
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


main()
