//! One norm over all gradients of a module, and the first parameter where there is none.

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::Tensor,
};

/// A gradient that is not finite.
#[derive(Clone, Debug, PartialEq)]
pub struct NotFinite {
    /// Norm of all gradients together.
    pub norm: f64,
    /// The first parameter whose gradient is not finite.
    pub parameter: String,
}

/// Euclidean norm over all gradients.
pub(super) fn gradient_norm<M: Module>(module: &M, gradients: &GradientsParams) -> Result<f64, NotFinite> {
    let mut visitor = Norm { gradients, path: Vec::new(), squares: Vec::new() };
    module.visit(&mut visitor);
    let Norm { squares, .. } = visitor;
    if squares.is_empty() {
        return Ok(0.0);
    }
    let (names, sums): (Vec<_>, Vec<_>) = squares.into_iter().unzip();
    let sums = Tensor::cat(sums, 0).into_data().iter::<f32>().map(f64::from).collect::<Vec<_>>();
    let norm = sums.iter().sum::<f64>().sqrt();
    match sums.iter().position(|sum| !sum.is_finite()) {
        Some(i) => Err(NotFinite { norm, parameter: names.get(i).cloned().unwrap_or_default() }),
        None => Ok(norm),
    }
}

struct Norm<'a> {
    gradients: &'a GradientsParams,
    path: Vec<String>,
    squares: Vec<(String, Tensor<1>)>,
}

impl ModuleVisitor for Norm<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.squares.push((self.path.join("."), gradient.inner().square().sum()));
        }
    }
}
