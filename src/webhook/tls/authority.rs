//! Our own certificate authority: made once, kept in one Secret, read by every replica.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::{Pair, PairError};
use crate::facts::access::CA_SECRET;

/// How long the authority lives. Ten years, as Gatekeeper's: a leaf can be signed anew by anyone who runs, but
/// a new authority must reach both webhook configurations before it is of use.
pub(super) const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// How long a replica's own certificate lives: a week, as cert-manager's webhook has it. It is held in memory
/// only, so a short life costs nothing and makes a leaked one worth little.
pub(super) const LEAF_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How far before now a certificate begins, for API servers whose clocks are behind ours.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// A certificate authority and its key.
#[derive(Debug)]
pub struct Authority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
}

/// The authority could not be read, made or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The API server did not do as asked.
    #[error("Secret {CA_SECRET} cannot be {verb}")]
    Api {
        /// read, created or replaced.
        verb: &'static str,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// The Secret holds something else.
    #[error(
        "Secret {CA_SECRET} holds no usable authority in {field}; delete it to have a new one made"
    )]
    Unusable {
        /// The key of its data.
        field: &'static str,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A key or certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// What was made cannot be served.
    #[error("the certificate that was made cannot be served")]
    Serve(#[from] PairError),
}

/// Where the authority is kept.
#[derive(Clone, Debug)]
pub struct SecretStore(Api<Secret>);

// === impl Authority ===

impl Authority {
    /// A new authority with a key of its own.
    pub fn generate(now: SystemTime) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "portcullis webhook authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + AUTHORITY_LIFETIME).into();
        let certificate = params.self_signed(&key)?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// The authority that [`Self::certificate_pem`] and the key's PEM were taken from.
    fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let unusable = |field, source: Box<dyn std::error::Error + Send + Sync>| {
            AuthorityError::Unusable { field, source }
        };
        let key = KeyPair::from_pem(key_pem).map_err(|error| unusable(KEY, error.into()))?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| unusable(CERTIFICATE, error.into()))?;
        // Served by nobody; this is the check that the two belong together.
        let pair = Pair::from_der(vec![certificate.clone()], private_key(&key))
            .map_err(|error| unusable(CERTIFICATE, error.into()))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| unusable(CERTIFICATE, error.into()))?;
        Ok(Self {
            certificate,
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            issuer,
            not_after: pair.not_after(),
        })
    }

    /// What a client that is to trust this authority's certificates must be given.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// When the authority is over, and all that it signed.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Signs a new key for these DNS names and IP addresses. It never outlives the authority.
    pub fn sign(&self, names: &[String], now: SystemTime) -> Result<Pair, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "portcullis webhook");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + LEAF_LIFETIME).min(self.not_after).into();
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(Pair::from_der(
            vec![leaf.into(), self.certificate.clone()],
            private_key(&key),
        )?)
    }

    fn from_secret(secret: &Secret) -> Result<Self, AuthorityError> {
        let field = |field| {
            let value = secret.data.as_ref().and_then(|data| data.get(field));
            let text = value.map(|bytes| std::str::from_utf8(&bytes.0));
            match text {
                Some(Ok(text)) => Ok(text),
                Some(Err(error)) => Err(AuthorityError::Unusable {
                    field,
                    source: error.into(),
                }),
                None => Err(AuthorityError::Unusable {
                    field,
                    source: "it is absent".into(),
                }),
            }
        };
        Self::from_pem(field(CERTIFICATE)?, field(KEY)?)
    }

    fn to_data(&self) -> BTreeMap<String, ByteString> {
        let entry =
            |field: &str, pem: &str| (field.to_owned(), ByteString(pem.as_bytes().to_vec()));
        BTreeMap::from([
            entry(CERTIFICATE, &self.certificate_pem),
            entry(KEY, &self.key_pem),
        ])
    }
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate
    }
}

// === impl SecretStore ===

impl SecretStore {
    /// The Secret `portcullis-ca` of this namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }

    /// The authority that all replicas share: the Secret's, or, when there is none or it is over, `ours` or a
    /// new one. Of replicas that start together, one creates the Secret; the others get 409 and read it.
    pub async fn obtain(
        &self,
        ours: Option<&Authority>,
        now: SystemTime,
    ) -> Result<Authority, AuthorityError> {
        loop {
            let Some(secret) = self
                .0
                .get_opt(CA_SECRET)
                .await
                .map_err(|error| api("read", error))?
            else {
                // Deleted while we run: putting back the one that clients trust is harmless.
                let authority = match ours.filter(|ours| ours.not_after > now) {
                    Some(ours) => Authority::from_pem(&ours.certificate_pem, &ours.key_pem)?,
                    None => Authority::generate(now)?,
                };
                if self.created(&authority).await? {
                    return Ok(authority);
                }
                continue;
            };
            let authority = Authority::from_secret(&secret)?;
            if authority.not_after > now {
                return Ok(authority);
            }
            // Over, so nobody's handshake succeeds by it any more: nothing is lost by replacing it at once.
            let authority = Authority::generate(now)?;
            if self.replaced(secret, &authority).await? {
                return Ok(authority);
            }
        }
    }

    /// False when another replica was first.
    async fn created(&self, authority: &Authority) -> Result<bool, AuthorityError> {
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(CA_SECRET.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(authority.to_data()),
            ..Secret::default()
        };
        won(
            "created",
            self.0.create(&PostParams::default(), &secret).await,
        )
    }

    /// False when another replica was first: the resourceVersion in `secret` is no longer the last.
    async fn replaced(
        &self,
        secret: Secret,
        authority: &Authority,
    ) -> Result<bool, AuthorityError> {
        let secret = Secret {
            data: Some(authority.to_data()),
            ..secret
        };
        won(
            "replaced",
            self.0
                .replace(CA_SECRET, &PostParams::default(), &secret)
                .await,
        )
    }
}

fn won(verb: &'static str, written: Result<Secret, kube::Error>) -> Result<bool, AuthorityError> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(api(verb, error)),
    }
}

fn api(verb: &'static str, error: kube::Error) -> AuthorityError {
    AuthorityError::Api {
        verb,
        source: Box::new(error),
    }
}

fn private_key(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(key.serialize_der().into())
}
