//! How AWS is reached: proxies and certificates, as other programs that talk to AWS take them from the environment.

use aws_sdk_iam::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use std::path::PathBuf;

/// A bundle of certificates that AWS's own programs read, too.
const BUNDLE: &str = "AWS_CA_BUNDLE";

/// AWS can't be reached as the environment asks for.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The bundle of certificates can't be read.
    #[error("AWS_CA_BUNDLE: reading {path}: {source}; name a file with certificates in PEM form")]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// What is in the bundle is no certificate.
    #[error("AWS_CA_BUNDLE: {path} holds no certificate in PEM form")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A certificate of the bundle is none, or can't be trusted.
    #[error(
        "AWS_CA_BUNDLE: certificate {number} of {path}: {why}; replace it in the file, or take it out of there if AWS and \
         the proxy before it do not need it"
    )]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// Which of its certificates, counted from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The certificates can't be used.
    #[error("certificates: {0}")]
    Certificates(String),
}

/// How many certificates the bundle holds, or which is the first that can't be used, and why. The SDK reads it in this way,
/// but only when the first client is made, and panics at what it can't use.
fn count(bundle: &[u8]) -> Result<usize, (usize, String)> {
    let mut roots = RootCertStore::empty();
    for (i, read) in CertificateDer::pem_slice_iter(bundle).enumerate() {
        let added = read.map_err(|error| why(&error)).and_then(|certificate| {
            roots.add(certificate).map_err(|error| format!("it can't be used as an authority ({error})"))
        });
        added.map_err(|why| (i + 1, why))?;
    }
    Ok(roots.len())
}

fn why(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "it is cut off: there is no line -----END CERTIFICATE-----".to_owned(),
        pem::Error::IllegalSectionStart { .. } => {
            "a line that begins with -----BEGIN does not end with -----".to_owned()
        }
        pem::Error::Base64Decode(_) => "its text is not base64".to_owned(),
        other => other.to_string(),
    }
}

/// The HTTP client for all that goes to AWS: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` count, and besides the
/// system's certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`) those of `AWS_CA_BUNDLE`.
pub fn http_client() -> Result<SharedHttpClient, TransportError> {
    let mut store = TrustStore::empty().with_native_roots(true);
    if let Some(path) = std::env::var_os(BUNDLE).filter(|path| !path.is_empty()).map(PathBuf::from) {
        let bundle = std::fs::read(&path).map_err(|source| TransportError::Bundle { path: path.clone(), source })?;
        match count(&bundle) {
            Ok(0) => return Err(TransportError::NoCertificate { path }),
            Ok(_) => {}
            Err((number, why)) => return Err(TransportError::BadCertificate { path, number, why }),
        }
        store = store.with_pem_certificate(bundle);
    }
    let context = TlsContext::builder().with_trust_store(store).build();
    let context = context.map_err(|error| TransportError::Certificates(error.to_string()))?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        let tls = Provider::Rustls(CryptoMode::Ring);
        connector.tls_provider(tls).tls_context(context.clone()).build()
    }))
}

#[cfg(test)]
mod tests {
    use super::count;

    /// An authority of nobody, made for these tests.
    const GOOD: &str = "-----BEGIN CERTIFICATE-----
MIIBbjCCARWgAwIBAgIUCeiY/M7UfA+5hnwhFh6w2Nqf7yMwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYTAgFw0yNjExMjYxNzM2
NTZaGA8yMTI2MTEwMjE3MzY1NlowDDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCHJrlPnxOiOOmnsjWBw
KkwkLf+6W6P0yjQUkD3S/DjRg3bDZeppwNkATOolgateup/yjU+KT5B+BakI1Opqn1SjUzBRMB0GA1UdDgQWBBRDCcW1Z3EBi+bM
odAP35rNAzTkVTAfBgNVHSMEGDAWgBRDCcW1Z3EBi+bModAP35rNAzTkVTAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cA
MEQCIBzacB+Vak+io5wXl0JoIx4OTF2Q1w5EHKZiEXECLhi5AiAQV0COvECXB+nJCn2rdm2j8x3A4FIQEWiZn+2TgbuQsw==
-----END CERTIFICATE-----
";

    /// As of version 2 of the standard, which nobody reads any more.
    fn odd() -> String {
        GOOD.replace("AwIBAgIU", "AwIBAQIU")
    }

    #[test]
    fn a_bundle_may_hold_more_than_certificates() {
        let crl = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
        for (bundle, number) in [
            (String::new(), 0),
            ("no certificate at all\n".to_owned(), 0),
            (GOOD.to_owned(), 1),
            (GOOD.replace('\n', "\r\n"), 1),
            (format!("# Corporate root\n{GOOD}\nsubject=CN = a\n{crl}{GOOD}"), 2),
        ] {
            assert_eq!(count(bundle.as_bytes()), Ok(number), "{bundle}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_by_its_place() {
        let garbage = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        for (bad, part) in [
            (GOOD[..300].to_owned(), "cut off"),
            (GOOD[..GOOD.len() - 10].to_owned(), "cut off"),
            (GOOD[..20].to_owned(), "-----BEGIN"),
            (GOOD.replace("MIIB", "M!IB"), "base64"),
            (odd(), "authority"),
            (garbage.to_owned(), "authority"),
        ] {
            for before in 0..3 {
                let bundle = [GOOD.repeat(before), bad.clone()].concat();
                let (number, why) = count(bundle.as_bytes()).unwrap_err();
                assert_eq!(number, before + 1, "{bundle}");
                assert!(why.contains(part), "{why}");
            }
        }
    }
}
