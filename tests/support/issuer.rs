//! An external issuer: keys of its own, a JWK Set over HTTP that can change, and tokens of any shape.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Upstream;
use super::upstream::listen;

/// A key with its name.
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) algorithm: &'static str,
    pair: Arc<Pair>,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// Serves metadata and a JWK Set on loopback.
pub(crate) struct Issuer {
    /// `iss`: its origin.
    pub(crate) issuer: String,
    server: Upstream,
    jwks: Arc<Mutex<Published>>,
}

/// The answer to a request for the JWK Set.
#[derive(Clone)]
pub(crate) struct Published {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

/// The answers of a faulty or malicious issuer: raw bytes over a real socket, valid HTTP or not.
#[derive(Clone, Copy)]
pub(crate) enum Lie {
    /// Accepts the connection and never sends a byte.
    Silence,
    /// A header every tenth of a second, without end.
    SlowHead,
    /// A body with one byte every tenth of a second.
    SlowBody,
    /// A chunked body without end, as fast as it is read.
    EndlessBody,
    /// Headers without end, as fast as they are read.
    EndlessHead,
    /// A body that is shorter than announced.
    Torn,
    /// Another protocol.
    NotHttp,
}

/// The address that gives this answer, and the number of bytes that were read of it so far.
pub(crate) async fn liar(lie: Lie) -> (SocketAddr, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let address = listen(move |mut stream| {
        let taken = Arc::clone(&count);
        async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let (first, then, pause) = lie.script();
            let mut next = first;
            while stream.write_all(&next).await.is_ok() {
                taken.fetch_add(next.len(), Ordering::Relaxed);
                if then.is_empty() {
                    break;
                }
                tokio::time::sleep(pause).await;
                next = then.clone();
            }
            if matches!(lie, Lie::Silence) {
                let _ = stream.read(&mut [0; 1]).await;
            }
        }
    })
    .await;
    (address, taken)
}

impl Lie {
    /// The first bytes, the bytes that are repeated, and the pause before each.
    fn script(self) -> (Vec<u8>, Vec<u8>, Duration) {
        let (first, then, pause) = match self {
            Self::Silence => ("", String::new(), 0),
            Self::SlowHead => ("HTTP/1.1 200 OK\r\n", "x-more: x\r\n".to_owned(), 100),
            Self::SlowBody => ("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{", " ".to_owned(), 100),
            Self::EndlessBody => {
                ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", format!("400\r\n{}\r\n", " ".repeat(1024)), 0)
            }
            Self::EndlessHead => ("HTTP/1.1 200 OK\r\n", format!("x-more: {}\r\n", "x".repeat(1024)), 0),
            Self::Torn => ("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"keys\":[", String::new(), 0),
            Self::NotHttp => ("SSH-2.0-OpenSSH_9.9\r\n", String::new(), 0),
        };
        (first.into(), then.into(), Duration::from_millis(pause))
    }
}

/// A reserved address without a listener: connections are refused.
pub(crate) struct Site {
    socket: Socket,
    pub(crate) address: SocketAddr,
}

impl Site {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self { address: socket.local_addr().unwrap().as_socket().unwrap(), socket }
    }

    /// From now on connections are accepted by the kernel, but not answered.
    pub(crate) fn open(self) -> TcpListener {
        self.socket.listen(1024).unwrap();
        self.socket.into()
    }
}

impl Issuer {
    pub(crate) async fn start(keys: &[&Key]) -> Self {
        Self::start_at(Site::new().open(), keys)
    }

    pub(crate) fn start_at(listener: TcpListener, keys: &[&Key]) -> Self {
        let jwks = Arc::new(Mutex::new(Published::keys(keys)));
        let shared = Arc::clone(&jwks);
        let server = Upstream::answering_at(listener, move |seen| {
            let origin = format!("http://{}", seen.header("host"));
            match seen.target.as_str() {
                "/jwks" => shared.lock().unwrap().clone().response(),
                "/.well-known/openid-configuration" => {
                    let metadata = json!({ "issuer": origin, "jwks_uri": format!("{origin}/jwks") });
                    Response::new(Full::from(metadata.to_string()))
                }
                _ => Response::builder().status(404).body(Full::default()).unwrap(),
            }
        });
        Self { issuer: format!("http://{}", server.address), server, jwks }
    }

    /// From now on this is the JWK Set.
    pub(crate) fn publish(&self, published: Published) {
        *self.jwks.lock().unwrap() = published;
    }

    /// The number of requests for the JWK Set.
    pub(crate) fn fetches(&self) -> usize {
        self.server.seen().iter().filter(|seen| seen.target == "/jwks").count()
    }

    /// Claims that are valid at a gateway that trusts this issuer for `https://api.example.com`.
    pub(crate) fn claims(&self) -> Value {
        let now = now();
        json!({
            "iss": self.issuer, "sub": "someone", "aud": "https://api.example.com", "azp": "their-app", "scope": "read:data",
            "iat": now, "exp": now + 600,
        })
    }
}

impl Published {
    pub(crate) fn keys(keys: &[&Key]) -> Self {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        Self::text(&json!({ "keys": keys }).to_string())
    }

    pub(crate) fn text(body: &str) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.to_owned().into() }
    }

    pub(crate) fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response.body(Full::new(self.body)).unwrap()
    }
}

impl Key {
    pub(crate) fn new(id: &str, algorithm: &'static str) -> Self {
        let pair = match algorithm {
            "RS256" | "PS256" => {
                let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
                Pair::Rsa(RsaKeyPair::from_pkcs8(private.as_der().unwrap().as_ref()).unwrap())
            }
            "ES256" => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            "ES384" => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()),
            "ES512" => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap()),
            "EdDSA" => {
                let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
                Pair::Ed(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
            }
            other => panic!("no keys for {other}"),
        };
        Self { id: id.to_owned(), algorithm, pair: Arc::new(pair) }
    }

    /// One key for all tests, because generating an RSA key is slow.
    pub(crate) fn rsa() -> &'static Self {
        static RSA: OnceLock<Key> = OnceLock::new();
        RSA.get_or_init(|| Self::new("rsa", "RS256"))
    }

    /// The same key with another id, for another algorithm.
    pub(crate) fn alias(&self, id: &str, algorithm: &'static str) -> Self {
        Self { id: id.to_owned(), algorithm, pair: Arc::clone(&self.pair) }
    }

    /// PKCS#8 in PEM, as the gateway keeps its own keys; for elliptic curves.
    pub(crate) fn pem(&self) -> String {
        let Pair::Ec(pair) = &*self.pair else { panic!("not kept") };
        pem::encode(&pem::Pem::new("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()))
    }

    pub(crate) fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &*self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                let (n, e) = (
                    public.modulus().big_endian_without_leading_zero(),
                    public.exponent().big_endian_without_leading_zero(),
                );
                json!({ "kty": "RSA", "n": encode(n), "e": encode(e) })
            }
            Pair::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
                let curve = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
            }
            Pair::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref()) }),
        };
        jwk["kid"] = json!(self.id);
        jwk["alg"] = json!(self.algorithm);
        jwk
    }

    /// A valid token: `typ: JWT`, this key's id and algorithm.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({ "typ": "JWT", "alg": self.algorithm, "kid": self.id }), claims)
    }

    /// A token with any header.
    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A signed token with any text as header and claims.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.signature(input.as_bytes());
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &*self.pair {
            Pair::Rsa(pair) => {
                let encoding: &dyn RsaEncoding = match self.algorithm {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "tests make tokens for now")]
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
