//! Host tensors: [`Tensor`] for the reference interpreter (wide elements), [`Blob`] as bytes in an element type.

use crate::dtype::DType;
use crate::expr::{Kind, Scalar};
use half::{bf16, f16};

/// Elements, row-major, in the widest type of their kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Reals.
    Float(Vec<f64>),
    /// Integers.
    Int(Vec<i64>),
    /// Booleans.
    Bool(Vec<bool>),
}

/// A dense tensor of the reference interpreter.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Data,
}

impl Tensor {
    /// Reals; the lengths' product must be the number of elements.
    pub fn floats(shape: &[usize], data: Vec<f64>) -> Tensor {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Tensor { shape: shape.to_vec(), data: Data::Float(data) }
    }

    /// Integers.
    pub fn ints(shape: &[usize], data: Vec<i64>) -> Tensor {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Tensor { shape: shape.to_vec(), data: Data::Int(data) }
    }

    /// Booleans.
    pub fn bools(shape: &[usize], data: Vec<bool>) -> Tensor {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Tensor { shape: shape.to_vec(), data: Data::Bool(data) }
    }

    /// From a function of the flat index.
    pub fn from_fn(kind: Kind, shape: &[usize], mut f: impl FnMut(usize) -> Scalar) -> Tensor {
        let n = shape.iter().product();
        let data = match kind {
            Kind::Float => Data::Float((0..n).map(|k| f(k).as_float()).collect()),
            Kind::Int => Data::Int((0..n).map(|k| f(k).as_int()).collect()),
            Kind::Bool => Data::Bool((0..n).map(|k| f(k).as_bool()).collect()),
        };
        Tensor { shape: shape.to_vec(), data }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::Float(v) => v.len(),
            Data::Int(v) => v.len(),
            Data::Bool(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Kind of the elements.
    pub fn kind(&self) -> Kind {
        match self.data {
            Data::Float(_) => Kind::Float,
            Data::Int(_) => Kind::Int,
            Data::Bool(_) => Kind::Bool,
        }
    }

    /// Element at a flat index.
    pub fn get(&self, k: usize) -> Scalar {
        match &self.data {
            Data::Float(v) => Scalar::Float(v[k]),
            Data::Int(v) => Scalar::Int(v[k]),
            Data::Bool(v) => Scalar::Bool(v[k]),
        }
    }

    /// Element at a flat index as a real.
    pub fn at(&self, k: usize) -> f64 {
        self.get(k).as_float()
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> Vec<usize> {
        strides(&self.shape)
    }

    /// Every element rounded to what `dtype` holds (and of its kind).
    pub fn rounded(self, dtype: DType) -> Tensor {
        match (self.data, dtype) {
            (Data::Float(v), d) if d.is_float() => {
                Tensor { shape: self.shape, data: Data::Float(v.into_iter().map(|x| d.round(x)).collect()) }
            }
            (Data::Int(v), DType::I32) => {
                Tensor { shape: self.shape, data: Data::Int(v.into_iter().map(|n| n as i32 as i64).collect()) }
            }
            (data, _) => Tensor { shape: self.shape, data },
        }
    }

    /// As bytes of `dtype`, rounded.
    pub fn to_blob(&self, dtype: DType) -> Blob {
        let mut bytes = Vec::with_capacity(self.len() * dtype.bytes());
        for k in 0..self.len() {
            let x = self.get(k);
            match dtype {
                DType::F32 => bytes.extend((x.as_float() as f32).to_le_bytes()),
                DType::F64 => bytes.extend(x.as_float().to_le_bytes()),
                DType::F16 => bytes.extend(f16::from_f64(x.as_float()).to_le_bytes()),
                DType::BF16 => bytes.extend(bf16::from_f64(x.as_float()).to_le_bytes()),
                DType::I32 => bytes.extend((x.as_int() as i32).to_le_bytes()),
                DType::I64 => bytes.extend(x.as_int().to_le_bytes()),
                DType::Bool => bytes.push(u8::from(x.as_bool())),
            }
        }
        Blob { dtype, shape: self.shape.clone(), bytes }
    }
}

/// Row-major strides of a shape, in elements.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for k in (1..shape.len()).rev() {
        strides[k - 1] = strides[k] * shape[k];
    }
    strides
}

/// A dense tensor as little-endian bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Blob {
    /// Element type.
    pub dtype: DType,
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Elements, row-major, `dtype.bytes()` each.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// Zeros.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Blob {
        Blob { dtype, shape: shape.to_vec(), bytes: vec![0; shape.iter().product::<usize>() * dtype.bytes()] }
    }

    /// 32-bit reals.
    pub fn from_f32(shape: &[usize], data: &[f32]) -> Blob {
        Blob { dtype: DType::F32, shape: shape.to_vec(), bytes: data.iter().flat_map(|x| x.to_le_bytes()).collect() }
    }

    /// 64-bit integers.
    pub fn from_i64(shape: &[usize], data: &[i64]) -> Blob {
        Blob { dtype: DType::I64, shape: shape.to_vec(), bytes: data.iter().flat_map(|x| x.to_le_bytes()).collect() }
    }

    /// The elements as reals (whatever the type).
    pub fn to_f64(&self) -> Vec<f64> {
        let t = self.to_tensor();
        (0..t.len()).map(|k| t.at(k)).collect()
    }

    /// Widened.
    pub fn to_tensor(&self) -> Tensor {
        fn each<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
            bytes.chunks_exact(N).map(|c| f(c.try_into().expect("chunks of N bytes"))).collect()
        }
        let b = &self.bytes;
        let data = match self.dtype {
            DType::F32 => Data::Float(each(b, |c| f32::from_le_bytes(c) as f64)),
            DType::F64 => Data::Float(each(b, f64::from_le_bytes)),
            DType::F16 => Data::Float(each(b, |c| f16::from_le_bytes(c).to_f64())),
            DType::BF16 => Data::Float(each(b, |c| bf16::from_le_bytes(c).to_f64())),
            DType::I32 => Data::Int(each(b, |c| i32::from_le_bytes(c) as i64)),
            DType::I64 => Data::Int(each(b, i64::from_le_bytes)),
            DType::Bool => Data::Bool(b.iter().map(|&x| x != 0).collect()),
        };
        Tensor { shape: self.shape.clone(), data }
    }
}
