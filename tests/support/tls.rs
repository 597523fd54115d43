//! A server that speaks TLS before one that does not, with a certificate of an authority that nobody knows: that of the
//! rig's controller manager, which made it itself. The API server's is another.

use super::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

fn file(ending: &str) -> PathBuf {
    PathBuf::from(env("RIG_DIR")).join("pki/controller-manager").join(format!("kube-controller-manager.{ending}"))
}

/// A file with the authority, which comes last in that of the certificate.
pub fn authority() -> String {
    let chain = std::fs::read_to_string(file("crt")).expect("a certificate");
    let at = chain.rfind("-----BEGIN CERTIFICATE-----").expect("an authority");
    // Its own for each caller: another one may be reading.
    let path = format!("{}/authority-{:x}.pem", env!("CARGO_TARGET_TMPDIR"), super::unique());
    std::fs::write(&path, &chain[at..]).expect("a file");
    path
}

/// Starts it; returns its URL.
pub async fn before(upstream: SocketAddr) -> String {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file("crt")).expect("a certificate").collect();
    let key = PrivateKeyDer::from_pem_file(file("key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain.expect("certificates"), key))
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who does not trust it hangs up.
                let Ok(mut outer) = acceptor.accept(stream).await else { return };
                let Ok(mut inner) = TcpStream::connect(upstream).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    format!("https://{address}")
}
