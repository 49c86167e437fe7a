//! What the passes share: who reads a node, taking a node out, dropping what nobody reads.

use he_model::{GraphLiteral, NodeId};

/// Numbers of the nodes that read node `of`.
pub(super) fn readers(g: &GraphLiteral, of: usize) -> Vec<usize> {
    (0..g.nodes.len()).filter(|i| g.nodes[*i].inputs.contains(&NodeId(of))).collect()
}

/// True if `reader` alone reads `of`, and `of` is not the result.
pub(super) fn is_only_reader(g: &GraphLiteral, of: usize, reader: usize) -> bool {
    g.output != NodeId(of) && readers(g, of) == [reader]
}

/// Lets everyone who reads `node` read its first operand instead.
pub(super) fn bypass(g: &mut GraphLiteral, node: usize) {
    let source = g.nodes[node].inputs[0];
    for reader in &mut g.nodes {
        for input in reader.inputs.iter_mut().filter(|i| i.0 == node) {
            *input = source;
        }
    }
    if g.output.0 == node {
        g.output = source;
    }
}

/// The graph without the nodes that its result does not depend on; the input stays.
pub(super) fn without_unread(g: GraphLiteral) -> GraphLiteral {
    let mut wanted = vec![false; g.nodes.len()];
    wanted[0] = true;
    wanted[g.output.0] = true;
    for i in (0..g.nodes.len()).rev() {
        if wanted[i] {
            g.nodes[i].inputs.iter().for_each(|input| wanted[input.0] = true);
        }
    }
    let mut number = vec![NodeId(0); g.nodes.len()];
    let mut nodes = vec![];
    for (i, mut node) in g.nodes.into_iter().enumerate().filter(|(i, _)| wanted[*i]) {
        number[i] = NodeId(nodes.len());
        node.inputs.iter_mut().for_each(|input| *input = number[input.0]);
        nodes.push(node);
    }
    GraphLiteral { nodes, output: number[g.output.0] }
}
