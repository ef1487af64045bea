"""What the exported files compute, for every family: any batch by one file, short rows as padded ones, halves as the
whole; and what they are: whole, of one opset, with their weights beside them, telling nothing of the build."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from export.errors import ExportError
from export.onnx_files import DATA_FILE, OPSET, describe_graph
from export.trt.operators import find_unsupported
from serve.contract import GraphContract
from tests.export.conftest import FRAME_WISE, Exported, make_contract
from tests.models import FAMILIES
from tests.tolerances import assert_close, tolerance

pytestmark = pytest.mark.numeric

CAUSAL = [name for name in FAMILIES if name not in ("siglip", "concepts")]


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


def random_frames(graph: GraphContract, *, batch: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(batch).integers(0, 256, (batch, *graph.inputs[0].axes[1:]), dtype=np.uint8)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_file_serves_every_batch(exported: Exported, family: str) -> None:
    repository = exported(family)
    graph = make_contract(repository).graphs["video"]
    run = session(repository / graph.file)
    frames = random_frames(graph, batch=64)
    whole = run.run(None, {"frames": frames})
    for batch in (1, 3):
        for found, expected in zip(run.run(None, {"frames": frames[:batch]}), whole, strict=True):
            assert_close(found, expected[:batch])
    assert np.ptp(whole[0], axis=0).max() > 1e-3, "clips that give the same prove nothing"


@pytest.mark.parametrize("family", CAUSAL)
def test_short_rows_give_what_padded_rows_give(exported: Exported, family: str) -> None:
    repository = exported(family)
    contract = make_contract(repository)
    run = session(repository / contract.graphs["text"].file)
    tokens = np.zeros((5, contract.text.context_length), np.int64)
    for row, length in enumerate((3, 5, 8, 11, 4)):  # <start> words <end>, CLIP's two largest ids around them
        tokens[row, :length] = np.arange(320, 320 + length) * (row + 1)
        tokens[row, 0], tokens[row, length - 1] = 49406, 49407
    padded = run.run(None, {"tokens": tokens})[0]
    for length in (11, 12, 30):
        assert_close(run.run(None, {"tokens": tokens[:, :length]})[0], padded)
    assert_close(run.run(None, {"tokens": tokens[:1, :3]})[0], padded[:1])


def test_masked_padding_changes_nothing(exported: Exported) -> None:
    repository = exported("concepts")
    contract = make_contract(repository)
    run = session(repository / contract.graphs["text"].file)
    tokens = np.full((4, contract.text.context_length), contract.text.pad_id, np.int64)
    for row, length in enumerate((2, 5, 8, 11)):
        tokens[row, :length] = np.arange(3, 3 + length) * (row + 1)
    padded = run.run(None, {"tokens": tokens})[0]
    assert np.ptp(padded, axis=0).max() > 1e-3
    for length in (11, 12, 30):
        assert_close(run.run(None, {"tokens": tokens[:, :length]})[0], padded)
    for row, length in enumerate((2, 5, 8, 11)):
        assert_close(run.run(None, {"tokens": tokens[row : row + 1, :length]})[0], padded[row : row + 1])


def test_a_tower_without_causal_mask_takes_full_rows_alone(exported: Exported) -> None:
    repository = exported("siglip")
    text = make_contract(repository).text
    assert not text.dynamic_length
    run = session(repository / make_contract(repository).graphs["text"].file)
    assert run.run(None, {"tokens": np.ones((2, text.context_length), np.int64)})[0].shape[0] == 2
    with pytest.raises(Exception, match="dimensions"):
        run.run(None, {"tokens": np.ones((2, 9), np.int64)})


@pytest.mark.parametrize("family", FRAME_WISE)
def test_the_halves_give_what_the_whole_gives(exported: Exported, family: str) -> None:
    repository = exported(family)
    contract = make_contract(repository)
    whole, single, fusion = (session(repository / contract.graphs[name].file) for name in ("video", "frames", "fusion"))
    frames = random_frames(contract.graphs["video"], batch=2)
    rows = single.run(None, {"frames": frames.reshape(-1, *frames.shape[2:])})
    names = [item.name for item in contract.graphs["frames"].outputs]
    joined = {name: item.reshape(2, contract.sampling.num_segments, -1) for name, item in zip(names, rows, strict=True)}
    for found, expected in zip(fusion.run(None, joined), whole.run(None, {"frames": frames}), strict=True):
        assert_close(found, expected)
    arrays = contract.parity["runtimes"]["onnxruntime-cpu"]["arrays"]
    for output in contract.graphs["video"].outputs:
        assert arrays[f"halves.{output.name}"]["relative_difference"] <= tolerance()


def test_frames_that_see_each_other_have_no_halves(exported: Exported) -> None:
    assert set(make_contract(exported("xclip")).graphs) == {"video", "text", "head"}


@pytest.mark.parametrize("family", FAMILIES)
def test_files_are_complete_and_reveal_nothing_of_the_build(exported: Exported, family: str) -> None:
    repository = exported(family)
    contract = make_contract(repository)
    private_words = {str(Path.cwd()), str(Path.home()), sys.prefix, str(repository), "site-packages", ".building-"}
    for path in (path for path in repository.rglob("*") if path.suffix in (".onnx", ".pbtxt")):
        data = path.read_bytes()
        assert not [word for word in private_words if word.encode() in data], path.name
    for graph in contract.graphs.values():
        path = repository / graph.file
        model = onnx.load(path, load_external_data=False)
        assert {item.domain: item.version for item in model.opset_import} == {"": OPSET} == {"": contract.opset}
        assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
        again = describe_graph(path, file=graph.file, opset=OPSET, inputs=graph.inputs, outputs=graph.outputs)
        assert again == graph
        assert graph.external_data in ((), (f"{graph.file.rpartition('/')[0]}/{DATA_FILE}",))


# the starter model's weights are bytes, which TensorRT takes at a network's input alone: onnxruntime runs its graphs
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "concepts"])
def test_tensorrt_takes_every_operator(exported: Exported, family: str) -> None:
    repository = exported(family)
    for name, graph in make_contract(repository).graphs.items():
        model = onnx.load(repository / graph.file, load_external_data=False)
        assert find_unsupported(model) == [], name


def test_an_obstacle_is_named(exported: Exported) -> None:
    repository = exported("xclip")
    model = onnx.load(repository / make_contract(repository).graphs["video"].file, load_external_data=False)
    cast = next(node for node in model.graph.node if node.op_type == "Cast")
    cast.op_type, cast.attribute[0].name = "Bernoulli", "dtype"
    assert [item for item in find_unsupported(model) if "not supported" in item] == [
        f"Bernoulli ({cast.name}): the operator is not supported"
    ]
    for node in model.graph.node:
        if node.op_type == "Shape":
            node.input[0] = "frames"
    assert any("frames must be one of" in item and "got UINT8" in item for item in find_unsupported(model))


def test_graphs_of_other_weights_have_other_names(exported: Exported) -> None:
    names = set()
    for family in FAMILIES:
        repository = exported(family)
        for graph in make_contract(repository).graphs.values():
            names.add(onnx.load(repository / graph.file, load_external_data=False).graph.name)
    mean_of_two = 1  # the fusion of rotary and siglip is a mean; so is clip's, over four frames
    assert len(names) >= sum(len(make_contract(exported(family)).graphs) for family in FAMILIES) - mean_of_two


def _drop_initializer(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0]


def _name_another_data_file(model: onnx.ModelProto) -> None:
    large = next(item for item in model.graph.initializer if item.external_data)
    next(item for item in large.external_data if item.key == "location").value = "../model.onnx.data"


def _reach_past_the_end(model: onnx.ModelProto) -> None:
    large = next(item for item in model.graph.initializer if item.external_data)
    next(item for item in large.external_data if item.key == "offset").value = str(1 << 40)


def _raise_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version += 1


def _rename_output(model: onnx.ModelProto) -> None:
    last = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
    last.output[0] = model.graph.output[0].name = "embedding"


@pytest.mark.parametrize(
    "damage",
    [_drop_initializer, _name_another_data_file, _reach_past_the_end, _raise_opset, _rename_output],
    ids=lambda item: item.__name__.strip("_"),
)
def test_a_file_that_is_not_what_was_promised_is_refused(
    copied: Exported, damage: Callable[[onnx.ModelProto], None]
) -> None:
    repository = copied("clip")
    graph = make_contract(repository).graphs["video"]
    path = repository / graph.file
    model = onnx.load(path, load_external_data=False)
    damage(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=r"model\.onnx"):
        describe_graph(path, file=graph.file, opset=OPSET, inputs=graph.inputs, outputs=graph.outputs)


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x00 no protobuf")
    with pytest.raises(ExportError, match="not a valid ONNX model"):
        describe_graph(path, file="x/1/model.onnx", opset=OPSET, inputs=(), outputs=())
