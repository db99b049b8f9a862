//! The credentials and the proxy of requests for an issuer's documents: a bearer token from a file, and header fields.
//!
//! Takes the configuration; gives the header fields of a request to a URL. Token and fields are credentials for one
//! origin, that of the configured issuer or `jwks_uri`. Requests to any other origin, such as that of a `jwks_uri` in the
//! metadata, have neither, and no proxy sees them. Nothing here has a text form: neither logs nor errors can show a
//! value.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use url::{Origin, Url};
use zeroize::Zeroizing;

use crate::file_watch::read_regular;

/// As configured, for one issuer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FetchAccess {
    /// Read at each fetch: Kubernetes rotates it.
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) headers: SecretHeaders,
    pub(crate) proxy: Option<ProxyUrl>,
    /// True if a variable or file of these secrets is missing. Only a command that does not need secrets gets such a
    /// value, and it must not fetch without them.
    pub(crate) is_incomplete: bool,
}

/// Header fields whose values are never printed.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct SecretHeaders(HeaderMap);

/// The URL of a proxy, which may have credentials. It is never printed.
#[derive(Clone, PartialEq)]
pub(crate) struct ProxyUrl(Url);

/// The credentials for the documents of one origin.
#[derive(Debug)]
pub(super) struct Credentials {
    token_file: Option<PathBuf>,
    headers: SecretHeaders,
    /// `None` if no request may have them, because the issuer is not a URL.
    origin: Option<Origin>,
    /// One reading at a time: a file system that does not answer holds one thread at most.
    reading: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenFileError {
    #[error("cannot read `{path}`")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read `{path}` in time")]
    Slow { path: PathBuf },
    #[error("`{path}` has more than {MAX_TOKEN_BYTES} bytes")]
    TooLarge { path: PathBuf },
    #[error("`{path}` is not a token: it must be printable ASCII on one line, without spaces")]
    NotAToken { path: PathBuf },
}

const MAX_TOKEN_BYTES: usize = 16 * 1024;

impl SecretHeaders {
    /// A name that comes twice keeps its last value.
    pub(crate) fn new(fields: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Self {
        let mark = |(name, mut value): (HeaderName, HeaderValue)| {
            value.set_sensitive(true);
            (name, value)
        };
        Self(fields.into_iter().map(mark).collect())
    }
}

impl ProxyUrl {
    pub(crate) fn new(url: Url) -> Self {
        Self(url)
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }
}

impl Credentials {
    /// `first` is the configured URL: that of the key set, or the issuer.
    pub(super) fn new(access: &FetchAccess, first: Option<&Url>) -> Self {
        let (token_file, headers) = (access.token_file.clone(), access.headers.clone());
        Self { token_file, headers, origin: first.map(Url::origin), reading: Arc::new(Semaphore::new(1)) }
    }

    /// True if there are credentials, and a request to this URL must not carry them.
    pub(super) fn are_withheld_from(&self, url: &Url) -> bool {
        (self.token_file.is_some() || !self.headers.0.is_empty()) && !self.belong_to(url)
    }

    /// The header fields of a request to this URL.
    pub(super) async fn fields(&self, url: &Url, deadline: Instant) -> Result<HeaderMap, TokenFileError> {
        if !self.belong_to(url) {
            return Ok(HeaderMap::new());
        }
        let mut fields = self.headers.0.clone();
        if let Some(path) = &self.token_file {
            fields.insert(AUTHORIZATION, self.token(path, deadline).await?);
        }
        Ok(fields)
    }

    fn belong_to(&self, url: &Url) -> bool {
        self.origin.as_ref() == Some(&url.origin())
    }

    async fn token(&self, path: &Path, deadline: Instant) -> Result<HeaderValue, TokenFileError> {
        let slow = || TokenFileError::Slow { path: path.to_owned() };
        let permit = Arc::clone(&self.reading).try_acquire_owned().map_err(|_| slow())?;
        let file = path.to_owned();
        let reading = spawn_blocking(move || {
            let _permit = permit;
            read_token(&file)
        });
        match timeout_at(deadline, reading).await {
            Ok(Ok(token)) => token,
            Ok(Err(_)) | Err(_) => Err(slow()),
        }
    }
}

/// Reads a token as the value of `Authorization`. The mode of the file is not checked: Kubernetes makes such files
/// readable for all processes of the container, and the gateway has no say in it.
pub(crate) fn read_token(path: &Path) -> Result<HeaderValue, TokenFileError> {
    let path = || path.to_owned();
    let bytes = read_regular(&path()).map_err(|source| TokenFileError::Io { path: path(), source })?;
    if bytes.len() > MAX_TOKEN_BYTES {
        return Err(TokenFileError::TooLarge { path: path() });
    }
    let token = bytes.trim_ascii();
    if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return Err(TokenFileError::NotAToken { path: path() });
    }
    let value = Zeroizing::new([b"Bearer ", token].concat());
    let mut value = HeaderValue::from_bytes(&value).map_err(|_| TokenFileError::NotAToken { path: path() })?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for SecretHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHeaders(..)")
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tempfile::tempdir;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[tokio::test]
    async fn credentials_go_to_their_own_origin_only() {
        let folder = tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "first\n").unwrap();
        let fields = [(HeaderName::from_static("x-key"), HeaderValue::from_static("k"))];
        let access = FetchAccess {
            token_file: Some(file.clone()),
            headers: SecretHeaders::new(fields),
            ..FetchAccess::default()
        };
        let credentials = Credentials::new(&access, Some(&url("https://a.example/realms/x")));
        let deadline = Instant::now() + Duration::from_secs(5);
        for other in ["https://b.example/", "https://a.example:8443/", "http://a.example/", "https://a.example.b/"] {
            assert!(credentials.are_withheld_from(&url(other)), "{other}");
            assert!(credentials.fields(&url(other), deadline).await.unwrap().is_empty(), "{other}");
        }
        for token in ["first", "second"] {
            fs::write(&file, format!("{token}\n")).unwrap();
            let fields = credentials.fields(&url("https://a.example/keys"), deadline).await.unwrap();
            assert_eq!(
                (&fields["x-key"], fields["authorization"].to_str().unwrap()),
                (&HeaderValue::from_static("k"), &*format!("Bearer {token}"))
            );
            assert!(!format!("{fields:?} {credentials:?}").contains(token), "{fields:?}");
        }
        assert!(!credentials.are_withheld_from(&url("https://a.example/keys")));
    }

    #[test]
    fn a_token_is_one_line_of_printable_ascii() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("token");
        let read = |content: &str| {
            fs::write(&path, content).unwrap();
            read_token(&path)
        };
        for good in ["abc", "abc\n", "  a.b-c_~+/=\r\n"] {
            assert_eq!(read(good).unwrap().as_bytes(), format!("Bearer {}", good.trim()).as_bytes());
        }
        for bad in ["", "\n", "a b", "a\nb", "a\u{7f}", "é", "a\0"] {
            assert!(matches!(read(bad), Err(TokenFileError::NotAToken { .. })), "{bad:?}");
        }
        assert!(read(&"a".repeat(MAX_TOKEN_BYTES)).is_ok());
        assert!(matches!(read(&"a".repeat(MAX_TOKEN_BYTES + 1)), Err(TokenFileError::TooLarge { .. })));
        assert!(matches!(read_token(folder.path()), Err(TokenFileError::Io { .. })));
    }
}
