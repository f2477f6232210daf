//! A fixture's GGUF taken apart, changed and put together again.

use bantam_formats::gguf::{GgufWriter, Value};
use bantam_formats::{GgmlType, Gguf};

pub struct Tensor {
    pub name: String,
    pub ty: GgmlType,
    /// GGUF order, columns first.
    pub shape: Vec<u64>,
    pub data: Vec<u8>,
}

pub struct Edit {
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
}

impl Edit {
    pub fn of(name: &str) -> Self {
        let gguf = super::gguf(name);
        let tensors = gguf.tensors().iter().map(|tensor| Tensor {
            name: tensor.name.clone(),
            ty: tensor.ty,
            shape: tensor.shape.clone(),
            data: gguf.tensor_data(tensor).to_vec(),
        });
        let metadata = gguf.metadata().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        Self { metadata, tensors: tensors.collect() }
    }

    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self = self.unset(key);
        self.metadata.push((key.to_owned(), value.into()));
        self
    }

    pub fn unset(mut self, key: &str) -> Self {
        self.metadata.retain(|(k, _)| k != key);
        self
    }

    pub fn remove(mut self, name: &str) -> Self {
        self.tensors.retain(|tensor| tensor.name != name);
        self
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    /// Replaces a tensor, or adds one, with zeros of the given shape.
    pub fn zeros(mut self, name: &str, ty: GgmlType, shape: &[u64]) -> Self {
        self = self.remove(name);
        let rows: u64 = shape[1..].iter().product();
        let n_bytes = ty.row_bytes(shape[0]).unwrap() * rows;
        self.tensors.push(Tensor { name: name.to_owned(), ty, shape: shape.to_vec(), data: vec![0; n_bytes as usize] });
        self
    }

    pub fn build(&self) -> Gguf {
        let mut writer = GgufWriter::new();
        for (key, value) in &self.metadata {
            writer.set(key, value.clone());
        }
        for tensor in &self.tensors {
            writer.tensor(&tensor.name, tensor.ty, &tensor.shape, tensor.data.clone());
        }
        Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap()
    }
}
