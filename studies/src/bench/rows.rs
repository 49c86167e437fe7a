//! The rows of the benchmark, and what is asked of each.

use he_model::zoo::Architecture;

/// A network at a size, and what is asked of it.
pub struct Row {
    pub name: &'static str,
    pub architecture: Architecture,
    pub se: bool,
    /// Channels and side of the latent.
    pub latent: (usize, usize),
    /// Films in a batch.
    pub films: usize,
    /// Most memory for keys unless the user says otherwise, in MiB.
    pub key_megabytes: usize,
    pub target: Target,
    pub elsewhere: &'static str,
}

/// What a row is asked for.
pub enum Target {
    /// Seconds at most.
    Seconds(f64),
    /// Second film of a batch: this share more than the row of one film, at most.
    Beside { alone: &'static str, share: f64 },
}

impl Target {
    /// The limit in seconds, as far as it is known.
    pub fn seconds(&self, measured: &[(&str, f64)]) -> Option<f64> {
        match self {
            Self::Seconds(seconds) => Some(*seconds),
            Self::Beside { alone, share } => {
                let alone = measured.iter().find(|(name, _)| name == alone)?;
                Some((1.0 + share) * alone.1)
            }
        }
    }

    /// In words, for a time of so many seconds.
    pub fn verdict(&self, seconds: Option<f64>, measured: &[(&str, f64)]) -> String {
        let limit = self.seconds(measured);
        let met = match seconds.zip(limit) {
            Some((seconds, limit)) if seconds <= limit => " met",
            Some(_) => " missed",
            None => "",
        };
        match self {
            Self::Seconds(limit) => format!("{limit:.0} s{met}"),
            Self::Beside { alone, share } => {
                let more = seconds.zip(limit).map_or_else(String::new, |(seconds, limit)| {
                    format!(" ({:+.0} %)", 100.0 * (seconds / limit * (1.0 + share) - 1.0))
                });
                format!("+{:.0} % of {alone}{met}{more}", 100.0 * share)
            }
        }
    }
}

/// What a second film in a batch may cost, as a share of the first.
const SECOND_FILM: f64 = 0.6;

/// The rows: f = 2, 4, 8, 16 of films of 256 pixels. A batch comes after the row of one film.
pub const ROWS: [Row; 9] = [
    Row {
        name: "resnet20-f8",
        architecture: Architecture::ResNet(20),
        se: false,
        latent: (4, 32),
        films: 1,
        key_megabytes: 4096,
        target: Target::Seconds(10.0),
        elsewhere: "76.9 s (Kim et al. 2025)",
    },
    Row {
        name: "resnet20-se-f8",
        architecture: Architecture::ResNet(20),
        se: true,
        latent: (4, 32),
        films: 1,
        key_megabytes: 12288,
        target: Target::Seconds(40.0),
        elsewhere: "92.1 s (Kim et al. 2025)",
    },
    Row {
        name: "lenet-f8",
        architecture: Architecture::LeNet,
        se: false,
        latent: (4, 32),
        films: 1,
        key_megabytes: 4096,
        target: Target::Seconds(5.0),
        elsewhere: "",
    },
    Row {
        name: "resnet20-f16",
        architecture: Architecture::ResNet(20),
        se: false,
        latent: (8, 16),
        films: 1,
        key_megabytes: 4096,
        target: Target::Seconds(5.0),
        elsewhere: "",
    },
    Row {
        name: "resnet20-f4",
        architecture: Architecture::ResNet(20),
        se: false,
        latent: (3, 64),
        films: 1,
        key_megabytes: 4096,
        target: Target::Seconds(40.0),
        elsewhere: "",
    },
    Row {
        name: "resnet20-f2",
        architecture: Architecture::ResNet(20),
        se: false,
        latent: (2, 128),
        films: 1,
        key_megabytes: 4096,
        target: Target::Seconds(160.0),
        elsewhere: "almost 600 s (Kim et al. 2025)",
    },
    Row {
        name: "resnet20-f8-two",
        architecture: Architecture::ResNet(20),
        se: false,
        latent: (4, 32),
        films: 2,
        key_megabytes: 4096,
        target: Target::Beside { alone: "resnet20-f8", share: SECOND_FILM },
        elsewhere: "",
    },
    Row {
        name: "lenet-f8-two",
        architecture: Architecture::LeNet,
        se: false,
        latent: (4, 32),
        films: 2,
        key_megabytes: 4096,
        target: Target::Beside { alone: "lenet-f8", share: SECOND_FILM },
        elsewhere: "",
    },
    Row {
        name: "resnet20-f16-two",
        architecture: Architecture::ResNet(20),
        se: false,
        latent: (8, 16),
        films: 2,
        key_megabytes: 4096,
        target: Target::Beside { alone: "resnet20-f16", share: SECOND_FILM },
        elsewhere: "",
    },
];
