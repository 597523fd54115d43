//! How AWS is reached: proxies and certificates, as other programs that talk to AWS take them from the environment.

use aws_sdk_iam::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
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
    /// The certificates can't be used.
    #[error("certificates: {0}")]
    Certificates(String),
}

/// The HTTP client for all that goes to AWS: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` count, and besides the
/// system's certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`) those of `AWS_CA_BUNDLE`.
pub fn http_client() -> Result<SharedHttpClient, TransportError> {
    let mut store = TrustStore::empty().with_native_roots(true);
    if let Some(path) = std::env::var_os(BUNDLE).filter(|path| !path.is_empty()).map(PathBuf::from) {
        let bundle = std::fs::read(&path).map_err(|source| TransportError::Bundle { path: path.clone(), source })?;
        if !String::from_utf8_lossy(&bundle).contains("-----BEGIN CERTIFICATE-----") {
            return Err(TransportError::NoCertificate { path });
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
