//! What the configuration comes to: settings, and what was made of them.

use std::sync::Arc;

use crate::passthrough::Passthrough;
use crate::settings::Settings;
use crate::tls::{Tls, TlsError};

/// A configuration, ready for use. Each core has its own copy.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) tls: Tls,
    /// For accounts that are not listed, where they may log in.
    pub(crate) passthrough: Option<Arc<Passthrough>>,
}

impl Setup {
    /// Reads certificates and makes keys; what is remembered of logins goes on from `before`.
    ///
    /// # Errors
    ///
    /// [`TlsError`]: a file is missing or wrong.
    pub(crate) fn new(settings: Settings, before: Option<&Self>) -> Result<Self, TlsError> {
        let known = before.map(|before| &before.tls);
        let tls = Tls::new(&settings.tls_clients, &settings.tls_servers, known)?;
        let by_host = settings.servers.iter().any(|server| server.proxy_protocol);
        let known = before.and_then(|before| before.passthrough.as_deref());
        let passthrough = settings.passthrough.map(|lifetime| match known {
            Some(known) => known.with(lifetime, by_host),
            None => Passthrough::new(lifetime, by_host),
        });
        Ok(Self { settings, tls, passthrough: passthrough.map(Arc::new) })
    }
}
