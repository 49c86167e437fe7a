//! The kinds of data sets there are. A new one is a file that implements [`DataSource`], and a line here.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::chexpert::CheXpertConfig;
use crate::cifar::CifarConfig;
use crate::folder::FolderConfig;
use crate::mnist::MnistConfig;
use crate::nih::NihConfig;
use crate::npz::NpzConfig;
use crate::phantom::PhantomConfig;
use crate::source::{DataSource, Loaded};
use crate::{Fit, Result};

macro_rules! sources {
    ($($(#[$doc:meta])* $name:ident($config:ident),)*) => {
        /// Where films come from: exactly one of these tables.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Source {
            $($(#[$doc])* $name($config),)*
        }

        impl Source {
            /// Checks what can be checked without opening a file.
            ///
            /// # Errors
            /// Names the field that cannot work.
            pub(crate) fn check(&self) -> Result<()> {
                match self { $(Source::$name(source) => source.check(),)* }
            }

            /// Reads tables and folders, and array files whole.
            ///
            /// # Errors
            /// Says which file is wrong, what was expected, and what to do.
            pub(crate) fn load(&self, side: usize, fit: Fit) -> Result<Loaded> {
                match self { $(Source::$name(source) => source.load(side, fit),)* }
            }

            /// The first kind that a path is.
            pub(crate) fn at(path: &Path, names: &[String]) -> Option<Self> {
                $(if let Some(source) = $config::detect(path, names) {
                    return Some(Source::$name(source));
                })*
                None
            }
        }

        /// What paths to data sets look like, for messages.
        const LAYOUTS: &[&str] = &[$($config::LAYOUT,)*];
    };
}

// In the order in which a path is tried: a folder with any table of labels comes after those with a table of their own.
sources! {
    /// The built-in generator of synthetic chest films.
    Phantom(PhantomConfig),
    /// NIH ChestX-ray14 in its own directory layout.
    Nih(NihConfig),
    /// CheXpert in its own directory layouts.
    Chexpert(CheXpertConfig),
    /// MNIST as IDX files.
    Mnist(MnistConfig),
    /// CIFAR-10 in its binary version.
    Cifar10(CifarConfig),
    /// A folder of images with a CSV file.
    Folder(FolderConfig),
    /// A MedMNIST array file.
    Npz(NpzConfig),
}

impl Default for Source {
    fn default() -> Self {
        Source::Phantom(PhantomConfig::default())
    }
}

/// What paths to data sets look like, in a sentence's end.
pub(crate) fn known_layouts() -> String {
    let known: Vec<&str> = LAYOUTS.iter().copied().filter(|layout| !layout.is_empty()).collect();
    match known.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{}, or {last}", rest.join(", ")),
        None => String::new(),
    }
}
