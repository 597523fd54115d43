//! `iamrole crds`: prints both CRDs, or writes them as files.

use crate::api::crd::{self, RenderError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Arguments of `iamrole crds`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Write one file per CRD into this folder (may be given more than once) instead of printing them.
    #[arg(long, value_name = "FOLDER")]
    pub out: Vec<PathBuf>,
}

/// The CRDs could not be rendered or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Rendering failed.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// Writing failed.
    #[error("writing {path}: {source}; check that the folder exists and may be written")]
    Write {
        /// The file or stream.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Prints or writes the CRDs.
pub fn run(args: &Args) -> Result<(), Error> {
    let manifests = crd::manifests()?;
    for folder in &args.out {
        for manifest in &manifests {
            write_file(&folder.join(&manifest.file_name), &manifest.to_yaml()?)?;
        }
    }
    if args.out.is_empty() {
        let mut text = String::new();
        for manifest in &manifests {
            text.push_str("---\n");
            text.push_str(&manifest.to_yaml()?);
        }
        std::io::stdout()
            .write_all(text.as_bytes())
            .map_err(|source| Error::Write { path: "standard output".to_owned(), source })?;
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|source| Error::Write { path: path.display().to_string(), source })
}
