//! The range of every node's values over a set of inputs: what calibration measures and files carry.

use serde::{Deserialize, Serialize};

use crate::{Graph, GraphError};

/// Smallest and largest value seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Range {
    /// The range of no value: every value widens it.
    pub const EMPTY: Self = Self { min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// Largest magnitude; zero for the empty range.
    #[must_use]
    pub fn magnitude(&self) -> f64 {
        if self.min > self.max { 0.0 } else { self.min.abs().max(self.max.abs()) }
    }

    /// Widens the range to hold every value of `values`.
    pub fn extend(&mut self, values: &[f64]) {
        for v in values {
            self.min = self.min.min(*v);
            self.max = self.max.max(*v);
        }
    }
}

/// One range a node, in the order of the graph's nodes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ranges {
    /// Name of each node with its range.
    pub nodes: Vec<(String, Range)>,
    /// Number of inputs seen.
    pub inputs: usize,
}

impl Ranges {
    /// No input seen yet.
    #[must_use]
    pub fn new(graph: &Graph) -> Self {
        let nodes = graph.nodes().iter().map(|n| (n.name().to_owned(), Range::EMPTY)).collect();
        Self { nodes, inputs: 0 }
    }

    /// Runs the graph on one input, widens every range, and returns the result.
    ///
    /// # Errors
    /// An input of the wrong length.
    pub fn observe(&mut self, graph: &Graph, input: &[f64]) -> Result<Vec<f64>, GraphError> {
        let mut values = graph.run_all(input)?;
        for ((_, range), v) in self.nodes.iter_mut().zip(&values) {
            range.extend(v);
        }
        self.inputs += 1;
        Ok(values.swap_remove(graph.output().0))
    }

    /// The range of one node.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Range> {
        self.nodes.iter().find(|(n, _)| n == name).map(|(_, r)| *r)
    }
}
