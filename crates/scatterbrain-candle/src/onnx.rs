//! Weights of an ONNX file, as tensors under the names of the model that was exported.
//!
//! ```text
//! ModelProto   7 graph
//! GraphProto   1 node, repeated · 5 initializer, repeated
//! NodeProto    1 input, repeated · 3 name · 4 op_type
//! TensorProto  1 dims, repeated · 2 data_type · 4 float_data · 7 int64_data · 8 name · 9 raw_data · 14 data_location
//! ```
//!
//! The messages are written out for `prost`, with the fields that are read, so that no `protoc` is needed to build.
//!
//! PyTorch's exporter folds the transposition of linear maps into their weights, which lose their names
//! (`onnx::MatMul_1966`).
//! The node that multiplies by such a weight still tells it: `/encoder/layer.0/fc1/MatMul` is `encoder.layer.0.fc1.weight`.
//!
//! Source: [`onnx.proto`](https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).

use candle_core::{DType, Device, Error, Result, Tensor, bail};
use prost::Message;
use std::collections::HashMap;
use std::path::Path;

/// What names without a meaning start with.
const ANONYMOUS: &str = "onnx::";

/// A weight whose name the exporter dropped, and a node that takes it.
#[derive(Debug, Clone)]
pub struct Anonymous {
    /// Path of the node: `/encoder/layer.0/fc1/MatMul`.
    pub node: String,
    /// The weight as it is stored.
    pub tensor: Tensor,
}

/// The weights of a file.
#[derive(Debug, Clone)]
pub struct Weights {
    /// By published name; linear maps are `[out, in]`, as PyTorch has them.
    pub tensors: HashMap<String, Tensor>,
    /// Those without a name that no linear map tells.
    pub anonymous: Vec<Anonymous>,
}

impl Weights {
    /// Reads a file.
    ///
    /// # Errors
    /// What [`Weights::parse`] tells, with the path; a file that cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Weights> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| Error::msg(format!("{}: {error}", path.display())))?;
        Weights::parse(&bytes).map_err(|error| Error::msg(format!("{}: {error}", path.display())))
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// Bytes that are no model, a tensor kept in another file, of a type that is not read, or of a size that is not its
    /// shape's; the message names the tensor.
    pub fn parse(bytes: &[u8]) -> Result<Weights> {
        let model = ModelProto::decode(bytes).map_err(|error| Error::msg(format!("no ONNX model: {error}")))?;
        let Some(graph) = model.graph else {
            bail!("no ONNX model: there is no graph");
        };
        let users = users_of_anonymous(&graph.node);
        let mut weights = Weights { tensors: HashMap::new(), anonymous: Vec::new() };
        for stored in &graph.initializer {
            let tensor = stored.tensor()?;
            let (name, tensor) = match users.get(stored.name.as_str()) {
                Some(node) if node.op_type == "MatMul" && tensor.rank() == 2 => {
                    (linear_name(&node.name), tensor.t()?.contiguous()?)
                }
                Some(node) => {
                    weights.anonymous.push(Anonymous { node: node.name.clone(), tensor });
                    continue;
                }
                None => (stored.name.clone(), tensor),
            };
            if weights.tensors.insert(name.clone(), tensor).is_some() {
                bail!("tensor {name} comes twice");
            }
        }
        Ok(weights)
    }
}

/// The first node that takes each weight without a name.
fn users_of_anonymous(nodes: &[NodeProto]) -> HashMap<&str, &NodeProto> {
    let mut users = HashMap::new();
    for node in nodes {
        for input in node.input.iter().filter(|input| input.starts_with(ANONYMOUS)) {
            users.entry(input.as_str()).or_insert(node);
        }
    }
    users
}

/// `/encoder/layer.0/fc1/MatMul` as `encoder.layer.0.fc1.weight`.
fn linear_name(node: &str) -> String {
    let path = node.trim_start_matches('/');
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    format!("{}.weight", parent.replace('/', "."))
}

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
    /// 0: in this file.
    #[prost(int32, tag = "14")]
    data_location: i32,
}

