//! Our own certificate authority: signs each replica's leaf.

use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use thiserror::Error;

use super::{Lifetimes, Pair, PairError, not_after, not_before};

/// A certificate authority and its key.
#[derive(Debug)]
pub struct Authority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// An authority could not be made, read or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The key is not PEM, or of no kind that can sign.
    #[error("the key cannot sign")]
    Key(#[source] rcgen::Error),
    /// The certificate is not PEM.
    #[error("the certificate is not PEM")]
    Certificate(#[source] pem::Error),
    /// A key or certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// The certificate and its key do not make a pair.
    #[error(transparent)]
    Pair(#[from] PairError),
}

// === impl Authority ===

impl Authority {
    /// A new authority with a key of its own.
    pub fn generate(now: SystemTime, lifetimes: &Lifetimes) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "portcullis webhook authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - lifetimes.backdated).into();
        params.not_after = (now + lifetimes.authority).into();
        let certificate = params.self_signed(&key)?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// The authority that [`Self::certificate_pem`] and [`Self::key_pem`] were taken from.
    pub(super) fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key_pem).map_err(AuthorityError::Key)?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(AuthorityError::Certificate)?;
        // Served by nobody; this is the check that the two belong together.
        Pair::from_der(vec![certificate.clone()], private_key(&key))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self {
            not_before: not_before(&certificate)?,
            not_after: not_after(&certificate)?,
            certificate,
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            issuer,
        })
    }

    /// What a client that is to trust this authority's certificates must be given.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub(super) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// When the authority is over, and all that it signed.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Signs a new key for these DNS names and IP addresses. The leaf is valid since the authority is, so that nobody
    /// whose clock is behind ours has to wait for it, and never outlives it.
    pub fn sign(
        &self,
        names: &[String],
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Pair, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "portcullis webhook");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = self.not_before.into();
        params.not_after = (now + lifetimes.leaf).min(self.not_after).into();
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(Pair::from_der(
            vec![leaf.into(), self.certificate.clone()],
            private_key(&key),
        )?)
    }
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate
    }
}

fn private_key(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(key.serialize_der().into())
}
