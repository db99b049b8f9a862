//! Private keys of clients as people keep them in files: PEM as PKCS#8, SEC 1 or PKCS#1, or a private JWK.
//!
//! Gives a [`SigningKey`], whose algorithm follows from the key: an RSA key signs with RS256, unless its JWK says
//! otherwise.

use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use base64::Engine as _;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::BASE64URL;
use super::algorithm::Algorithm;
use super::signing::{Scheme, SigningKey, SigningKeyPair};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrivateKeyFault {
    #[error("it is neither PEM (PRIVATE KEY, EC PRIVATE KEY, RSA PRIVATE KEY) nor a private JWK")]
    Malformed,
    #[error("it holds a public key or a certificate: give the private key")]
    Public,
    #[error("it is encrypted; decrypt it, such as by `openssl pkey -in FILE`")]
    Encrypted,
    #[error("its key is not RSA, P-256, P-384, P-521 or Ed25519, or it is damaged")]
    KeyType,
}

/// The algorithm of a key that names none, one for each type of key.
const BY_TYPE: [Algorithm; 5] =
    [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256, Algorithm::Es384, Algorithm::Es512];

/// The key of a file.
pub(crate) fn private_key(file: &[u8]) -> Result<SigningKey, PrivateKeyFault> {
    let text = file.trim_ascii_start();
    if text.starts_with(b"{") {
        return from_jwk(text);
    }
    // `openssl ecparam` puts the parameters of the curve before the key.
    let pems = pem::parse_many(file).map_err(|_| PrivateKeyFault::Malformed)?;
    let pem = pems.into_iter().find(|pem| pem.tag() != "EC PARAMETERS").ok_or(PrivateKeyFault::Malformed)?;
    let is_encrypted = pem.tag() == "ENCRYPTED PRIVATE KEY" || pem.headers().get("Proc-Type").is_some();
    let tag = pem.tag().to_owned();
    let der = Zeroizing::new(pem.into_contents());
    match tag.as_str() {
        _ if is_encrypted => Err(PrivateKeyFault::Encrypted),
        "PRIVATE KEY" => first_of(|algorithm| SigningKey::from_pkcs8(algorithm, &der).ok()),
        "EC PRIVATE KEY" => first_of(|algorithm| match Scheme::of(algorithm) {
            Scheme::Ec(curve) => {
                signing(algorithm, SigningKeyPair::Ec(EcdsaKeyPair::from_private_key_der(curve, &der).ok()?))
            }
            Scheme::Rsa(_) | Scheme::Ed25519 => None,
        }),
        "RSA PRIVATE KEY" => rsa(Algorithm::Rs256, RsaKeyPair::from_der(&der).ok()),
        "PUBLIC KEY" | "CERTIFICATE" => Err(PrivateKeyFault::Public),
        _ => Err(PrivateKeyFault::Malformed),
    }
}

fn first_of(read: impl FnMut(Algorithm) -> Option<SigningKey>) -> Result<SigningKey, PrivateKeyFault> {
    BY_TYPE.into_iter().find_map(read).ok_or(PrivateKeyFault::KeyType)
}

fn signing(algorithm: Algorithm, pair: SigningKeyPair) -> Option<SigningKey> {
    SigningKey::of(algorithm, pair).ok()
}

fn rsa(algorithm: Algorithm, pair: Option<RsaKeyPair>) -> Result<SigningKey, PrivateKeyFault> {
    let Scheme::Rsa(encoding) = Scheme::of(algorithm) else { return Err(PrivateKeyFault::KeyType) };
    let key = pair.and_then(|pair| signing(algorithm, SigningKeyPair::Rsa(pair, encoding)));
    key.ok_or(PrivateKeyFault::KeyType)
}

/// RFC 7518 §6, RFC 8037 §2. Its members are secret and never shown.
#[derive(Deserialize, zeroize::ZeroizeOnDrop)]
struct PrivateJwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<String>,
    p: Option<String>,
    q: Option<String>,
    dp: Option<String>,
    dq: Option<String>,
    qi: Option<String>,
}

fn from_jwk(text: &[u8]) -> Result<SigningKey, PrivateKeyFault> {
    let jwk: PrivateJwk = serde_json::from_slice(text).map_err(|_| PrivateKeyFault::Malformed)?;
    if jwk.d.is_none() {
        return Err(PrivateKeyFault::Public);
    }
    let algorithm = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("EC", Some("P-256")) => Algorithm::Es256,
        ("EC", Some("P-384")) => Algorithm::Es384,
        ("EC", Some("P-521")) => Algorithm::Es512,
        ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
        ("RSA", _) => {
            jwk.alg.as_deref().map_or(Some(Algorithm::Rs256), Algorithm::from_name).ok_or(PrivateKeyFault::KeyType)?
        }
        _ => return Err(PrivateKeyFault::KeyType),
    };
    let key = pair_of(algorithm, &jwk).and_then(|pair| signing(algorithm, pair)).ok_or(PrivateKeyFault::KeyType)?;
    Ok(match &jwk.kid {
        Some(name) => key.named(name),
        None => key,
    })
}

