//! The command line: what a user can type, and nothing of what it does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use classifier::Architecture;

/// Diagnose chest X-rays that you never see.
///
/// Trains a VQGAN and a classifier with polynomial activations on chest films, exports the trained network, and
/// evaluates it on CKKS ciphertexts. The client keeps the films and the secret key; the server sees ciphertexts only.
#[derive(Debug, Parser)]
#[command(name = "veilray", version, max_term_width = 110)]
pub struct Cli {
    /// Say only what went wrong: no progress lines, no hints.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Number of threads; all cores unless given.
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The stages, in the order in which a run passes through them, and `demo`, which is all of them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// All of it: films to encrypted diagnosis, with a report at the end.
    Demo(DemoArguments),
    /// Train the VQGAN or the classifier of a configuration.
    Train {
        /// Which network.
        #[command(subcommand)]
        network: TrainCommand,
    },
    /// Train many runs from one configuration: every combination of the values that its fields take.
    Sweep(SweepArguments),
    /// Take the classifier from PyTorch weights instead of training one.
    Import(ImportClassifierArguments),
    /// Encode all films into latents with the trained VQGAN and cache them in the run folder.
    Encode(RunArguments),
    /// Fold, calibrate and pack the trained classifier into an HE-ready model file.
    Export(ExportArguments),
    /// Make a client's keys for an HE-ready model: secret, public and evaluation keys.
    Keygen(KeygenArguments),
    /// Client: encode films with the VQGAN encoder and encrypt their latents.
    Encrypt(EncryptArguments),
    /// Server: classify encrypted latents. Reads evaluation keys only; cannot decrypt.
    Infer(InferArguments),
    /// Client: decrypt results and print the probability of each finding.
    Decrypt(DecryptArguments),
    /// Measure both networks on the test films, in the clear: reconstruction against k-means, AUROC and F1 with
    /// confidence intervals, ranges of the activations.
    Test(RunArguments),
    /// Compare clear and encrypted results over held-out films: logits, AUROC, time.
    Eval(EvalArguments),
    /// Run the packed network in the clear with modelled noise: the precision to expect, without keys.
    Simulate(SimulateArguments),
    /// Measure encrypted inference on this machine, from random weights.
    Bench {
        /// What to measure.
        #[command(subcommand)]
        what: BenchCommand,
    },
    /// Run a study: every cell of a table of the paper from films to ciphertexts, with tables and figures at the end.
    Ablate(AblateArguments),
    /// Put model, encoder and model card of a run into one folder: what a clinic and a service need.
    Package(PackageArguments),
    /// Show a model package, after checking every digest in it.
    Inspect(InspectArguments),
    /// Service: classify ciphertexts of many clients. Executes `veilray-server`, which cannot decrypt.
    #[command(disable_help_flag = true)]
    Serve {
        /// What `veilray-server` is given; `veilray serve --help` shows it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Clinic: enroll at a service, and have films classified there without showing them.
    Client {
        /// What to do.
        #[command(subcommand)]
        action: ClientCommand,
    },
    /// Read a whole data set and say what is in it and what is wrong with it.
    Data {
        /// What to do with the data.
        #[command(subcommand)]
        action: DataCommand,
    },
}

/// Arguments of `eval`.
#[derive(Debug, Args)]
pub struct EvalArguments {
    /// The run.
    #[command(flatten)]
    pub run: RunArguments,
    /// Also run one held-out film, or a batch, on ciphertexts with every layer decrypted, and print its error beside the predicted one.
    /// Needs the secret and the evaluation keys in one place: for the model's author, never for a server.
    #[arg(long)]
    pub compare: bool,
}

/// Arguments of `simulate`.
#[derive(Debug, Args)]
pub struct SimulateArguments {
    /// The run.
    #[command(flatten)]
    pub run: RunArguments,
    /// Held-out films to simulate.
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub films: usize,
}

/// Arguments of `ablate`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct AblateArguments {
    /// What else to do with studies.
    #[command(subcommand)]
    pub action: Option<AblateCommand>,
    /// Study file (TOML); `configs/ablation/` holds those of the paper, each in a quick and a full size.
    #[arg(long, short, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// Films to use instead of the study's: an NIH folder, a `.npz` in the layout of MedMNIST, a folder.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Override one value of every run, for example `--set encrypted.films=4`. Can be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Folder of the study: records, tables, figures, report; `runs/ablation/NAME` unless given.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Folder of finished stages, which studies share; `runs/ablation/cache` unless given.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Run only part i of n, counted from 0, for example `--shard 0/4`.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<crate::ablate::Shard>,
    /// Print what would run, what is done, and what the rest is expected to take; run nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// For the plan: how many times faster this machine trains than the two cores that the estimates come from.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub speed: f64,
}

