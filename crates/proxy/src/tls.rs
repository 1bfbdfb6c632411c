//! TLS on both sides.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::settings::{ClientTls, ServerTls, ServerTlsMode};

/// TLS as configured, ready for use.
#[derive(Clone)]
pub(crate) struct Tls {
    /// Towards clients, where it is offered.
    pub(crate) acceptor: Option<TlsAcceptor>,
    /// Clients without it are refused.
    pub(crate) clients_must: bool,
    /// Towards servers, where it is not off.
    pub(crate) connector: Option<TlsConnector>,
    /// Servers without it are not used.
    pub(crate) servers_must: bool,
    /// The certificate that was made for want of one.
    made: Option<Arc<Made>>,
}

/// A certificate of our own making, and its key.
struct Made {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or has no certificate or key in it.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not fit, or are not usable.
    #[error("certificate or key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// The authorities for clients' certificates are not usable.
    #[error("authorities of clients cannot be used: {0}")]
    Authorities(#[from] VerifierBuilderError),
    /// No certificate could be made.
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

impl Tls {
    /// Reads the certificates, or makes one; one that was made `before` is good for as long as the
    /// process lives, since clients may have been told of it.
    pub(crate) fn new(
        clients: &ClientTls,
        servers: &ServerTls,
        before: Option<&Self>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut made = before.and_then(|before| before.made.clone());
        let (acceptor, clients_must) = match clients {
            ClientTls::Off => (None, false),
            ClientTls::On { required, certificate, ca } => {
                let identity = match certificate {
                    Some((chain, key)) => read_identity(chain, key)?,
                    None => {
                        let known = made.take().map_or_else(|| Made::new().map(Arc::new), Ok)?;
                        made.insert(known).identity()
                    }
                };
                let config = server_config(Arc::clone(&provider), identity, ca.as_deref())?;
                (Some(TlsAcceptor::from(Arc::new(config))), *required)
            }
        };
        let connector = match servers.mode {
            ServerTlsMode::Off => None,
            _ => Some(TlsConnector::from(Arc::new(client_config(provider, servers)?))),
        };
        let servers_must = matches!(servers.mode, ServerTlsMode::Required | ServerTlsMode::Verify);
        Ok(Self { acceptor, clients_must, connector, servers_must, made })
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn server_config(
    provider: Arc<CryptoProvider>,
    (chain, key): Identity,
    client_ca: Option<&Path>,
) -> Result<ServerConfig, TlsError> {
    let verifier = match client_ca {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(ca) => {
            let roots = Arc::new(authorities(ca)?);
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?
        }
    };
    Ok(ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?)
}

fn client_config(
    provider: Arc<CryptoProvider>,
    servers: &ServerTls,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = if servers.mode == ServerTlsMode::Verify {
        let roots = servers.ca.as_deref().map(authorities).transpose()?;
        builder.with_root_certificates(roots.unwrap_or_else(RootCertStore::empty))
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    };
    Ok(match &servers.client {
        Some((chain, key)) => {
            let (chain, key) = read_identity(chain, key)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    })
}

fn read_identity(chain: &Path, key: &Path) -> Result<Identity, TlsError> {
    let parsed = PrivateKeyDer::from_pem_file(key)
        .map_err(|source| TlsError::File { path: key.to_owned(), source })?;
    Ok((read_chain(chain)?, parsed))
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// What is wrong with the certificate of the other end, where that ended a handshake.
pub(crate) fn about_certificate(error: &std::io::Error) -> Option<&rustls::Error> {
    let error = error.get_ref()?.downcast_ref()?;
    let is_about = matches!(
        error,
        rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)
    );
    is_about.then_some(error)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    if chain.is_empty() {
        return Err(failed(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(chain)
}

impl Made {
    /// As MySQL and MariaDB do, failsoft offers TLS without being given a certificate: it keeps
    /// those out who only listen.
    fn new() -> Result<Self, TlsError> {
        let names = ["failsoft".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names)?;
        let certificate = made.cert.der().clone();
        Ok(Self { certificate, key: made.signing_key.serialize_der().into() })
    }

    fn identity(&self) -> Identity {
        (vec![self.certificate.clone()], PrivateKeyDer::Pkcs8(self.key.clone_key()))
    }
}

/// Takes any certificate: what `preferred` and `required` mean for MySQL's own clients as well.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_where_none_is_given() {
        let servers = ServerTls { mode: ServerTlsMode::Preferred, ca: None, client: None };
        let clients = ClientTls::On { required: true, certificate: None, ca: None };
        let tls = Tls::new(&clients, &servers, None).unwrap();
        assert!(tls.acceptor.is_some() && tls.clients_must);
        assert!(tls.connector.is_some() && !tls.servers_must);
        let again = Tls::new(&clients, &servers, Some(&tls)).unwrap();
        let made = |tls: &Tls| tls.made.clone().unwrap();
        assert!(Arc::ptr_eq(&made(&tls), &made(&again)), "clients see the same certificate");
    }

    #[test]
    fn a_missing_file_is_named() {
        let certificate = Some(("/nowhere/cert.pem".into(), "/nowhere/key.pem".into()));
        let servers = ServerTls { mode: ServerTlsMode::Off, ca: None, client: None };
        let ca = Some("/nowhere/ca.pem".into());
        for (certificate, missing) in [(certificate, "key"), (None, "ca")] {
            let clients = ClientTls::On { required: false, certificate, ca: ca.clone() };
            let error = Tls::new(&clients, &servers, None).err().unwrap().to_string();
            assert!(error.starts_with(&format!("/nowhere/{missing}.pem: ")), "{error}");
        }
    }
}
