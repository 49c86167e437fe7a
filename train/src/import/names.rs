//! The names that the code published with the paper gives to modules, from the names of this workspace.
//!
//! | here | LeNet, VGGNet, HefNet | ResNets |
//! |---|---|---|
//! | `features.I.conv`, `stem.conv` | `conv{I+1}` | `conv1` |
//! | `features.I.bn`, `stem.bn` | `bn{I+1}` | `bn1` |
//! | `features.I.act`, `stem.act` | `relu{I+1}` | `relu` |
//! | `layerS.N.act1`, `layerS.N.act2` | | `layerS.N.relu` |
//! | `layerS.N.shortcut.conv`, `.bn` | | `layerS.N.shortcut.0`, `.1` |
//! | `*.se.squeeze`, `.act`, `.excite`, `.gate` | `attn.linear1`, `.lelu`, `.linear2`, `.sigmoid` | `layerS.N.attn.*` |
//! | `hidden.linear`, `hidden.act` | `linear1`, `relu4` (LeNet) | |
//! | `head` | `linear2` (LeNet), `linear1` | `linear` |

use networks::Architecture;

/// The published name of a module of ours.
pub fn published(architecture: Architecture, module: &str) -> String {
    match (module, architecture) {
        ("hidden.linear", _) => return "linear1".into(),
        ("hidden.act", _) => return "relu4".into(),
        ("head", Architecture::LeNet) => return "linear2".into(),
        ("head", Architecture::VggNet | Architecture::HefNet) => return "linear1".into(),
        ("head", _) => return "linear".into(),
        _ => {}
    }
    if let Some((block, part)) = module.split_once(".se.") {
        let part = match part {
            "squeeze" => "linear1",
            "act" => "lelu",
            "excite" => "linear2",
            _ => "sigmoid",
        };
        return if block.starts_with("layer") {
            format!("{block}.attn.{part}")
        } else {
            format!("attn.{part}")
        };
    }
    let (owner, part) = module.rsplit_once('.').unwrap_or(("", module));
    if let Some(index) = owner.strip_prefix("features.").and_then(|i| i.parse::<usize>().ok()) {
        return format!("{}{}", if part == "act" { "relu" } else { part }, index + 1);
    }
    if owner == "stem" {
        return if part == "act" { "relu".into() } else { format!("{part}1") };
    }
    if let Some(block) = owner.strip_suffix(".shortcut") {
        return format!("{block}.shortcut.{}", if part == "conv" { 0 } else { 1 });
    }
    if part.starts_with("act") { format!("{owner}.relu") } else { module.to_owned() }
}

/// What the published code calls the coefficients of so many ascending powers: `alpha x^2 + beta x + c`, or a gate's
/// `alpha x^3 + beta x + c`; empty where it has none.
pub fn parts(terms: usize) -> &'static [&'static str] {
    if terms == 4 { &["c", "beta", "", "alpha"] } else { &["c", "beta", "alpha"] }
}

/// The architecture that the names of a file suggest, if they are those of the published code.
pub fn guess<'a>(names: impl Iterator<Item = &'a str>) -> Option<Architecture> {
    let (mut blocks, mut stem, mut bn4, mut conv4, mut linear2) = (0, false, false, false, false);
    for name in names {
        match name {
            "conv1.weight" => stem = true,
            "conv4.weight" => conv4 = true,
            "bn4.weight" => bn4 = true,
            "linear2.weight" => linear2 = true,
            _ => {
                let block = name.strip_prefix("layer1.").and_then(|rest| rest.strip_suffix(".conv1.weight"));
                blocks = blocks
                    .max(block.and_then(|n| n.parse::<usize>().ok()).map_or(0, |n| n.saturating_add(1)));
            }
        }
    }
    let resnet = Architecture::ALL.into_iter().find(|a| blocks > 0 && a.blocks() == Some(blocks));
    match (resnet, stem, conv4) {
        (Some(resnet), true, _) => Some(resnet),
        (None, true, true) if blocks == 0 => {
            Some(if bn4 { Architecture::HefNet } else { Architecture::VggNet })
        }
        (None, true, false) if blocks == 0 && linear2 => Some(Architecture::LeNet),
        _ => None,
    }
}