/// What else can be done with studies.
#[derive(Debug, Subcommand)]
pub enum AblateCommand {
    /// Gather the runs of shards, and write tables, figures and report of all of them.
    Report(AblateReportArguments),
}

/// Arguments of `ablate report`.
#[derive(Debug, Args)]
pub struct AblateReportArguments {
    /// Folders of one study, as `ablate` wrote them.
    #[arg(value_name = "DIR", required = true)]
    pub folders: Vec<PathBuf>,
    /// Folder for the merged study; the first one unless given.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// The networks of the paper on ciphertexts: time, memory, keys, precision, beside their targets.
    He(BenchHeArguments),
    /// One process of a row (started by `bench he`).
    #[command(hide = true)]
    Part(BenchPartArguments),
}

/// Arguments of `bench he`.
#[derive(Debug, Args)]
pub struct BenchHeArguments {
    /// Rows to run, all unless given: resnet20-f8, resnet20-se-f8, lenet-f8, resnet20-f16, resnet20-f4, resnet20-f2; with two films in a
    /// batch resnet20-f8-two, lenet-f8-two, resnet20-f16-two.
    #[arg(long, value_delimiter = ',', value_name = "ROW")]
    pub rows: Vec<String>,
    /// Most memory that the evaluation keys of a row may take, in MiB: 4096 unless given, 12288 with gates.
    #[arg(long, value_name = "MIB")]
    pub max_key_megabytes: Option<usize>,
    /// Also write the results as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of one process of a row.
#[derive(Debug, Args)]
pub struct BenchPartArguments {
    /// `prepare` or `evaluate`.
    pub part: String,
    /// The row's name.
    pub row: String,
    /// Folder of the files that the processes hand each other.
    pub folder: PathBuf,
    /// Most memory that the evaluation keys may take, in MiB.
    #[arg(long)]
    pub max_key_megabytes: usize,
}

/// The two networks that are trained.
#[derive(Debug, Subcommand)]
pub enum TrainCommand {
    /// The VQGAN that compresses films into latents.
    Vqgan(RunArguments),
    /// Take the VQGAN from a PyTorch checkpoint in the layout of taming-transformers instead of training one.
    ImportVqgan(ImportArguments),
    /// The classifier on latents.
    Classifier(RunArguments),
}

/// What can be done with a data set alone.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Report counts, labels, broken files and patients that appear in two splits.
    Check(RunArguments),
}

/// A configuration and what overrides it.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// Configuration file (TOML). `configs/` holds one for each run that a user would start.
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// Override one value, for example `--set classifier.train.epochs=3`. Can be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Run folder; overrides `run.dir` of the configuration.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Arguments of `sweep`.
#[derive(Debug, Args)]
pub struct SweepArguments {
    /// Configuration file (TOML); its table `[sweep]`, if it has one, lists values of fields.
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// One value overrides a field in all runs, several make it vary: `--set run.seed=1,2,3`. Can be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE[,VALUE...]")]
    pub overrides: Vec<String>,
    /// Folder for the folders of the runs; overrides `run.dir` of the configuration.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Train the VQGANs only, and compare them by PSNR.
    #[arg(long, conflicts_with = "test")]
    pub vqgan_only: bool,
    /// Measure the setting that is best on validation films, and no other, on the test films.
    #[arg(long)]
    pub test: bool,
}

