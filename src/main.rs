//! The `iamrole` binary: parse, hand over, report.

// Here and not in Cargo.toml: the helpers of the tests may.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use clap::Parser;
use iamrole_operator::cli::{Cli, Command, aws_policy, check, crds, run};
use iamrole_operator::telemetry;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(*args).map_err(|error| error.to_string()),
        Command::Crds(args) => crds::run(&args).map_err(|error| error.to_string()),
        Command::AwsPolicy(args) => aws_policy::run(&args).map_err(|error| error.to_string()),
        Command::Check(args) => check::run(&args).map_err(|error| error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::fatal(&error);
            ExitCode::FAILURE
        }
    }
}
