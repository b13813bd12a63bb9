"""What a vLLM engine's replies depend on, and what changes only how fast they come."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdg.text import digest

# Arguments of vLLM's that lay the work out over memory, time and machines. Any other may change
# what a model says.
_LAYOUT = frozenset(
    {
        *("max_model_len", "max_num_seqs", "max_num_batched_tokens", "max_num_active_seqs"),
        *("block_size", "kv_cache_memory_bytes", "num_gpu_blocks_override", "cpu_offload_gb"),
        *("offload_backend", "kv_offloading_backend", "kv_offloading_size", "offload_params"),
        *("pipeline_parallel_size", "data_parallel_size", "data_parallel_size_local", "nnodes"),
        *("data_parallel_backend", "enable_expert_parallel", "decode_context_parallel_size"),
        *("distributed_executor_backend", "disable_custom_all_reduce", "all2all_backend"),
        *("enable_prefix_caching", "enable_chunked_prefill", "long_prefill_token_threshold"),
        *("async_scheduling", "scheduling_policy", "stream_interval", "enforce_eager"),
        *("compilation_config", "cudagraph_capture_sizes", "max_cudagraph_capture_size"),
        *("optimization_level", "performance_mode", "attention_backend", "moe_backend"),
        *("download_dir", "safetensors_load_strategy", "max_parallel_loading_workers"),
        *("disable_log_stats", "enable_log_requests", "use_tqdm_on_load", "numa_bind"),
        *("speculative_config", "spec_method", "spec_model", "spec_tokens"),  # same distribution
    }
)


def shaping_arguments(engine_args: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `AsyncEngineArgs` that may change what a model says."""
    return {key: value for key, value in engine_args.items() if key not in _LAYOUT}


def folder_stamp(model: str) -> str:
    """A model folder's revision: its files with their sizes and times; "" for a hub id."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return ""
    files = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
    return digest(*((name, stat.st_size, stat.st_mtime_ns) for name, stat in files))