fn pair_of(algorithm: Algorithm, jwk: &PrivateJwk) -> Option<SigningKeyPair> {
    let decode = |member: &Option<String>| Some(Zeroizing::new(BASE64URL.decode(member.as_deref()?).ok()?));
    let d = decode(&jwk.d)?;
    match Scheme::of(algorithm) {
        Scheme::Ec(curve) => {
            let point = [&[4][..], &decode(&jwk.x)?, &decode(&jwk.y)?].concat();
            EcdsaKeyPair::from_private_key_and_public_key(curve, &d, &point).ok().map(SigningKeyPair::Ec)
        }
        Scheme::Ed25519 => {
            Ed25519KeyPair::from_seed_and_public_key(&d, &decode(&jwk.x)?).ok().map(SigningKeyPair::Ed25519)
        }
        Scheme::Rsa(encoding) => {
            let (n, e) = (decode(&jwk.n)?, decode(&jwk.e)?);
            let (p, q, dp, dq, qi) =
                (decode(&jwk.p)?, decode(&jwk.q)?, decode(&jwk.dp)?, decode(&jwk.dq)?, decode(&jwk.qi)?);
            let components = KeyPairComponents {
                public_key: PublicKeyComponents { n: n.as_slice(), e: e.as_slice() },
                d: d.as_slice(),
                p: p.as_slice(),
                q: q.as_slice(),
                dP: dp.as_slice(),
                dQ: dq.as_slice(),
                qInv: qi.as_slice(),
            };
            RsaKeyPair::from_components(&components).ok().map(|pair| SigningKeyPair::Rsa(pair, encoding))
        }
    }
}

#[cfg(test)]
mod tests {
    use pem::Pem;

    use super::*;

    #[test]
    fn a_key_in_pkcs8_has_the_algorithm_of_its_type() {
        for algorithm in BY_TYPE {
            let (key, pkcs8) = SigningKey::generate(algorithm).unwrap();
            let file = pem::encode(&Pem::new("PRIVATE KEY", pkcs8.to_vec()));
            let read = private_key(file.as_bytes()).unwrap();
            assert_eq!((read.algorithm(), read.thumbprint()), (algorithm, key.thumbprint()));
        }
    }

    #[test]
    fn a_key_of_openssl_ecparam_is_read() {
        let file = "-----BEGIN EC PARAMETERS-----
BggqhkjOPQMBBw==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIArmkAfCx30i6ZAMlsiKRP+mpiboKiRhtbx3fUZp+mkQoAoGCCqGSM49
AwEHoUQDQgAEK3+0igtbjEj/la22oPlDYoZMmQ2mofhthOpASCHV5au+Cpz5iCwf
Uei5rQaaok1r49YoWqzw8zIc/KFKSNqGzQ==
-----END EC PRIVATE KEY-----
";
        let key = private_key(file.as_bytes()).unwrap();
        assert_eq!(key.algorithm(), Algorithm::Es256);
        assert_eq!(key.public_jwk()["x"], "K3-0igtbjEj_la22oPlDYoZMmQ2mofhthOpASCHV5as");
    }

    /// The key of RFC 8037 §A.1 and that of RFC 7517 §A.2.
    #[test]
    fn a_private_jwk_is_read() {
        let ed25519 = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
                          "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let key = private_key(ed25519.as_bytes()).unwrap();
        assert_eq!(
            (key.algorithm(), key.thumbprint()),
            (Algorithm::EdDsa, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")
        );
        let p256 = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                       "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
                       "d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE","use":"enc","kid":"1"}"#;
        let key = private_key(p256.as_bytes()).unwrap();
        assert_eq!((key.algorithm(), key.key_id()), (Algorithm::Es256, "1"));
    }

