//! Self-signed certificates, for development and for verifiers that require `x5c` in a JWK. Only this module uses
//! `rcgen`.

use std::net::IpAddr;

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use super::algorithm::Algorithm;

/// A certificate with its private key, both PEM.
pub(crate) struct CertificateAndKey {
    pub(crate) certificate: String,
    pub(crate) key: Zeroizing<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot make a self-signed certificate")]
pub(crate) struct CertificateFault(#[from] rcgen::Error);

/// Generates an ECDSA key and a certificate for these names and addresses.
pub(crate) fn pair(
    common_name: &str,
    names: &[&str],
    addresses: &[IpAddr],
) -> Result<CertificateAndKey, CertificateFault> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    params.distinguished_name.push(DnType::CommonName, common_name);
    let certificate = params.self_signed(&key)?;
    Ok(CertificateAndKey { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()) })
}

/// A certificate for an existing key, in DER.
pub(crate) fn certify(pkcs8: &[u8], algorithm: Algorithm, common_name: &str) -> Result<Vec<u8>, CertificateFault> {
    let signature = match algorithm {
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512 => &rcgen::PKCS_RSA_SHA256,
        Algorithm::Es256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        Algorithm::Es384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        Algorithm::Es512 => &rcgen::PKCS_ECDSA_P521_SHA512,
        Algorithm::EdDsa => &rcgen::PKCS_ED25519,
    };
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), signature)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params.self_signed(&key)?.der().to_vec())
}

/// A certificate of a client, in DER, that ends at the begin of this year. Its subject has an organization and a common
/// name, if they are not empty.
#[cfg(test)]
pub(crate) fn client_certificate(subject: [&str; 2], dns_names: &[&str], uris: &[&str], end: i32) -> Vec<u8> {
    let mut params =
        CertificateParams::new(dns_names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in [DnType::OrganizationName, DnType::CommonName].into_iter().zip(subject) {
        if !value.is_empty() {
            params.distinguished_name.push(kind, value);
        }
    }
    params.not_after = rcgen::date_time_ymd(end, 1, 1);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::signing::SigningKey;
    use super::*;

    #[test]
    fn keys_of_every_algorithm_can_be_certified() {
        for algorithm in Algorithm::ALL {
            let (_, pkcs8) = SigningKey::generate(algorithm).unwrap();
            assert!(certify(&pkcs8, algorithm, "test").is_ok(), "{algorithm}");
        }
    }
}