/// Arguments of `train import-vqgan`.
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// The run, whose `[vqgan.model]` describes the network of the file.
    #[command(flatten)]
    pub run: RunArguments,
    /// The checkpoint: `.ckpt`, `.pt` or `.safetensors`.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportClassifierArguments {
    /// The run: its VQGAN makes the latents that the classifier was trained on, its data set names the labels.
    #[command(flatten)]
    pub run: RunArguments,
    /// The network: lenet, vggnet, hefnet, resnet20, resnet32, resnet44 or resnet56. Labels, width, and squeeze and excitation
    /// are read from the weights.
    #[arg(long, short, value_name = "NAME", value_parser = architecture)]
    pub architecture: Architecture,
    /// The weights: `.pt`, `.pth` or `.safetensors`.
    #[arg(long, short, value_name = "FILE")]
    pub weights: PathBuf,
    /// TOML file that says how names and shape differ from the published code (docs/importing.md).
    #[arg(long, short, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
}

/// An architecture by the name that configurations use.
fn architecture(name: &str) -> Result<Architecture, String> {
    Architecture::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| {
        let known: Vec<_> = Architecture::ALL.iter().map(|a| a.name()).collect();
        format!("expected one of {}", known.join(", "))
    })
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Films to use instead of the built-in phantom: an NIH folder, a `.npz` in the layout of MedMNIST, a folder.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Configuration file; the built-in demo configuration (configs/demo.toml) unless given.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one value of the configuration. Can be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Run folder; overrides `run.dir` of the configuration.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How many held-out films to classify encrypted; overrides `encrypted.films`.
    #[arg(long, value_name = "N")]
    pub films: Option<usize>,
    /// Begin again: do not reuse what an earlier demo left in the run folder.
    #[arg(long)]
    pub fresh: bool,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The run.
    #[command(flatten)]
    pub run: RunArguments,
    /// Also write the report as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Most memory that the evaluation keys may take, in MiB; overrides the configuration.
    #[arg(long, value_name = "MIB")]
    pub max_key_memory: Option<usize>,
}

/// Where the encrypted side of a run lies. Each path can be given alone; `--config` gives those left out.
#[derive(Debug, Clone, Args)]
pub struct PathArguments {
    /// Configuration whose run folder holds model, keys and ciphertexts.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one value of the configuration. Can be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "config")]
    pub overrides: Vec<String>,
    /// HE-ready model (`export` writes it).
    #[arg(long, short, value_name = "FILE")]
    pub model: Option<PathBuf>,
}