impl TensorProto {
    fn tensor(&self) -> Result<Tensor> {
        let name = &self.name;
        if self.data_location != 0 {
            bail!("tensor {name}: expected its data in this file, they are in another");
        }
        let Some(shape) = self.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<usize>>>() else {
            bail!("tensor {name}: expected a shape, got {:?}", self.dims);
        };
        let dtype = match self.data_type {
            1 => DType::F32,
            7 => DType::I64,
            10 => DType::F16,
            11 => DType::F64,
            16 => DType::BF16,
            other => bail!("tensor {name}: expected f32, f64, f16, bf16 or i64, got ONNX's type {other}"),
        };
        let entries = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        let typed = self.float_data.len().max(self.int64_data.len());
        let stored = if typed > 0 { typed } else { self.raw_data.len() / dtype.size_in_bytes() };
        let whole = typed > 0 || self.raw_data.len().is_multiple_of(dtype.size_in_bytes());
        if entries != Some(stored) || !whole {
            bail!("tensor {name}: {} bytes or {typed} entries are not those of shape {shape:?}", self.raw_data.len());
        }
        match dtype {
            DType::F32 if !self.float_data.is_empty() => Tensor::from_slice(&self.float_data, shape, &Device::Cpu),
            DType::I64 if !self.int64_data.is_empty() => Tensor::from_slice(&self.int64_data, shape, &Device::Cpu),
            _ if typed > 0 => bail!("tensor {name}: its entries are of another type than it says"),
            _ => Tensor::from_raw_buffer(&self.raw_data, dtype, &shape, &Device::Cpu),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
        let raw_data = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        TensorProto { dims: dims.to_vec(), data_type: 1, name: name.to_owned(), raw_data, ..Default::default() }
    }

    fn node(name: &str, op_type: &str, input: &str) -> NodeProto {
        NodeProto { input: vec!["x".to_owned(), input.to_owned()], name: name.to_owned(), op_type: op_type.to_owned() }
    }

    fn model(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Vec<u8> {
        ModelProto { graph: Some(GraphProto { node, initializer }) }.encode_to_vec()
    }

    fn small() -> Vec<u8> {
        let typed = TensorProto {
            dims: vec![2],
            data_type: 1,
            float_data: vec![7.0, 8.0],
            name: "typed".to_owned(),
            ..Default::default()
        };
        model(
            vec![node("/a/layer.0/fc1/MatMul", "MatMul", "onnx::MatMul_1"), node("/a/Add", "Add", "onnx::Add_2")],
            vec![
                floats("onnx::MatMul_1", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
                floats("onnx::Add_2", &[1], &[9.0]),
                floats("a.bias", &[], &[0.5]),
                typed,
            ],
        )
    }

    #[test]
    fn names_come_back() -> Result<()> {
        let weights = Weights::parse(&small())?;
        assert_eq!(weights.tensors["a.layer.0.fc1.weight"].to_vec2::<f32>()?, [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
        assert_eq!(weights.tensors["a.bias"].to_scalar::<f32>()?, 0.5);
        assert_eq!(weights.tensors["typed"].to_vec1::<f32>()?, [7.0, 8.0]);
        assert_eq!((weights.tensors.len(), weights.anonymous.len()), (3, 1));
        assert_eq!(weights.anonymous[0].node, "/a/Add");
        Ok(())
    }

    #[test]
    fn cut_or_changed_bytes_do_not_panic() {
        let bytes = small();
        for length in 0..bytes.len() {
            assert!(Weights::parse(&bytes[..length]).is_err(), "cut at {length}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            let _ = Weights::parse(&changed);
        }
    }

    #[test]
    fn errors_name_the_tensor() {
        let expect = |tensor: TensorProto, message: &str| {
            let error = Weights::parse(&model(vec![], vec![tensor])).unwrap_err().to_string();
            assert!(error.contains("tensor w") && error.contains(message), "{error}");
        };
        expect(floats("w", &[3], &[1.0, 2.0]), "8 bytes or 0 entries are not those of shape [3]");
        expect(floats("w", &[-1], &[1.0]), "expected a shape");
        expect(floats("w", &[i64::MAX, i64::MAX], &[1.0]), "are not those of shape");
        expect(TensorProto { data_type: 3, ..floats("w", &[1], &[1.0]) }, "ONNX's type 3");
        expect(TensorProto { data_location: 1, ..floats("w", &[1], &[1.0]) }, "they are in another");
        let twice = model(vec![], vec![floats("w", &[1], &[1.0]), floats("w", &[1], &[1.0])]);
        assert!(Weights::parse(&twice).unwrap_err().to_string().contains("tensor w comes twice"));
    }
}
