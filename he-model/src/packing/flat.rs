//! A packing as model files have it: all options of all kinds side by side, and a flag for each kind.

use serde::{Deserialize, Serialize};

use crate::packing::{Dense, Frame, Guarded, Packing, RowCopies};

/// The fields of a file. What a kind does not have must be left at its default.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flat {
    slots: usize,
    lanes: usize,
    guard: usize,
    precise: bool,
    weight_bits: u32,
    key_weight: u32,
    #[serde(default)]
    row_copies: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    dense: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    row_phases: bool,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    films: usize,
    #[serde(default)]
    wide_stages: usize,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_one(n: &usize) -> bool {
    *n == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(b: &bool) -> bool {
    !b
}

impl TryFrom<Flat> for Packing {
    type Error = String;

    fn try_from(f: Flat) -> Result<Self, String> {
        let Flat {
            slots,
            lanes,
            guard,
            precise,
            weight_bits,
            key_weight,
            films,
            wide_stages,
            row_phases,
            ..
        } = f;
        let frame = Frame { slots, lanes, films, weight_bits, key_weight };
        let means_nothing =
            |what: &str| Err(format!("a packing with {what} means nothing: export the model again"));
        match (f.row_copies, f.dense) {
            (true, true) => means_nothing("row copies that is dense"),
            (true, false) if precise => means_nothing("row copies and a prime for each mask"),
            (false, true) if guard > 0 => means_nothing("guard columns that is dense"),
            (_, false) if row_phases => means_nothing("channels in free rows that is not dense"),
            (false, _) if wide_stages > 0 => means_nothing("wide stages without row copies"),
            (true, false) => Ok(Packing::RowCopies(RowCopies { frame, guard, wide_stages })),
            (false, true) => Ok(Packing::Dense(Dense { frame, precise, row_phases })),
            (false, false) => Ok(Packing::Guarded(Guarded { frame, guard, precise })),
        }
    }
}

impl From<Packing> for Flat {
    fn from(packing: Packing) -> Self {
        let Frame { slots, lanes, films, weight_bits, key_weight } = *packing.frame();
        let flat = Flat {
            slots,
            lanes,
            guard: 0,
            precise: packing.is_precise(),
            weight_bits,
            key_weight,
            row_copies: false,
            dense: false,
            row_phases: false,
            films,
            wide_stages: 0,
        };
        match packing {
            Packing::Guarded(Guarded { guard, .. }) => Flat { guard, ..flat },
            Packing::RowCopies(RowCopies { guard, wide_stages, .. }) => {
                Flat { guard, wide_stages, row_copies: true, ..flat }
            }
            Packing::Dense(Dense { row_phases, .. }) => Flat { dense: true, row_phases, ..flat },
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::packing::Packing;

    /// As files of before have them: what is read is written again to the letter, and combinations that mean nothing are refused.
    #[test]
    fn files_keep_their_letters() {
        let guarded = r#"{"slots":4096,"lanes":4,"guard":2,"precise":true,"weight_bits":15,"key_weight":0,"row_copies":false,"wide_stages":0}"#;
        let copies = r#"{"slots":32768,"lanes":16,"guard":32,"precise":false,"weight_bits":14,"key_weight":2,"row_copies":true,"films":2,"wide_stages":1}"#;
        let dense = r#"{"slots":32768,"lanes":2,"guard":0,"precise":false,"weight_bits":16,"key_weight":1,"row_copies":false,"dense":true,"row_phases":true,"wide_stages":0}"#;
        for text in [guarded, copies, dense] {
            let packing: Packing = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&packing).unwrap(), text);
        }
        for (from, to) in [
            (copies, [r#""precise":false"#, r#""precise":true"#]),
            (guarded, [r#""wide_stages":0"#, r#""wide_stages":1"#]),
            (guarded, [r#""lanes":4"#, r#""lanes":4,"row_phases":true"#]),
            (dense, [r#""guard":0"#, r#""guard":3"#]),
            (dense, [r#""row_copies":false"#, r#""row_copies":true"#]),
        ] {
            let altered = from.replace(to[0], to[1]);
            assert!(altered != from);
            let refused = serde_json::from_str::<Packing>(&altered).unwrap_err().to_string();
            assert!(refused.contains("export the model again"), "{refused}");
        }
    }
}