/// Arguments of `keygen`.
#[derive(Debug, Args)]
pub struct KeygenArguments {
    /// The run, or the model.
    #[command(flatten)]
    pub paths: PathArguments,
    /// Folder for the keys; `keys/` of the run folder unless given.
    #[arg(long, short, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// Replace keys that are already there. Results made under them can no longer be decrypted.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `encrypt`.
#[derive(Debug, Args)]
pub struct EncryptArguments {
    /// The run, or the model.
    #[command(flatten)]
    pub paths: PathArguments,
    /// VQGAN checkpoint whose encoder makes the latents; `vqgan/model.safetensors` of the run unless given.
    #[arg(long, value_name = "FILE")]
    pub encoder: Option<PathBuf>,
    /// Folder with the client's keys; only the public key is read. `keys/` of the run unless given.
    #[arg(long, short, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// Folder for the ciphertexts, one file a film, or a batch with the list of its films beside it where a ciphertext holds several;
    /// `encrypted/` of the run unless given.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Films (PNG, JPEG or DICOM); unless given, the run's held-out films, as many as `encrypted.films` says.
    #[arg(value_name = "FILM")]
    pub films: Vec<PathBuf>,
}

/// Arguments of `infer`.
#[derive(Debug, Args)]
pub struct InferArguments {
    /// The run, or the model.
    #[command(flatten)]
    pub paths: PathArguments,
    /// Evaluation keys, which hold nothing secret; `keys/evaluation.keys` of the run unless given.
    #[arg(long, short, value_name = "FILE")]
    pub evaluation_keys: Option<PathBuf>,
    /// Folder for the encrypted results; `results/` of the run unless given.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Encrypted latents; unless given, all of `encrypted/` of the run.
    #[arg(value_name = "CIPHERTEXT")]
    pub inputs: Vec<PathBuf>,
}

/// Arguments of `decrypt`.
#[derive(Debug, Args)]
pub struct DecryptArguments {
    /// The run, or the model.
    #[command(flatten)]
    pub paths: PathArguments,
    /// Folder with the client's keys; the secret key is read. `keys/` of the run unless given.
    #[arg(long, short, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// Folder of the lists that `encrypt` wrote beside its ciphertexts, where a ciphertext holds several films; `encrypted/` of the run
    /// unless given.
    #[arg(long, value_name = "DIR")]
    pub lists: Option<PathBuf>,
    /// Print yes or no at probability 0.5 instead of numbers: the form that is safe to pass on (SECURITY.md).
    #[arg(long)]
    pub labels_only: bool,
    /// Print JSON instead of a table, with probabilities in full.
    #[arg(long)]
    pub json: bool,
    /// Encrypted results; unless given, all of `results/` of the run.
    #[arg(value_name = "RESULT")]
    pub inputs: Vec<PathBuf>,
}

/// Arguments of `package`.
#[derive(Debug, Args)]
pub struct PackageArguments {
    /// The run.
    #[command(flatten)]
    pub run: RunArguments,
    /// Name under which a service offers the model: a-z, 0-9, '-' and '_'.
    #[arg(long, value_name = "NAME")]
    pub name: he_protocol::Name,
    /// Folder of the package; `package/` of the run folder unless given.
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// A line of the model card, for example `--note "intended use=research"`. Can be given several times.
    #[arg(long = "note", value_name = "HEADING=TEXT")]
    pub notes: Vec<String>,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The package.
    #[arg(value_name = "DIR")]
    pub package: PathBuf,
    /// Refuse the package unless it has this digest, which its publisher told you.
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<he_protocol::Digest>,
    /// Print the manifest as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What a clinic does.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Make keys for a model of a service and upload the evaluation keys. Repeat it to continue an upload.
    Enroll(EnrollArguments),
    /// Encode, encrypt and send films; wait; decrypt and print the findings.
    Diagnose(DiagnoseArguments),
}

/// Which service, and who is asking.
#[derive(Debug, Args)]
pub struct ServiceArguments {
    /// File with the token that the service's operator gave you; the variable VEILRAY_TOKEN unless given.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of those of public authorities.
    #[arg(long, value_name = "FILE")]
    pub authorities: Option<PathBuf>,
    /// Folder of this enrolment: keys, and the model's description.
    #[arg(long, short, value_name = "DIR")]
    pub keys: PathBuf,
    /// File with the passphrase of the secret key.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Arguments of `client enroll`.
#[derive(Debug, Args)]
pub struct EnrollArguments {
    /// Address of the service, for example `https://diagnosis.example:8750`.
    #[arg(value_name = "URL")]
    pub url: String,
    /// The model; may be left out if the service has only one.
    #[arg(long, short, value_name = "NAME")]
    pub model: Option<he_protocol::Name>,
    /// The service.
    #[command(flatten)]
    pub service: ServiceArguments,
    /// Put the secret key under a passphrase and ask for it.
    #[arg(long, conflicts_with = "passphrase_file")]
    pub passphrase: bool,
}

/// Arguments of `client diagnose`.
#[derive(Debug, Args)]
pub struct DiagnoseArguments {
    /// The service.
    #[command(flatten)]
    pub service: ServiceArguments,
    /// The encoder's checkpoint; fetched from the service unless given.
    #[arg(long, value_name = "FILE")]
    pub encoder: Option<PathBuf>,
    /// Ciphertexts at once, each with as many films as the model's hold.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub at_once: usize,
    /// Print yes or no at probability 0.5 instead of numbers: the form that is safe to pass on (SECURITY.md).
    #[arg(long)]
    pub labels_only: bool,
    /// Print JSON instead of a table, with probabilities in full.
    #[arg(long)]
    pub json: bool,
    /// Films (PNG, JPEG, DICOM).
    #[arg(value_name = "FILM", required = true)]
    pub films: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
