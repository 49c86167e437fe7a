//! The subcommands, in the order in which a run passes through them. Each is one file: its arguments, the call of its
//! job, and what is printed; a new one is that file and its name here.

mod ablate;
mod bench;
mod client;
mod data;
mod decrypt;
mod demo;
mod encode;
mod encrypt;
mod eval;
mod export;
mod import;
mod infer;
mod inspect;
mod keygen;
mod package;
mod serve;
mod simulate;
mod sweep;
mod test;
mod train;

use anyhow::Result;
use clap::Subcommand;
use pipeline::Context;

/// Makes the enum of subcommands. What `--help` says of one is the documentation of its `Arguments`.
macro_rules! subcommands {
    ($($name:ident = $module:ident),* $(,)?) => {
        /// What to do.
        #[derive(Debug, Subcommand)]
        pub enum Command {
            $(#[allow(missing_docs, reason = "documented in its file")] $name($module::Arguments)),*
        }

        impl Command {
            /// Does it.
            ///
            /// # Errors
            /// Whatever the subcommand reports.
            pub fn run(&self, context: &Context) -> Result<()> {
                match self {
                    $(Self::$name(arguments) => $module::run(context, arguments)),*
                }
            }
        }
    };
}

subcommands! {
    Demo = demo,
    Train = train,
    Sweep = sweep,
    Import = import,
    Encode = encode,
    Export = export,
    Keygen = keygen,
    Encrypt = encrypt,
    Infer = infer,
    Decrypt = decrypt,
    Test = test,
    Eval = eval,
    Simulate = simulate,
    Bench = bench,
    Ablate = ablate,
    Package = package,
    Inspect = inspect,
    Serve = serve,
    Client = client,
    Data = data,
}
