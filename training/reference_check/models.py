"""Compare ActionCLIP, X-CLIP and transformers' X-CLIP with golden arrays, including intermediate features.

Sizes are read from the tensors and from each model's config.json, so golden folders of any width and depth work.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from training.checkpoints.actionclip_files import as_saved_on_gpu, read_official_actionclip, to_official_actionclip
from training.checkpoints.hugging_face import from_hugging_face_names, to_hugging_face_names
from training.checkpoints.names import from_official, rename_weights, to_official
from training.checkpoints.native_format import CheckpointError, build_on_meta, check_weights, weight_shapes
from training.checkpoints.overrides import Overrides
from training.checkpoints.xclip_files import read_official_xclip, to_official_xclip, xclip_checkpoint
from training.losses import actionclip_kl, soft_cross_entropy
from training.models.base import VideoTextModel
from training.models.clip import shift_patches
from training.optimisers import freeze_xclip_text_, xclip_optimiser
from training.reference_check.report import ReferenceReport

FEATURE_TOLERANCE, LOGIT_TOLERANCE = 1e-4, 2e-4  # float32 sums in a different order; logits include the scale
TABLE_ROWS = 49408  # size of CLIP's token vocabulary


@dataclass
class GoldenArrays:
    """Arrays of one model's io.npz, compared by name; records which arrays were used."""

    group: str
    arrays: Mapping[str, NDArray[Any]]
    report: ReferenceReport
    used: set[str] = field(default_factory=set)

    def check(self, name: str, actual: Tensor, *, tolerance: float = FEATURE_TOLERANCE) -> None:
        """Compare a tensor with the golden array of this name, if there is one."""
        if name in self.arrays:
            self.used.add(name)
            self.report.compare(self.group, name, actual.detach().numpy(), self.arrays[name], tolerance=tolerance)

    def tensor(self, name: str) -> Tensor:
        """Return a golden array as a tensor, for use as input."""
        self.used.add(name)
        array = self.arrays[name]
        return torch.from_numpy(array.astype(np.float32) if array.dtype.kind == "f" else array)

    def report_unused(self) -> None:
        """Report the arrays that were not used."""
        unused = sorted(set(self.arrays) - self.used)
        self.report.not_checked += [f"{self.group}/io.npz: {name}" for name in unused]


def check(folder: Path, report: ReferenceReport) -> None:
    """Compare all models in a golden folder; missing parts are skipped."""
    with torch.no_grad():
        for path in sorted((folder / "actionclip").glob("*/io.npz")):
            _check_actionclip(path.parent, report)
        for path in sorted((folder / "xclip").glob("*/io.npz")):
            _check_xclip(path.parent, report)
        if (folder / "hf_xclip" / "io.npz").is_file():
            _check_hugging_face(folder / "hf_xclip", report)
    for path in sorted((folder / "keys").glob("*.json")):
        if report.mark_if_exists(path):
            _check_keys(path, report)


def load_golden_actionclip(folder: Path, kind: str) -> VideoTextModel:
    """Build the golden ActionCLIP in a folder with one of its fusion heads."""
    head = _load_weights(folder / f"fusion_{kind}.safetensors")
    document = {"model_state_dict": _load_weights(folder / "clip.safetensors"), "fusion_model_state_dict": head}
    return read_official_actionclip(document, _actionclip_sizes(_load_config(folder))).build()


def load_golden_xclip(folder: Path) -> VideoTextModel:
    """Build the golden X-CLIP in a folder."""
    weights = _load_weights(folder / "model.safetensors")
    return read_official_xclip({"model": weights}, _xclip_sizes(_load_config(folder))).build()


def _load_config(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text()))


def _actionclip_sizes(config: Mapping[str, Any]) -> Overrides:
    return Overrides(
        num_frames=config["num_segments"], vision_heads=config["vision_heads"], text_heads=config["transformer_heads"]
    )


