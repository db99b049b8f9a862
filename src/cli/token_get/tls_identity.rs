//! The certificate by which a client authenticates itself, read from its files.

use std::path::Path;
use std::process::ExitCode;

use zeroize::Zeroizing;

use super::super::terminal::error_text;
use super::read;
use crate::jose::private_key_file::private_key;

/// The certificate of a TLS connection, with its key.
pub(super) struct TlsIdentity {
    /// Both in PEM.
    pub(super) pem: Zeroizing<Vec<u8>>,
    /// The files, for errors.
    pub(super) files: String,
}

impl TlsIdentity {
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, ExitCode> {
        let mut whole = read(certificate)?;
        if !pem::parse_many(&whole).is_ok_and(|pems| pems.iter().any(|pem| pem.tag() == "CERTIFICATE")) {
            return Err(error_text(format_args!(
                "cannot use {}: it holds no certificate in PEM",
                certificate.display()
            )));
        }
        let of_key = Zeroizing::new(read(key)?);
        if let Err(fault) = private_key(&of_key) {
            return Err(error_text(format_args!("cannot use {}: {fault}", key.display())));
        }
        whole.push(b'\n');
        whole.extend_from_slice(&of_key);
        let files = format!("{} with {}", certificate.display(), key.display());
        Ok(Self { pem: Zeroizing::new(whole), files })
    }
}
