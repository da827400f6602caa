"""What models that people run ask of attention, at their default sizes: a grid each for images, videos and language.

`--attn-grid='models*'` runs all.

Paths of diffusers are those of its repository at 58eb52c, below src/diffusers; token counts follow from the formulas there.
"""

from __future__ import annotations

from typing import Any

from attnbench.workload import Workload
from attnbench.workloads.grids.flux import FLUX
from attnbench.workloads.grids.grid import Grid, short

_TRANSFORMERS, _PIPELINES = "diffusers, models/transformers/", "pipelines/"
_LENGTHS = (2048, 4096, 8192, 16384, 32768)

#: batch, seq, heads, head_dim
Axes = tuple[int, int, int, int]


def _row(name: str, axes: Axes, source: str, why: str, **fields: Any) -> Workload:
    return Workload(name, *axes, why=why, source=source, **fields)


_FLUX_2 = (
    f"{_TRANSFORMERS}transformer_flux2.py, {_PIPELINES}flux2/pipeline_flux2.py, scripts/convert_flux2_to_diffusers.py"
)
_KLEIN = _FLUX_2.replace("pipeline_flux2.py", "pipeline_flux2_klein.py")
_SD_3 = (
    f"{_TRANSFORMERS}transformer_sd3.py, {_PIPELINES}stable_diffusion_3/pipeline_stable_diffusion_3.py, "
    "scripts/convert_sd3_to_diffusers.py"
)
_QWEN = f"{_TRANSFORMERS}transformer_qwenimage.py, {_PIPELINES}qwenimage/pipeline_qwenimage.py"
_Z_IMAGE = f"{_TRANSFORMERS}transformer_z_image.py"
_HUNYUAN = (
    f"{_TRANSFORMERS}transformer_hunyuan_video15.py, {_PIPELINES}hunyuan_video1_5/pipeline_hunyuan_video1_5.py and "
    "image_processor.py"
)
_WAN = f"{_TRANSFORMERS}transformer_wan.py, {_PIPELINES}wan/pipeline_wan.py, scripts/convert_wan_to_diffusers.py"
_LTX = f"{_TRANSFORMERS}transformer_ltx2.py, {_PIPELINES}ltx2/pipeline_ltx2.py"
_COG = f"{_TRANSFORMERS}cogvideox_transformer_3d.py, scripts/convert_cogvideox_to_diffusers.py"
_LLAMA = "torchtitan, models/llama3/flavors.py"
_QWEN_3 = "torchtitan, models/qwen3/flavors.py"

_FLUX_1 = next(row for row in FLUX.rows if row.name == "flux-1024px-t512")

