"""Python-based Triton backend that stands in for libtriton_onnxruntime.so.

Put this file at <backend-directory>/onnxruntime/model.py next to
<backend-directory>/python/.  The Triton core then serves ordinary
`backend: "onnxruntime"` models (config.pbtxt + <version>/model.onnx) with it.
CPU only.  It checks the configuration against the ONNX graph as strictly as
the native backend does, so that a config that passes here passes there.
"""

import json
import os

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

if int(np.__version__.split(".")[0]) >= 2:
    # the stub's pybind11 misreads numpy 2 arrays: wrong inputs and empty outputs, without an error
    raise RuntimeError(f"the Triton 2.51 python stub needs numpy<2, this environment has {np.__version__}")

_TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(double)": "TYPE_FP64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(bool)": "TYPE_BOOL",
    "tensor(string)": "TYPE_STRING",
}
_ACCELERATORS = {"gpu_execution_accelerator": {"tensorrt", "cuda"}, "cpu_execution_accelerator": {"openvino"}}


def _model_path(config):
    return os.path.join(pb_utils.get_model_dir(), config.get("default_model_filename") or "model.onnx")


def _session(config):
    params = {k: v.get("string_value", "") for k, v in config.get("parameters", {}).items()}
    opts = ort.SessionOptions()
    opts.intra_op_num_threads = int(params.get("intra_op_thread_count", "0"))
    opts.inter_op_num_threads = int(params.get("inter_op_thread_count", "0"))
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    opts.graph_optimization_level = {
        -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    return ort.InferenceSession(_model_path(config), opts, providers=["CPUExecutionProvider"])


def _shape(value):
    return [d if isinstance(d, int) and d > 0 else -1 for d in value.shape]


def _batchable(session):
    return all(_shape(v)[:1] == [-1] for v in session.get_inputs() + session.get_outputs())


def _check(config, session):
    batch = config["max_batch_size"] > 0
    for what, declared, values in (
        ("input", config["input"], session.get_inputs()),
        ("output", config["output"], session.get_outputs()),
    ):
        by_name = {v.name: v for v in values}
        for item in declared:
            value = by_name.get(item["name"])
            if value is None:
                raise ValueError(
                    f"unexpected inference {what} '{item['name']}', allowed {what}s are: {', '.join(by_name)}"
                )
            if _TYPES[value.type] != item["data_type"]:
                raise ValueError(
                    f"unexpected datatype {item['data_type']} for {what} '{item['name']}', the ONNX graph has {_TYPES[value.type]}"
                )
            dims = [int(d) for d in (item.get("reshape", {}).get("shape") or item["dims"])]
            full = ([-1] if batch else []) + dims
            graph = _shape(value)
            if batch and graph[:1] != [-1]:
                raise ValueError(
                    f"{what} '{item['name']}': first dimension of the ONNX graph is {graph[:1]}, max_batch_size > 0 needs a dynamic one"
                )
            if len(full) != len(graph) or any(g not in (-1, f) for g, f in zip(graph, full)):
                raise ValueError(
                    f"{what} '{item['name']}': the model expects shape {graph} but the configuration specifies {full}"
                )
        if what == "input":
            missing = set(by_name) - {i["name"] for i in declared}
            if missing:
                raise ValueError(f"configuration lacks inputs {sorted(missing)}")
    for kind, known in _ACCELERATORS.items():
        for acc in config.get("optimization", {}).get("execution_accelerators", {}).get(kind, []):
            if acc["name"] not in known:
                raise ValueError(f"unknown execution accelerator '{acc['name']}'")


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(model_config):
        config = model_config.as_dict()
        session = _session(config)
        declared_in = {i["name"] for i in config["input"]}
        declared_out = {o["name"] for o in config["output"]}
        if config["max_batch_size"] == 0 and not declared_in and not declared_out and _batchable(session):
            model_config.set_max_batch_size(4)  # native default-max-batch-size
            if "dynamic_batching" not in config and "sequence_batching" not in config:
                model_config.set_dynamic_batching()
        skip = 1 if model_config.as_dict()["max_batch_size"] > 0 else 0
        for values, declared, add in (
            (session.get_inputs(), declared_in, model_config.add_input),
            (session.get_outputs(), declared_out, model_config.add_output),
        ):
            for v in values:
                if v.name not in declared:
                    add({"name": v.name, "data_type": _TYPES[v.type], "dims": _shape(v)[skip:]})
        return model_config

    def initialize(self, args):
        self.config = json.loads(args["model_config"])
        self.session = _session(self.config)
        _check(self.config, self.session)
        self.inputs = [v.name for v in self.session.get_inputs()]
        self.outputs = [v.name for v in self.session.get_outputs()]
        self.batched = self.config["max_batch_size"] > 0

    def _run(self, feed):
        return dict(zip(self.outputs, self.session.run(self.outputs, feed)))

    def _respond(self, request, arrays):
        wanted = request.requested_output_names()
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(n, np.ascontiguousarray(a)) for n, a in arrays.items() if n in wanted]
        )

    def execute(self, requests):
        feeds = [{n: pb_utils.get_input_tensor_by_name(r, n).as_numpy() for n in self.inputs} for r in requests]
        groups = {}
        for i, feed in enumerate(
            feeds
        ):  # only equal-shaped requests are joined, as the core does by itself for fixed shapes
            key = tuple(a.shape[1:] for a in feed.values()) if self.batched else i
            groups.setdefault(key, []).append(i)
        responses = [None] * len(requests)
        for members in groups.values():
            try:
                if len(members) == 1:
                    responses[members[0]] = self._respond(requests[members[0]], self._run(feeds[members[0]]))
                    continue
                joined = {n: np.concatenate([feeds[i][n] for i in members]) for n in self.inputs}
                cuts = np.cumsum([feeds[i][self.inputs[0]].shape[0] for i in members])[:-1]
                split = {n: np.split(a, cuts) for n, a in self._run(joined).items()}
                for k, i in enumerate(members):
                    responses[i] = self._respond(requests[i], {n: parts[k] for n, parts in split.items()})
            except Exception as exc:
                for i in members:
                    responses[i] = pb_utils.InferenceResponse(error=pb_utils.TritonError(f"onnx runtime error: {exc}"))
        return responses

    def finalize(self):
        self.session = None
