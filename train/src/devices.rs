//! What a run computes on: its devices by name, and the type of its products.

use burn::tensor::{Device, FloatDType};
use kernels::Products;
use serde::{Deserialize, Serialize};

use crate::{Result, TrainError};

/// One device or several, by name: `cuda` is the first of its kind, `cuda:1` the second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the name of a device, or a list of names")]
pub enum DeviceNames {
    /// One.
    One(String),
    /// Several, which share the batches of a step out among themselves; the first one also does what is done once.
    Several(Vec<String>),
}

impl Default for DeviceNames {
    fn default() -> Self {
        Self::One("flex".to_owned())
    }
}

impl DeviceNames {
    /// The names, at least one.
    fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }

    /// The devices.
    ///
    /// # Errors
    ///
    /// None or different kinds are named, this build does not know the kind, or this machine does not have the device.
    pub fn open(&self) -> Result<Vec<Device>> {
        let names = self.names();
        let kinds = names.iter().map(|name| kind_and_index(name).0).collect::<Vec<_>>();
        if names.is_empty() || kinds.iter().any(|kind| *kind != kinds[0]) {
            return Err(TrainError::Value {
                field: "run.device",
                found: format!("{names:?}"),
                expected: "name one device, or several of one kind, such as [\"cuda:0\", \"cuda:1\"]".into(),
            });
        }
        names.iter().map(|name| open(name)).collect()
    }
}

/// The type of the operands of convolutions and of attention's products in training, see [`kernels::precision`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// As everything else.
    #[default]
    F32,
    /// Half the bits, on devices with units for it; weights, gradients of weights and the optimizer stay f32.
    Bf16,
}

impl Precision {
    /// For `skip_serializing_if`: runs from before there was a choice can be continued.
    #[must_use]
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// What [`kernels`] calls it.
    #[must_use]
    pub fn products(self) -> Products {
        match self {
            Self::F32 => Products::F32,
            Self::Bf16 => Products::Bf16,
        }
    }

    /// Checks that a device can do it.
    ///
    /// # Errors
    ///
    /// It cannot.
    pub fn check(self, device: &Device) -> Result<()> {
        if self == Self::Bf16 && !device.supports_dtype(FloatDType::BF16) {
            return Err(TrainError::Value {
                field: "run.precision",
                found: "bf16".into(),
                expected: "the device of run.device does not compute in bf16: leave run.precision out".into(),
            });
        }
        Ok(())
    }
}

/// `cuda:1` as `cuda` and 1; what is no number belongs to the name of the kind, which is then unknown.
fn kind_and_index(name: &str) -> (&str, Option<usize>) {
    match name.split_once(':').map(|(kind, index)| (kind, index.parse())) {
        Some((kind, Ok(index))) => (kind, Some(index)),
        _ => (name, None),
    }
}

#[cfg_attr(
    feature = "ndarray",
    allow(deprecated, reason = "Burn keeps ndarray for now, and so does the feature")
)]
fn open(name: &str) -> Result<Device> {
    let unknown = || TrainError::Device { found: name.to_owned(), known: known() };
    match kind_and_index(name) {
        ("flex", None) => Ok(Device::flex()),
        #[cfg(feature = "ndarray")]
        ("ndarray", None) => Ok(Device::ndarray()),
        #[cfg(any(feature = "cuda", feature = "wgpu", feature = "vulkan"))]
        (kind, index) => gpu::open(name, kind, index).unwrap_or_else(|| Err(unknown())),
        #[cfg(not(any(feature = "cuda", feature = "wgpu", feature = "vulkan")))]
        _ => Err(unknown()),
    }
}

/// The kinds of this build.
fn known() -> String {
    let kinds = [
        (true, "flex"),
        (cfg!(feature = "ndarray"), "ndarray"),
        (cfg!(feature = "wgpu"), "wgpu"),
        (cfg!(feature = "vulkan"), "vulkan"),
        (cfg!(feature = "cuda"), "cuda"),
    ];
    kinds.into_iter().filter(|(present, _)| *present).map(|(_, kind)| kind).collect::<Vec<_>>().join(", ")
}

/// Devices that a machine may have several of, or none.
#[cfg(any(feature = "cuda", feature = "wgpu", feature = "vulkan"))]
mod gpu {
    use burn::tensor::{Device, DeviceType};

    use crate::{Result, TrainError};

    /// `None` if this build does not know the kind.
    pub(super) fn open(name: &str, kind: &str, index: Option<usize>) -> Option<Result<Device>> {
        let devices = Device::enumerate(match kind {
            #[cfg(feature = "cuda")]
            "cuda" => DeviceType::Cuda,
            #[cfg(feature = "wgpu")]
            "wgpu" => DeviceType::Wgpu,
            #[cfg(feature = "vulkan")]
            "vulkan" => DeviceType::Vulkan,
            _ => return None,
        });
        let mut devices = devices.into_vec();
        let index = index.unwrap_or(0);
        Some(if index < devices.len() {
            Ok(devices.swap_remove(index))
        } else {
            Err(TrainError::NoDevice { name: name.to_owned(), kind: kind.to_owned(), found: devices.len() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn several(names: &[&str]) -> DeviceNames {
        DeviceNames::Several(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn devices_are_named_by_kind_and_index() {
        assert_eq!(kind_and_index("cuda"), ("cuda", None));
        assert_eq!(kind_and_index("cuda:3"), ("cuda", Some(3)));
        assert_eq!(kind_and_index("cuda:x"), ("cuda:x", None));
        assert_eq!(DeviceNames::default().open().unwrap(), [Device::flex()]);
        assert_eq!(several(&["flex", "flex"]).open().unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for (names, problem) in [
            (DeviceNames::One("abacus".into()), "run.device is \"abacus\", but this build knows: flex"),
            (DeviceNames::One("flex:1".into()), "run.device is \"flex:1\""),
            (several(&[]), "name one device, or several of one kind"),
            (several(&["flex", "cuda"]), "name one device, or several of one kind"),
        ] {
            let error = names.open().unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn one_name_is_written_as_before_there_could_be_several() {
        let json = |names: &DeviceNames| serde_json::to_string(names).unwrap();
        assert_eq!(json(&DeviceNames::default()), "\"flex\"");
        assert_eq!(json(&several(&["cuda:0", "cuda:1"])), "[\"cuda:0\",\"cuda:1\"]");
        let error = serde_json::from_str::<DeviceNames>("3").unwrap_err().to_string();
        assert!(error.contains("expected the name of a device, or a list of names"), "{error}");
    }
}
