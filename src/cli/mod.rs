//! The command line: one file per subcommand.

pub mod aws_policy;
pub mod check;
pub mod crds;
pub mod run;

use clap::{Parser, Subcommand};

/// AWS IAM roles from Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "iamrole", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator.
    Run(Box<run::Args>),
    /// Print the CustomResourceDefinitions, or write them into folders.
    Crds(crds::Args),
    /// Print the least IAM policy for the operator's own AWS identity.
    AwsPolicy(Box<aws_policy::Args>),
    /// Check that an installation works: the operator, its AWS identity, its classes.
    Check(check::Args),
}