_IMAGES = (
    _FLUX_1,
    _row("flux2-dev-1024px", (1, 4608, 48, 128), _FLUX_2, "FLUX.2 dev, 4096 image and 512 text tokens"),
    _row("flux2-dev-1024px-ref", (1, 8704, 48, 128), _FLUX_2, "FLUX.2 dev with one reference image of 1 MP"),
    _row("flux2-klein-4b-1024px", (1, 4608, 24, 128), _KLEIN, "FLUX.2 klein 4B; the problem of FLUX.1"),
    _row("flux2-klein-9b-1024px", (1, 4608, 32, 128), _KLEIN, "FLUX.2 klein 9B"),
    _row(
        "sd35-large-1024px",
        (2, 4429, 38, 64),
        f"{_SD_3}; 38 heads, as many as layers, by copies of its configuration, not the original",
        "SD3.5 large, 4096 image and 77 + 256 text tokens, batch 2 for its guidance",
    ),
    _row("sd35-medium-1024px", (2, 4429, 24, 64), _SD_3, "SD3.5 medium, joint, batch 2 for its guidance"),
    _row("sd35-medium-1024px-image", (2, 4096, 24, 64), _SD_3, "SD3.5 medium, the blocks on image tokens alone"),
    _row(
        "qwen-image-1024px",
        (1, 4608, 24, 128),
        _QWEN,
        "Qwen-Image, 4096 image tokens and the longest prompt of 512; the problem of FLUX.1",
    ),
    _row(
        "z-image-1024px",
        (1, 4608, 30, 128),
        _Z_IMAGE,
        "Z-Image turbo, 4096 image tokens and the longest prompt of 512",
    ),
    _row(
        "z-image-1024px-cfg",
        (2, 4608, 30, 128),
        _Z_IMAGE,
        "Z-Image with guidance: a prompt of 512 tokens, and an empty one that fills 32",
        mask="padding",
        lengths=(4608, 4128),
    ),
)
_VIDEOS = (
    _row(
        "hunyuan-480p",
        (1, 51_275, 16, 128),
        _HUNYUAN,
        "HunyuanVideo 1.5, 480×848×121: 49,290 video and 1,985 text and image tokens; its dense mask, other keys hidden",
        mask="bool",
    ),
    _row(
        "hunyuan-720p",
        (1, 111_600, 16, 128),
        _HUNYUAN,
        "HunyuanVideo 1.5, 720×1280×121: the video tokens alone, without its mask",
    ),
    *(
        row
        for model, heads, size, tokens in (
            ("1.3b", 12, "480p", 32_760),
            ("14b", 40, "480p", 32_760),
            ("14b", 40, "720p", 75_600),
        )
        for name, axes, shown in ((f"wan-{model}-{size}", (1, tokens, heads, 128), f"Wan {model.upper()}, 81 frames"),)
        for row in (
            _row(f"{name}-self", axes, _WAN, shown),
            _row(f"{name}-cross", axes, _WAN, f"{shown}: video to 512 text tokens, zero-padded", seq_kv=512),
        )
    ),
    _row("ltx2-video-self", (2, 6144, 32, 128), _LTX, "LTX-2, 512×768×121, batch 2 for its guidance"),
    _row(
        "ltx2-video-text",
        (2, 6144, 32, 128),
        _LTX,
        "LTX-2, video to 1024 text tokens with an additive mask, of other numbers than its own",
        mask="additive",
        seq_kv=1024,
    ),
    _row("ltx2-audio-self", (2, 126, 32, 64), _LTX, "LTX-2, its audio: 126 tokens"),
    _row("ltx2-audio-to-video", (2, 6144, 32, 64), _LTX, "LTX-2, queries of the video, keys of the audio", seq_kv=126),
    _row("ltx2-video-to-audio", (2, 126, 32, 64), _LTX, "LTX-2, queries of the audio, keys of the video", seq_kv=6144),
    _row("cogvideox-2b", (2, 17_776, 30, 64), _COG, "CogVideoX 2B, 480×720×49: 17,550 video and 226 text tokens"),
    _row("cogvideox-5b", (2, 17_776, 48, 64), _COG, "CogVideoX 5B, 480×720×49: 17,550 video and 226 text tokens"),
)
_PREFILLS = tuple(
    _row(
        f"{name}-{short(seq)}",
        (1, seq, 32, 128),
        source,
        f"{model}, prefill of {seq:,} tokens",
        kv_heads=kv_heads,
        mask="causal",
    )
    for name, model, kv_heads, source in (
        ("llama3-8b", "Llama-3-8B", 8, _LLAMA),
        ("qwen3-8b", "Qwen3-8B, the problem of Llama-3-8B", 8, _QWEN_3),
        ("qwen3-30b-a3b", "Qwen3-30B-A3B", 4, _QWEN_3),
    )
    for seq in _LENGTHS
)

_SMALL = "the row of its name, small enough for a CPU"
_TINY_IMAGES = (
    _row("tiny-flux", (1, 40, 4, 32), _SMALL, "a joint sequence"),
    _row("tiny-z-image-cfg", (2, 40, 3, 32), _SMALL, "two prompts, one padded", mask="padding", lengths=(40, 29)),
)
_TINY_VIDEOS = (
    _row("tiny-hunyuan", (1, 37, 2, 32), _SMALL, "a dense mask of booleans", mask="bool"),
    _row("tiny-wan-self", (1, 60, 3, 32), _SMALL, "a video"),
    _row("tiny-wan-cross", (1, 60, 3, 32), _SMALL, "a video to its text", seq_kv=16),
    _row("tiny-ltx2-text", (2, 36, 2, 32), _SMALL, "a video to its text, additive mask", mask="additive", seq_kv=20),
    _row("tiny-ltx2-video-to-audio", (2, 6, 2, 16), _SMALL, "few queries, many keys", seq_kv=60),
)
_TINY_PREFILLS = (
    _row("tiny-llama3", (1, 48, 8, 32), _SMALL, "a prefill with grouped heads", kv_heads=2, mask="causal"),
)

_ROWS_SAY = "each row names the file of the model's own code"

#: In the order in which the documents show them.
GRIDS_OF_MODELS = (
    Grid(
        "models-image",
        "Image models at 1024 px",
        _ROWS_SAY,
        rows=_IMAGES,
        tiny=_TINY_IMAGES,
        wall_time="138 s for 220 cases of 20 backends (H200, once, 2026-11-28)",
    ),
    Grid(
        "models-video",
        "Video models at their default sizes: 6144 to 111,600 tokens, cross-attention to text, and sound",
        _ROWS_SAY,
        rows=_VIDEOS,
        tiny=_TINY_VIDEOS,
        wall_time="587 s for 330 cases of 22 backends (H200, once, 2026-11-29)",
    ),
    Grid(
        "models-language",
        "Prefill of language models with grouped heads, causal, 2 K to 32 K tokens",
        _ROWS_SAY,
        rows=_PREFILLS,
        tiny=_TINY_PREFILLS,
        wall_time="243 s for 297 of 300 cases of 20 backends (H200, once, 2026-11-28)",
    ),
)