    #[test]
    fn a_private_jwk_of_rsa_is_read() {
        let rsa = concat!(
            r#"{"kty":"RSA","n":"wkHsSuzy9VZM9HbzLIwctB-dHuLi4iRf2TiiR5i2XMNAZMmGdAHpTPVcqG4FtZY6EkIoxY5M"#,
            r#"79H5FkPYAiqOjG4Hm1a2tT-qL9znCcJAQ0S87XLT1dKu2hkgKCwjxOMp6hv13nLOLxbGzy1O-RqAxRz2eYlPKM-AZm"#,
            r#"-AUo_uyyjg9luBdNWoWqj3dNx0j1XKBCRw8tYFrZ9W4yA_cTwaUM4rqINVISfiYs65hFGQGzH3RoguhgTv_siTHNXJ"#,
            r#"Uccri2Nrs-CF91-MTkFSDuhJnCXT2TFxvqDUj-5fqwt_ojEjW3UsPAQRDR8p6eFswpd-WsJw-PmIOzy-7O-4rwKDCw"#,
            r#"","e":"AQAB","d":"F7VQ__H8UwoF2V49HoY5KJilJfRd6Wi0FABP-fn-48JmtQZNdRIYpa5acSoAY2Gi08CkVjwg"#,
            r#"UrKnOlrsXZNRE32ISyKhqOxMuou03OGK00rr3fUCOpn8ghzH6m88rFZnMq3X657KYD_g4r8uYMOlzKjUwg-KjDoK-z"#,
            r#"WHjUwIwl2T513F0xsFkuYTiC5JI1BGRVzIXpb-ZpezElfphEwVbSYZFhlfqamft6XX8HB4XwLYxDx5tYVwEXbu2Z2V"#,
            r#"nF_vVR2Vx_riCBRJKIaPf4VdK_kuqFQSgcwfyyjLHrHdjcmG6vhp5srAuHqMnGHfEdh-SClxAGp6_eUElqagFykIZQ"#,
            r#"","p":"5O3ibfSAWhSi6HEX2BY-_Ov78EOZJBPWQuCE303RjCIm2GRHSjEmcUXU3C7b_4IPPU1mge6Gwh5vDJ9jfgB"#,
            r#"9qIB7RbhPfJIKNAIrNj-5KqyU6py1OJvrXk3onvruDPUTDFbhcp_38cZ9JekeXgklPKSFbmZ7S8uFBYjRydXlin0","#,
            r#""q":"2Tp17vhonZpay_hMuPieqfahVXsCJon0jZVnKYeHHRTjVDhs9Jy3gwchRvXogSPPiLKAp1vgg8iZ6U6XfnLLx"#,
            r#"QmQsf2oXmOUMnTGZZzPn_Dybd5piXV0xmA3pB96-j-vugZHXOGv_hQJ65WniK0jU2f-FL1-ZikEH4A2GxZWMic","d"#,
            r#"p":"YOgJ932Ob5NYuohVDZWtKCdEyJn0037KLhkYZeZtE6LJSsR4IQHZQg3LY0E6w1fs14hSIiI0TSvQ2kkGNqpChv"#,
            r#"eMNyEkFJlFVGqunBIxcc0IZJ_dXo8x_QOBuvqBll6Pp6OHX5wzutbI1yltP2UjrB4AlZEwFA-cyZD3LTcsKYk","dq"#,
            r#"":"zdiXHt-oiwhU2Aov8ewuthKu6UjKTejWpEAaZQE3qPg9P3bE0LudLn3YK90k-RMNO5UjUvQ-ecLjDnHaHwn7THj"#,
            r#"286PSI7erHHEJ_AovuXli0Xg8e_SgtsdAkrb-Gxu0kswWXc7Drjog-Gx1OJAQ9J2L6O10VKyzaoJdQyfUgGs","qi""#,
            r#":"wez7o7GaCT8SbS7RHgm0a3Z_lUBTFJD9-7g7pMXc59SOWFyxPd5xQTi_eKoYgxFWVI_ShaRzC75_sP6Cyxg40Lqu"#,
            r#"Hsug6SmOotpQ7aeOk0nnYcQwLUFCKwUwhx3R7ar03b-cG0_w2d0XLlUs1wm2iWedqsNhDXufQD3EdDrfSAM"}"#,
        );
        let key = private_key(rsa.as_bytes()).unwrap();
        assert_eq!(
            (key.algorithm(), key.thumbprint()),
            (Algorithm::Rs256, "gqGyPEr6hzcAa0S1ylo9_PDI8HqsBJNYYM7ixHxYLrY")
        );
        let pss = rsa.replacen('{', "{\"alg\":\"PS256\",", 1);
        assert_eq!(private_key(pss.as_bytes()).unwrap().algorithm(), Algorithm::Ps256);
    }

    #[test]
    fn other_files_are_refused_with_the_reason() {
        let pem = |tag: &str| pem::encode(&Pem::new(tag, vec![0x30, 0]));
        for (file, fault) in [
            ("".to_owned(), PrivateKeyFault::Malformed),
            ("{}".to_owned(), PrivateKeyFault::Malformed),
            (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned(), PrivateKeyFault::Public),
            (r#"{"kty":"oct","k":"AA","d":"AA"}"#.to_owned(), PrivateKeyFault::KeyType),
            (pem("CERTIFICATE"), PrivateKeyFault::Public),
            (pem("PUBLIC KEY"), PrivateKeyFault::Public),
            (pem("ENCRYPTED PRIVATE KEY"), PrivateKeyFault::Encrypted),
            (pem("PRIVATE KEY"), PrivateKeyFault::KeyType),
            (pem("EC PRIVATE KEY"), PrivateKeyFault::KeyType),
            (pem("RSA PRIVATE KEY"), PrivateKeyFault::KeyType),
            (pem("X509 CRL"), PrivateKeyFault::Malformed),
        ] {
            assert_eq!(private_key(file.as_bytes()).err(), Some(fault), "{file}");
        }
    }
}