def _xclip_sizes(config: Mapping[str, Any]) -> Overrides:
    return Overrides(
        vision_heads=config["vision_heads"],
        text_heads=config["transformer_heads"],
        mit_heads=config["mit_heads"],
        prompt_heads=config["prompts_heads"],
    )


def make_token_table(rows: int, width: int) -> Tensor:
    """Return the token embeddings [rows, width] that the `full_*` arrays were computed with."""
    i, j = np.arange(rows, dtype=np.int64)[:, None], np.arange(width, dtype=np.int64)[None]
    mixed = (40503 * i + 12829 * j + 977 * i * j + 313 * i * i * (j + 1)) % 65536
    return torch.from_numpy(((mixed - 32768) * 3 / 131072).astype(np.float32))


def _check_actionclip(folder: Path, report: ReferenceReport) -> None:
    config = _load_config(folder)
    report.mark_folder(folder, exclude=("train_step.json", "tsm_state_dict_keys.json"))
    golden = GoldenArrays(f"actionclip/{folder.name}", np.load(folder / "io.npz"), report)
    video, tokens, clip = golden.tensor("video"), golden.tensor("tokens"), _load_weights(folder / "clip.safetensors")
    overrides = _actionclip_sizes(config)
    for kind in config["fusion_heads"]:
        head = _load_weights(folder / f"fusion_{kind}.safetensors")
        for prefix in ("", "full_"):
            if prefix and "full_tokens" not in golden.arrays:
                continue
            weights = (
                {**clip, "token_embedding.weight": make_token_table(TABLE_ROWS, _embedding_width(clip))}
                if prefix
                else clip
            )
            rows = golden.tensor("full_tokens") if prefix else tokens
            document = {"model_state_dict": weights, "fusion_model_state_dict": head}
            model = read_official_actionclip(document, overrides).build()
            text = model.encode_text(rows)
            golden.check(f"{prefix}text_features", text)
            num_templates = 16 if prefix else config["num_templates"]
            _check_head(golden, f"{prefix}{kind}", model, video, text, num_templates)
            if not prefix:
                _check_towers(golden, model, video, tokens)
    shifted = {_insert_net(name): item for name, item in clip.items()}
    model = read_official_actionclip({"model_state_dict": shifted, "fusion_model_state_dict": {}}, overrides).build()
    golden.check("tsm_image_features", model.visual(video.flatten(0, 1)).unflatten(0, video.shape[:2]))
    _check_head(golden, "tsm_meanP", model, video, model.encode_text(tokens), config["num_templates"])
    if "tsm_shift_in" in golden.arrays:
        patches = golden.tensor("tsm_shift_in").transpose(0, 1)
        actual = shift_patches(patches, config["num_segments"], fold=patches.shape[-1] // 8)
        golden.check("tsm_shift_out", actual.transpose(0, 1), tolerance=0.0)
    if report.mark_if_exists(folder / "tsm_state_dict_keys.json"):
        expected = set(json.loads((folder / "tsm_state_dict_keys.json").read_text()))
        names = {to_official(name) for name in model.state_dict() if not name.startswith("fusion.")}
        report.compare(golden.group, "tsm_state_dict_keys", len(names ^ expected), 0, tolerance=0.0)
    if report.mark_if_exists(folder / "train_step.json"):
        _check_actionclip_step(folder, golden, overrides, clip)
    golden.report_unused()


def _check_head(
    golden: GoldenArrays, name: str, model: VideoTextModel, video: Tensor, text: Tensor, num_templates: int
) -> None:
    fused = model.encode_video(video).video_features
    golden.check(f"{name}_fused", fused)
    cosine = functional.normalize(fused, dim=-1) @ functional.normalize(text, dim=-1).T  # [B, M*K]
    golden.check(f"{name}_probs", (100 * cosine).unflatten(1, (num_templates, -1)).softmax(dim=-1).mean(dim=1))
    golden.check(f"{name}_train_logits_per_image", model.head(fused, None, text), tolerance=LOGIT_TOLERANCE)


def _check_towers(golden: GoldenArrays, model: VideoTextModel, video: Tensor, tokens: Tensor) -> None:
    with _record_outputs(model) as outputs:
        golden.check("image_features", model.encode_frames(video.flatten(0, 1)).unflatten(0, video.shape[:2]))
        model.encode_text(tokens)
    _check_vision(golden, outputs)
    for name in [name for name in golden.arrays if name.startswith("text_block")]:
        number = name.removeprefix("text_block").removesuffix("_row0")
        golden.check(name, outputs[f"text.transformer.resblocks.{number}"][0])


def _check_vision(golden: GoldenArrays, outputs: Mapping[str, Tensor]) -> None:
    golden.check("visual_ln_pre", outputs["visual.ln_pre"])
    golden.check("visual_ln_post_cls", outputs["visual.ln_post"])
    prefix = "visual.transformer.resblocks."
    for name, item in outputs.items():
        if name.startswith(prefix) and name.removeprefix(prefix).isdecimal():
            golden.check(f"visual_block{name.removeprefix(prefix)}", item.transpose(0, 1))  # [P+1, B*T, W]


def _check_xclip(folder: Path, report: ReferenceReport) -> None:
    config = _load_config(folder)
    report.mark_folder(folder, exclude=("train_step.json", "param_groups.json"))
    golden = GoldenArrays(f"xclip/{folder.name}", np.load(folder / "io.npz"), report)
    weights, overrides = _load_weights(folder / "model.safetensors"), _xclip_sizes(config)
    model: Any = read_official_xclip({"model": weights}, overrides).build()
    video, tokens, frames = golden.tensor("video"), golden.tensor("tokens"), config["T"]
    with _record_outputs(model) as outputs:
        output, text = model.encode_video(video), model.encode_text(tokens)
        golden.check("logits", model.head(*output[:2], text), tolerance=LOGIT_TOLERANCE)
    cls_features, patches = model.visual.encode(video.flatten(0, 1))
    golden.check("cls_features", cls_features)
    golden.check("patch_features", patches)
    golden.check("video_features", output.video_features)
    golden.check("img_features", model.project_patches(patches))
    golden.check("img_features_mean_t", output.patch_features)
    golden.check("text_features", text)
    _check_vision(golden, outputs)
    golden.check("prompts_visual_ln", outputs["prompts_visual_ln"])
    golden.check("prompts_visual_norm", outputs["prompts_generator.norm"])
    golden.check("prompts_delta", outputs["prompts_generator"])
    for name, item in outputs.items():
        number = (
            name.split(".")[-2] if name.endswith(("message_fc", "message_attn", "cross_attn")) else name.split(".")[-1]
        )
        if name.endswith("message_fc"):
            golden.check(f"visual_block{number}_message_fc", item.unflatten(0, (-1, frames)))
        elif name.endswith("message_attn"):
            golden.check(f"visual_block{number}_message_attn", item.transpose(0, 1))  # [T, B, W]
        elif name.startswith("mit.resblocks.") and number == name.removeprefix("mit.resblocks."):
            golden.check(f"mit_block{number}", item.transpose(0, 1))  # [T, B, D]
        elif name.endswith("cross_attn"):
            golden.check(f"prompts_layer{number}_cross_attn", item)
        elif name == f"prompts_generator.decoder.{number}":
            golden.check(f"prompts_layer{number}", item)
    converted = folder / "hf_logits_after_conversion.npz"
    if converted.is_file():
        expected = np.load(converted)["logits_per_video"]
        report.compare(
            golden.group,
            "hf_logits_after_conversion",
            model.head(*output[:2], text).numpy(),
            expected,
            tolerance=LOGIT_TOLERANCE,
        )
    if report.mark_if_exists(folder / "train_step.json"):
        _check_xclip_step(folder, golden, overrides, weights)
    if report.mark_if_exists(folder / "param_groups.json"):
        _check_xclip_groups(folder, golden, overrides, weights)
    _check_xclip_variants(golden, model, video, text, weights, overrides)
    golden.report_unused()


def _check_xclip_variants(
    golden: GoldenArrays, model: Any, video: Tensor, text: Tensor, weights: dict[str, Tensor], overrides: Overrides
) -> None:
    output = model.encode_video(video)
    golden.check("logits_cache_call1", model.head(*output[:2], text), tolerance=LOGIT_TOLERANCE)
    golden.check(
        "logits_cache_call2_other_text", model.head(*output[:2], text), tolerance=LOGIT_TOLERANCE
    )  # the original caches the first text
    if "tokens_other" in golden.arrays:
        other = model.encode_text(golden.tensor("tokens_other"))
        golden.check("logits_other_text_nocache", model.head(*output[:2], other), tolerance=LOGIT_TOLERANCE)
    views = torch.stack([model.head(*model.encode_video(view)[:2], text) for view in (video, video.flip(1), -video)])
    golden.check("multiview_sum_softmax_3", views.softmax(dim=-1).sum(dim=0))
    if "full_tokens" in golden.arrays:
        table = make_token_table(TABLE_ROWS, _embedding_width(weights))
        full = read_official_xclip({"model": {**weights, "token_embedding.weight": table}}, overrides).build()
        full_text = full.encode_text(golden.tensor("full_tokens"))
        golden.check("full_text_features", full_text)
        golden.check(
            "full_logits", full.head(output.video_features, output.patch_features, full_text), tolerance=LOGIT_TOLERANCE
        )
    double = model.double()
    exact = double.head(*double.encode_video(video.double())[:2], double.encode_text(golden.tensor("tokens")))
    golden.check("logits_f64", exact, tolerance=LOGIT_TOLERANCE)
    model.float().prompts_generator.alpha.zero_()
    golden.check("logits_alpha0", model.head(*output[:2], text), tolerance=LOGIT_TOLERANCE)


def _check_actionclip_step(folder: Path, golden: GoldenArrays, overrides: Overrides, clip: dict[str, Tensor]) -> None:
    """Compare losses and gradient norms of one training step with the recorded head."""
    step = json.loads((folder / "train_step.json").read_text())
    head = _load_weights(folder / f"fusion_{step['head']}.safetensors")
    model = read_official_actionclip({"model_state_dict": clip, "fusion_model_state_dict": head}, overrides).build()
    model.train()
    with torch.enable_grad():
        text = model.encode_text(golden.tensor("tokens")[step["token_rows"]])
        logits = model.head(model.encode_video(golden.tensor("video")).video_features, None, text)
        labels = torch.tensor(step["list_id"])
        loss = actionclip_kl(logits, labels)
        loss.backward()
    _report_step(golden, "train_step/logits", logits, step["logits_per_image"], LOGIT_TOLERANCE)
    _report_step(golden, "train_step/total_loss", loss, step["total_loss"], FEATURE_TOLERANCE)
    _report_gradients(golden, model, step["grad_l2_norms"])


def _check_xclip_step(folder: Path, golden: GoldenArrays, overrides: Overrides, weights: dict[str, Tensor]) -> None:
    """Compare loss and gradient norms of one training step; a norm of null means a frozen parameter."""
    step = json.loads((folder / "train_step.json").read_text())
    model = read_official_xclip({"model": weights}, overrides).build()
    with torch.enable_grad():
        text = model.encode_text(golden.tensor("tokens"))
        logits = model.head(*model.encode_video(golden.tensor("video"))[:2], text)
        loss = soft_cross_entropy(logits, torch.tensor(step["target"]))
        loss.backward()
    _report_step(golden, "train_step/logits", logits, step["logits"], LOGIT_TOLERANCE)
    _report_step(golden, "train_step/loss", loss, step["loss"], FEATURE_TOLERANCE)
    _report_gradients(golden, model, step["grad_l2_norms"])


def _check_xclip_groups(folder: Path, golden: GoldenArrays, overrides: Overrides, weights: dict[str, Tensor]) -> None:
    """Compare parameter names, learning rate and weight decay of all optimiser groups, and the frozen parameters."""
    document = json.loads((folder / "param_groups.json").read_text())
    model = read_official_xclip({"model": weights}, overrides).build()
    freeze_xclip_text_(model.named_parameters())
    first = document["groups"][0]
    optimiser = xclip_optimiser(model.named_parameters(), lr=first["lr"], weight_decay=first["weight_decay"])
    groups = [(sorted(to_official(name) for name in group["names"]), group) for group in optimiser.param_groups]
    expected = [sorted(group["params"]) for group in document["groups"]]
    differing = [names for names, _ in groups] != expected
    golden.report.compare(golden.group, "param_groups names", differing, 0, tolerance=0.0)
    for (_, ours), theirs in zip(groups, document["groups"], strict=False):
        for key in ("lr", "weight_decay", "betas", "eps"):
            golden.report.compare(golden.group, f"param_groups {key}", ours[key], theirs[key], tolerance=1e-18)
    frozen = sorted(to_official(name) for name, item in model.named_parameters() if not item.requires_grad)
    golden.report.compare(golden.group, "param_groups frozen", frozen != sorted(document["frozen"]), 0, tolerance=0.0)


def _report_step(golden: GoldenArrays, name: str, actual: Tensor, expected: object, tolerance: float) -> None:
    golden.report.compare(golden.group, name, actual.detach().numpy(), np.asarray(expected), tolerance=tolerance)


def _report_gradients(golden: GoldenArrays, model: nn.Module, norms: Mapping[str, float | None]) -> None:
    """Compare gradient norms; relative differences, since the norms differ by orders of magnitude."""
    parameters = dict(model.named_parameters())
    for name, norm in norms.items():
        if norm is None:
            continue
        short = name.removeprefix("model.")
        ours = short.replace("fusion.module.", "fusion.") if short.startswith("fusion.") else from_official(short)
        gradient = parameters[ours].grad
        actual = 0.0 if gradient is None else float(gradient.double().norm())
        relative_error = np.array([(actual - norm) / max(abs(norm), 1.0)])
        golden.report.compare(
            golden.group, f"train_step/{name}", relative_error, np.zeros(1), tolerance=LOGIT_TOLERANCE
        )


def _check_hugging_face(folder: Path, report: ReferenceReport) -> None:
    config = _load_config(folder)
    report.mark_folder(folder, exclude=("state_dict_shapes.json",))
    golden = GoldenArrays("hf_xclip", np.load(folder / "io.npz"), report)
    overrides = Overrides(
        vision_heads=config["heads_vision"],
        text_heads=config["heads_text"],
        mit_heads=config["heads_mit"],
        prompt_heads=config["heads_prompt"],
    )
    model: Any = xclip_checkpoint(
        from_hugging_face_names(_load_weights(folder / "model.safetensors")), overrides
    ).build()
    with _record_outputs(model) as outputs:
        output, text = model.encode_video(golden.tensor("video")), model.encode_text(golden.tensor("tokens"))
    golden.check("logits_per_video", model.head(*output[:2], text), tolerance=LOGIT_TOLERANCE)
    prompted = model.prompt_texts(output.patch_features, text)
    golden.check("text_embeds_prompted_normalised", functional.normalize(prompted, dim=-1))
    golden.check("video_embeds_normalised", functional.normalize(output.video_features, dim=-1))
    golden.check("vision_last_hidden_state", outputs["visual.transformer"])
    golden.check("vision_pooled", outputs["visual.ln_post"])
    golden.check("mit_pooled", output.video_features)
    golden.check("get_video_features_pooler", output.video_features)
    golden.check("text_pooled_before_projection", outputs["text.ln_final"])
    golden.check("get_text_features_pooler", text)
    if "tokens_short" in golden.arrays:
        short = model.encode_text(golden.tensor("tokens_short"))
        golden.check("logits_per_video_short_with_mask", model.head(*output[:2], short), tolerance=LOGIT_TOLERANCE)
    if report.mark_if_exists(folder / "state_dict_shapes.json"):
        _check_hugging_face_shapes(folder, model, report)
    golden.report_unused()


def _check_hugging_face_shapes(folder: Path, model: nn.Module, report: ReferenceReport) -> None:
    """Compare parameter names and shapes with those of a state dict from transformers."""
    written = to_hugging_face_names(rename_weights(model.state_dict(), to_official))
    actual = {name: list(item.shape) for name, item in written.items()}
    expected = json.loads((folder / "state_dict_shapes.json").read_text())
    differing = sum(actual.get(name) != expected.get(name) for name in {*actual, *expected})
    report.compare("hf_xclip", "state_dict_shapes", differing, 0, tolerance=0.0)


def _check_keys(path: Path, report: ReferenceReport) -> None:
    """Compare names, shapes and dtypes of the parameters with those recorded from a full-size checkpoint."""
    table = json.loads(path.read_text())
    try:
        if "model" in table:
            checkpoint = read_official_xclip({"model": _meta_tensors(table["model"])}, Overrides())
            check_weights(weight_shapes(build_on_meta("xclip", checkpoint.model_config)), checkpoint.weights)
            _report_table(path, "model", to_official_xclip(checkpoint)["model"], table["model"], report)
            return
        for kind, head in table["fusion_model_state_dict"].items():
            document = {
                "model_state_dict": _meta_tensors(table["model_state_dict"]),
                "fusion_model_state_dict": _meta_tensors(head),
            }
            checkpoint = read_official_actionclip(document, Overrides())
            check_weights(weight_shapes(build_on_meta("actionclip", checkpoint.model_config)), checkpoint.weights)
            back = to_official_actionclip(checkpoint)
            saved = {**as_saved_on_gpu(back["model_state_dict"]), **back["fusion_model_state_dict"]}
            _report_table(path, kind, saved, {**table["model_state_dict"], **head}, report)
    except CheckpointError:
        report.compare("keys", path.stem, np.ones(1), np.zeros(1), tolerance=0.0)


def _report_table(
    path: Path, part: str, actual: Mapping[str, Tensor], expected: Mapping[str, Any], report: ReferenceReport
) -> None:
    written = {k: [str(item.dtype).removeprefix("torch."), list(item.shape)] for k, item in actual.items()}
    differing = float(sum(written.get(name) != expected.get(name) for name in {*written, *expected}))
    report.compare("keys", f"{path.stem}/{part}", np.array([differing]), np.zeros(1), tolerance=0.0)


def _meta_tensors(table: Mapping[str, Any]) -> dict[str, Tensor]:
    return {k: torch.empty(shape, dtype=getattr(torch, kind), device="meta") for k, (kind, shape) in table.items()}


@contextmanager
def _record_outputs(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that collects the outputs of all modules by name during the block."""
    outputs: dict[str, Tensor] = {}

    def make_hook(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs[name] = output

        return hook

    handles = [part.register_forward_hook(make_hook(name)) for name, part in model.named_modules() if name]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _load_weights(path: Path) -> dict[str, Tensor]:
    return {name: item.float() for name, item in load_file(path).items()} if path.is_file() else {}


def _embedding_width(weights: Mapping[str, Tensor]) -> int:
    return weights["ln_final.weight"].shape[0]


def _insert_net(name: str) -> str:
    parts = name.split(".")
    return ".".join([*parts[:4], "net", *parts[4:]]) if name.startswith("visual.transformer.resblocks.") else name
