//! Where an external issuer's keys come from: fetched over HTTP, read from a file, or written in the configuration.
//!
//! Everything here comes from the configuration. A token cannot change it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use url::Url;
use zeroize::Zeroizing;

use super::fetch::{ClearText, MAX_BYTES, without_bom};
use super::fetch_access::FetchAccess;
use crate::file_watch::read_regular;
use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::{KeySet, KeySetFault, Skipped};

/// The source of an external issuer's keys.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    Fetched(Box<FetchedKeys>),
    Local(LocalKeys),
    /// There are none: the issuer is asked about each token.
    Introspected(Box<IntrospectionEndpoint>),
}

/// Keys that are fetched, cached, and refused when they become too old.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FetchedKeys {
    pub(crate) place: KeySetPlace,
    /// `None`: the system's roots.
    pub(crate) ca: Option<IssuerCa>,
    /// How long the last known good set may be used after its time to live.
    pub(crate) max_stale: Duration,
    pub(crate) clear_text: ClearText,
    pub(crate) access: FetchAccess,
}

/// The introspection endpoint of an issuer (RFC 7662), as configured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IntrospectionEndpoint {
    pub(crate) url: Url,
    pub(crate) client: EndpointCredentials,
    /// How long an answer counts.
    pub(crate) cache: Duration,
    /// `None`: the system's roots.
    pub(crate) ca: Option<IssuerCa>,
    pub(crate) clear_text: ClearText,
    pub(crate) access: FetchAccess,
}

/// The gateway's own client at an introspection endpoint, as the value of `Authorization`. It is never printed.
#[derive(Clone, PartialEq)]
pub(crate) struct EndpointCredentials(HeaderValue);

/// The URL of a JWK Set that is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeySetPlace {
    /// The issuer's metadata has its URL.
    Discovered,
    /// As configured.
    Uri(Url),
}

/// Keys that are never fetched. They do not become stale: they count until the configuration or the file changes.
#[derive(Clone, Debug)]
pub(crate) struct LocalKeys {
    /// The file that has the keys and is watched. `None`: they are written in the configuration.
    pub(crate) file: Option<PathBuf>,
    pub(crate) keys: Arc<KeySet>,
    /// Unusable keys beside them.
    pub(crate) left_aside: Vec<Skipped>,
}

/// The certificates that verify an issuer's server. Their content can be replaced while the gateway runs; copies share
/// it.
#[derive(Clone, Debug)]
pub(crate) struct IssuerCa {
    path: PathBuf,
    pem: Arc<ArcSwap<Vec<u8>>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFileError {
    #[error("cannot read `{path}`")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` has more than {MAX_BYTES} bytes")]
    TooLarge { path: PathBuf },
    #[error("the JWK Set in `{path}` is not usable")]
    Keys {
        path: PathBuf,
        left_aside: Vec<Skipped>,
        #[source]
        source: KeySetFault,
    },
}

impl KeySource {
    /// `None` if the keys are not fetched.
    pub(crate) fn fetched(&self) -> Option<&FetchedKeys> {
        match self {
            Self::Fetched(fetched) => Some(fetched),
            Self::Local(_) | Self::Introspected(_) => None,
        }
    }

    /// `None` if the tokens are not introspected.
    pub(crate) fn introspected(&self) -> Option<&IntrospectionEndpoint> {
        match self {
            Self::Introspected(endpoint) => Some(endpoint),
            Self::Fetched(_) | Self::Local(_) => None,
        }
    }

    /// The certificates that verify the issuer's server. `None`: the system's roots, or nothing is requested.
    pub(crate) fn ca(&self) -> Option<&IssuerCa> {
        match self {
            Self::Fetched(fetched) => fetched.ca.as_ref(),
            Self::Introspected(endpoint) => endpoint.ca.as_ref(),
            Self::Local(_) => None,
        }
    }
}

impl EndpointCredentials {
    /// HTTP Basic, with both parts encoded as in a form (RFC 6749 §2.3.1).
    pub(crate) fn basic(client: &str, secret: &str) -> Option<Self> {
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = Zeroizing::new(format!("{}:{}", encoded(client), encoded(secret)));
        let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair.as_bytes()))).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    pub(super) fn value(&self) -> &HeaderValue {
        &self.0
    }
}

impl std::fmt::Debug for EndpointCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EndpointCredentials(..)")
    }
}

impl FetchedKeys {
    /// Whether both are fetched from the same place, and verified by the same file of certificates. Credentials and
    /// the way there may differ.
    pub(crate) fn have_same_place(&self, other: &Self) -> bool {
        let verified_by = |keys: &Self| keys.ca.as_ref().map(|ca| ca.path().to_owned());
        self.place == other.place && self.clear_text == other.clear_text && verified_by(self) == verified_by(other)
    }
}

impl KeySetPlace {
    /// `None` if the place is discovered.
    pub(crate) fn uri(&self) -> Option<&Url> {
        match self {
            Self::Discovered => None,
            Self::Uri(uri) => Some(uri),
        }
    }
}

impl LocalKeys {
    /// The keys of a file. Blocks.
    pub(crate) fn read(path: PathBuf, algorithms: &[Algorithm]) -> Result<Self, KeyFileError> {
        let document = Self::document(&path)?;
        Self::parse(path, &document, algorithms)
    }

    /// No keys, of a file that could not be used when the configuration was read.
    pub(crate) fn unread(path: PathBuf) -> Self {
        Self { file: Some(path), keys: Arc::default(), left_aside: Vec::new() }
    }

    /// The content of a file. Blocks.
    pub(crate) fn document(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
        let document = read_regular(path).map_err(|source| KeyFileError::Io { path: path.to_owned(), source })?;
        if document.len() > MAX_BYTES {
            return Err(KeyFileError::TooLarge { path: path.to_owned() });
        }
        Ok(document)
    }

    /// The keys of a file with this content.
    pub(crate) fn parse(path: PathBuf, document: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeyFileError> {
        let mut left_aside = Vec::new();
        match KeySet::parse(without_bom(document), algorithms, &mut left_aside) {
            Ok(keys) => Ok(Self { file: Some(path), keys: Arc::new(keys), left_aside }),
            Err(source) => Err(KeyFileError::Keys { path, left_aside, source }),
        }
    }
}

/// By the path and the present content.
impl PartialEq for IssuerCa {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.pem.load().as_slice() == other.pem.load().as_slice()
    }
}

impl IssuerCa {
    pub(crate) fn new(path: PathBuf, pem: Vec<u8>) -> Self {
        Self { path, pem: Arc::new(ArcSwap::from_pointee(pem)) }
    }

    /// Whether both share their content.
    pub(crate) fn is_copy_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pem, &other.pem)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn pem(&self) -> Arc<Vec<u8>> {
        self.pem.load_full()
    }

    pub(crate) fn replace(&self, pem: Vec<u8>) {
        self.pem.store(Arc::new(pem));
    }
}
