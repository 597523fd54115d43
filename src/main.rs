//! The `iamrole` binary: parse, hand over, report.

use clap::Parser;
use iamrole_operator::cli::{Cli, Command, crds};
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Crds(args) => crds::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("iamrole: {error}");
            ExitCode::FAILURE
        }
    }
}
